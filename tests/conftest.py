"""Where the published data lie, for tests marked `real_data`; and Ctrl-C, for those that are interrupted."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def published() -> Path:
    """Folder of the published data sets and reference posteriors; skips where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"the published data sets are not in {DATA}; they are not shipped with the package")
    return DATA


@pytest.fixture
def few_steps() -> Iterator[None]:
    """As `factory.few_steps`, whose import takes seconds."""
    import factory

    with factory.few_steps():
        yield


# A shell's background job is started with Ctrl-C ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

"""Where the published data lie, for tests marked `real_data`; and Ctrl-C, for those that are interrupted."""

import signal
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
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks make 40 steps in their training instead of 500 to 4 000: for what is true of poor ones too."""
    for name in ("factored._FEWEST_STEPS", "factored._MOST_STEPS", "mixture._FEWEST_STEPS", "mixture._MOST_STEPS"):
        monkeypatch.setattr(f"hddm_sbi.training.{name}", 40)


# A shell's background job is started with Ctrl-C ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

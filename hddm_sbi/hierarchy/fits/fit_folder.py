"""A folder that keeps one fit: its chains as they are sampled, from which it goes on, and its posterior."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hddm_sbi.errors import FitFileWarning, InputError
from hddm_sbi.hierarchy.fits.posterior import check_seals
from hddm_sbi.hierarchy.fits.record import FitRecord, Sampling, versions
from hddm_sbi.inference import inference_data
from hddm_sbi.types import Array

_RECIPE, _POSTERIOR, _LOCK = "recipe.json", "posterior.nc", "lock"


@dataclass(frozen=True)
class FitFolder:
    """The folder of one fit.

    recipe.json: what decides the chains. chain-0.draws, ...: a row of numbers (float64) for every step of it, on the
    unconstrained scale, steps of tuning first. chain-0.evaluations, ...: see `ChainFiles`. posterior.nc: the end.
    """

    path: Path

    def finished(self, settings: Sampling) -> Any:
        """The posterior of a fit that ended as this one would, or None."""
        file = self.path / _POSTERIOR
        if not file.exists():
            return None
        try:
            posterior = inference_data.read(file)
            changed = check_seals(posterior)
            if changed:
                raise InputError(f"{changed}.")
        except InputError as reason:
            self._aside(file, str(reason))
            return None
        record = FitRecord.read(inference_data.dataset(posterior).attrs)
        asked = all(getattr(record, name) == getattr(settings, name) for name in ("draws", "least_draws", "ess"))
        return posterior if asked and not record.stopped else None

    def keep(self, posterior: Any) -> None:
        """Write the posterior. Raises OSError where there is no room."""
        inference_data.write(posterior, self.path / _POSTERIOR)

    def check(self, recipe: Mapping[str, Any]) -> None:
        """Write the recipe. Raises InputError where the folder holds another fit.

        Evaluations by other versions of the libraries are not used.
        """
        self._remove("*.part")  # of a process that was killed while it wrote
        libraries = versions()
        file, written = self.path / _RECIPE, {**recipe, "versions": libraries}
        known = _read_recipe(self.path)
        if known is None:
            if file.exists():
                self._aside(file, "it is no JSON")
            self._remove("chain-*")
        else:
            made_with, ours = known.pop("versions", None), json.loads(json.dumps(recipe))
            other = [name for name in {**known, **ours} if known.get(name) != ours.get(name)]
            if other:
                raise InputError(
                    f"{str(self.path)!r} holds another fit (of another {', '.join(other)}); choose another folder or "
                    "remove it."
                )
            if made_with != libraries:
                self._remove("chain-*")
        inference_data.write_whole(json.dumps(written, indent=1).encode(), file)

    def _remove(self, files: str) -> None:
        for file in self.path.glob(files):
            file.unlink()

    def _aside(self, file: Path, reason: str) -> None:
        damaged = file.with_name(f"{file.name}.damaged")
        file.replace(damaged)
        warnings.warn(
            f"{str(file)!r} is moved to {damaged.name} and made again: {reason}", FitFileWarning, stacklevel=6
        )


def known_seed(path: str | Path) -> int | None:
    """The seed of the fit that lies in a folder, if there is one."""
    seed = (_read_recipe(Path(path)) or {}).get("seed")
    return seed if isinstance(seed, int) else None


def kept_chains(path: Path, size: int, model: str) -> tuple[Sampling, Array]:
    """How the chains in a folder are sampled, and their draws so far (chains, draws, size), unconstrained.

    Raises InputError where the folder holds none of this model, by its fingerprint, or all chains are still tuning.
    """
    recipe = _read_recipe(path)
    if recipe is None or recipe.get("model") != model:
        raise InputError(f"{str(path)!r} holds no chains of this model; give the folder of model.fit(folder=...).")
    steps = [np.fromfile(file) for file in sorted(path.glob("chain-*.draws"))]
    after = [x[: len(x) // size * size].reshape(-1, size)[recipe["tune"] :] for x in steps]
    chains = [x for x in after if len(x)]
    if not chains:
        raise InputError(f"the chains in {str(path)!r} have no draws yet: they are still tuning.")
    shortest = min(map(len, chains))
    how = {name: recipe[name] for name in ("tune", "chains", "seed", "method", "quick")}
    how["target_accept"] = recipe.get("target_accept", 0.0)
    return Sampling(draws=shortest, **how), np.stack([x[:shortest] for x in chains])


def _read_recipe(path: Path) -> dict[str, Any] | None:
    try:
        known = json.loads((path / _RECIPE).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return known if isinstance(known, dict) else None


@contextmanager
def fit_folder(path: Path, recipe: Mapping[str, Any]) -> Iterator[FitFolder]:
    """The folder of a fit with this recipe, created if it is missing, and no other process's meanwhile.

    Raises InputError where it cannot be written, another process works in it, or it holds another fit.
    """
    folder = FitFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as reason:
        raise InputError(f"the folder {str(path)!r} cannot be written ({reason}); choose another folder.") from reason
    try:
        _lock(lock, path)
        try:
            folder.check(recipe)
        except OSError as reason:
            raise InputError(
                f"the folder {str(path)!r} cannot be written ({reason}); choose another folder."
            ) from reason
        yield folder
    finally:
        os.close(lock)


def _lock(descriptor: int, path: Path) -> None:
    with suppress(ImportError):
        import fcntl  # not on Windows, where nobody is warned

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is fitting in {str(path)!r}; wait for it, or choose another folder."
            ) from None

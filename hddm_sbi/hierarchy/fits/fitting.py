"""From a model to its posterior: sampled until it is enough, kept as it goes, not lost whatever fails afterwards."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

import xarray as xr

from hddm_sbi.data import Trials
from hddm_sbi.errors import FitFileWarning
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning, high_rhat, second_modes
from hddm_sbi.hierarchy.fits.fit_folder import FitFolder, kept_chains
from hddm_sbi.hierarchy.fits.posterior import PosteriorWriter, variables
from hddm_sbi.hierarchy.fits.record import FitRecord, Sampling
from hddm_sbi.hierarchy.pilot.centring import acceptance
from hddm_sbi.hierarchy.pilot.empirical_bayes import SecondMode
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.inference import FIRST_LOOK, OUT_OF_TIME, Draws, FlatDensity, Whitening, inference_data, sample
from hddm_sbi.types import Array


@dataclass(frozen=True)
class Goal:
    """Until when to sample: Rhat of every number is at most 1.01; or, where effective draws in the bulk and in the
    tails are asked for, every population quantity has so many of them, and such a Rhat."""

    ess: int

    def missing(self, drawn: xr.Dataset) -> str:
        """What the draws lack, in words, or ""."""
        name, ess = inference_data.worst_ess(drawn) if self.ess else ("", 0.0)
        return f"{name} has {ess:.0f} effective draws (bulk or tail)" if ess < self.ess else high_rhat(drawn)

    def reached(self, hierarchy: Hierarchy, density: FlatDensity, x: Array) -> bool:
        """Whether unconstrained draws (chains, draws, n) of a model suffice."""
        named = variables(hierarchy, density.constrain(x))
        drawn = {
            name: (("chain", "draw", *(f"{name}_{axis}" for axis in range(named[name].ndim - 2))), named[name])
            for name in (hierarchy.population_names if self.ess else named)
        }
        return not drawn or not self.missing(xr.Dataset(drawn))


@dataclass(frozen=True)
class Fitting:
    """A model as it is sampled; facts: what its record says of it."""

    hierarchy: Hierarchy
    trials: Trials
    density: FlatDensity
    whitening: Whitening
    second_modes: Sequence[SecondMode]
    facts: Mapping[str, Any]

    def run(
        self, settings: Sampling, seconds: float, folder: FitFolder | None, *, progress: bool, log_likelihood: bool
    ) -> Any:
        """The posterior, which `HierarchicalModel.fit` describes. seconds: that are left for sampling."""
        posterior = None if folder is None else folder.finished(settings)
        if posterior is None:
            drawn = self._sample(settings, seconds, folder, progress)
            posterior = self._written(drawn, settings)
            notes = [f"its chains could not be kept ({drawn.not_kept})"] if drawn.not_kept else []
            try:
                if folder is not None:
                    folder.keep(posterior)
            except OSError as reason:
                notes.append(f"the posterior could not be written there ({reason})")
            if folder is not None and notes:
                message = f"the folder {str(folder.path)!r} is incomplete: {'; '.join(notes)}. All draws are returned"
                self._warn(posterior, message, FitFileWarning)
        for problem in self._problems(posterior):
            self._warn(posterior, problem, ConvergenceWarning)
        return self._with_log_likelihood(posterior) if log_likelihood else posterior

    def so_far(self, folder: Path, fingerprint: str) -> Any:
        """The draws in a folder whose fit has not ended, which `HierarchicalModel.kept_draws` describes."""
        settings, x = kept_chains(folder, self.density.size, fingerprint)
        return self._written(Draws(x, stopped="read from the folder of a fit that has not ended"), settings)

    def _sample(self, settings: Sampling, seconds: float, folder: FitFolder | None, progress: bool) -> Draws:
        open_ended = settings.ess or settings.least_draws
        return sample(
            self.density,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            seed=settings.seed,
            method=settings.method,
            progress=progress,
            whitening=self.whitening,
            enough=partial(self._enough, Goal(settings.ess)) if open_ended else None,
            first_look=settings.least_draws or FIRST_LOOK,
            seconds=seconds,
            folder=None if folder is None else folder.path,
            target_accept=settings.target_accept or acceptance(self.hierarchy),
        )

    def _enough(self, goal: Goal, x: Array) -> bool:
        """Whether unconstrained draws suffice; of those that cannot be checked, a warning says so afterwards."""
        try:
            return goal.reached(self.hierarchy, self.density, x)
        except Exception:
            return True

    def _written(self, drawn: Draws, settings: Sampling) -> Any:
        """The draws with names and all that made them; where that fails, the draws with a warning."""
        try:
            record = FitRecord(
                **self.facts,
                **asdict(settings),
                density=self.density.path,
                stopped=drawn.stopped,
                interrupted=drawn.stopped not in ("", OUT_OF_TIME),
                sampling_seconds=drawn.seconds,
            )
            return self._writer.write(self.density.constrain(drawn.x), drawn.stats, record.attributes())
        except KeyboardInterrupt:
            # To name the draws takes a moment, to make them took longer.
            return self._written(drawn, settings)
        except Exception as failure:
            plain = inference_data.build({"posterior": {"unconstrained": drawn.x}}, {}, {}, {"stopped": "incomplete"})
            message = (
                f"the posterior could not be named ({type(failure).__name__}: {failure}), a fault of hddm_sbi; "
                f"the draws are returned on the unconstrained scale, sites in the order {', '.join(self.density.names)}"
            )
            self._warn(plain, message, FitFileWarning)
            return plain

    @property
    def _writer(self) -> PosteriorWriter:
        return PosteriorWriter(self.hierarchy, self.trials)

    def _problems(self, posterior: Any) -> list[str]:
        """What stands against trusting the posterior, and what is missing of what was asked for."""
        try:
            record = FitRecord.read(inference_data.dataset(posterior).attrs)
            modes = () if record.approximate else self.second_modes
            found = list(second_modes(modes, inference_data.dataset(posterior), self.trials.values[:, 0]))
            found += self._writer.problems(posterior, record)
            population = inference_data.dataset(posterior)[self.hierarchy.population_names]
            missing = Goal(record.ess).missing(population) if record.ess else ""
        except (Exception, KeyboardInterrupt) as failure:
            return [f"the draws could not be checked: {str(failure) or type(failure).__name__}"]
        if missing:
            limits = f"draws={record.draws}" + (f" or minutes={record.minutes:g}" if record.minutes else "")
            found.append(
                f"ess={record.ess} was not reached: {missing} after {population.sizes['draw']} draws of each of "
                f"{population.sizes['chain']} chains; raise {limits}"
            )
        return found

    def _with_log_likelihood(self, posterior: Any) -> Any:
        try:
            return self._writer.with_log_likelihood(posterior, inference_data.dataset(posterior))
        except (Exception, KeyboardInterrupt) as failure:
            message = (
                f"the log likelihood could not be added ({str(failure) or type(failure).__name__}); the posterior is "
                "returned without it: model.with_log_likelihood(posterior) adds it"
            )
            self._warn(posterior, message, FitFileWarning)
            return posterior

    def _warn(self, posterior: Any, message: str, category: type[Warning]) -> None:
        """Warn; where warnings are errors, the draws are in a file that the error names."""
        try:
            warnings.warn(message, category, stacklevel=4)
        except Warning as raised:
            raised.add_note(rescued(posterior))
            raise


def rescued(posterior: Any) -> str:
    """Write a posterior to a temporary folder, and say where it is."""
    try:
        file = Path(tempfile.mkdtemp(prefix="hddm_sbi-")) / "fit.nc"
        inference_data.write(posterior, file)
    except Exception as failure:
        return f"The draws could not be written either ({failure})."
    return f"The draws are in {file}."


def seconds_left(minutes: float, elapsed: float) -> float:
    """Seconds for sampling of a budget in minutes, 0 for none, of which some have passed."""
    return max(60 * minutes - elapsed, 0.0) if minutes else inf

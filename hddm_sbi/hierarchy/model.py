"""The public model: a table and formulas in, a posterior out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pyro.distributions import TorchDistribution
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from hddm_sbi.data.design import find_cells
from hddm_sbi.data.formula import build_designs, columns_used, parse_formulas
from hddm_sbi.data.trials import Trials, check_codes, check_outcomes, check_trials
from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.diagnostics import warn, warn_approximate, warn_at_edge, warn_quick, warn_stopped
from hddm_sbi.hierarchy.pilot.empirical_bayes import pilot_fit
from hddm_sbi.hierarchy.pilot.pooled import pooled_fit
from hddm_sbi.hierarchy.pilot.start import choose_centring, start_values
from hddm_sbi.hierarchy.pilot.whitening import whitening
from hddm_sbi.hierarchy.posterior import coordinates, log_likelihood, provenance, variables
from hddm_sbi.hierarchy.predictor import build_predictor
from hddm_sbi.hierarchy.priors import Priors, describe, in_double, parameter_priors, user_priors
from hddm_sbi.hierarchy.pyro_model import Hierarchy
from hddm_sbi.inference import inference_data
from hddm_sbi.inference.coordinates import Whitening
from hddm_sbi.inference.density import FlatDensity, flatten
from hddm_sbi.inference.sampling import METHODS, Draws, Method, sample
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.likelihoods.likelihood import LAPSE_SECONDS, Likelihood
from hddm_sbi.simulation.simulator import Simulator
from hddm_sbi.training.train import train_likelihood
from hddm_sbi.types import Array, Index

_DEFAULT_MODEL = "ddm"
#: chains, and steps of each, of a first look.
_QUICK_CHAINS, _QUICK_TUNE, _QUICK_DRAWS = 2, 200, 300
#: posterior draws, evenly spaced, that are checked for pressing against the box.
_EDGE_DRAWS = 200
#: probability of a lapse, where a model of rt and response is told nothing else.
_LAPSE = 0.05
#: cached properties that belong to one table and one process.
_OF_THE_DATA = ("density", "whitening")


class HierarchicalModel:
    """A hierarchical model of a trial table: of response times and choices, or of any outcomes of a simulator.

    Main arguments
    formulas: "v ~ condition + (1|subject)", a list of such strings, or a dict parameter -> right-hand side or number.
        Parameters that are not mentioned get `~ 1`; `z = 0.5` holds one at a number.
    data: one row per trial, with columns `rt` (seconds) and `response`, or the simulator's own outcomes, and every
        predictor.
    simulator: name of the model, or a Simulator; default: that of the likelihood, or "ddm".
    likelihood: "neural", "exact", the path of a trained likelihood, or a Likelihood. "neural" trains that of a
        Simulator of your own on the spot, with default settings: better train it once, by `hs.train_likelihood`.

    Other arguments
    priors: None (weakly informative), "hddm" (from the literature), or a dict coefficient name -> Pyro distribution.
    lapse: probability that a trial is a lapse, 0 for none, or its prior; default 0.05, and 0 for outcomes other than rt
        and response, which know no lapses. lapse_seconds: lapses are uniform over the responses and over this many
        seconds (or up to the longest rt). HDDM's outlier density 0.1 is 5 seconds.
    upper: which response value is the upper bound, where responses are not coded +1 and -1.
    centered: "auto" chooses per group term by how much data its groups have; True, False, or a dict by term name
        (`v_1|subject`) forces it. The posterior is the same, the speed is not.
    rt, response: names of those columns of a decision model.

    >>> import hddm_sbi as hs
    >>> data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=100, seed=1)
    >>> hs.HierarchicalModel("v ~ 1", data, likelihood="exact")
    HierarchicalModel(ddm, exact likelihood, 100 trials in 1 cell: v ~ 1, a ~ 1, z ~ 1, t0 ~ 1)
    """

    def __init__(
        self,
        formulas: str | Sequence[str] | Mapping[str, str | float],
        data: pd.DataFrame,
        simulator: str | Simulator | None = None,
        likelihood: str | Path | Likelihood = "neural",
        priors: Priors = None,
        lapse: float | TorchDistribution | None = None,
        *,
        lapse_seconds: float = LAPSE_SECONDS,
        upper: object = None,
        centered: Literal["auto"] | bool | Mapping[str, bool] = "auto",
        rt: str = "rt",
        response: str = "response",
    ) -> None:
        self.simulator, self.likelihood = _model_of(simulator, likelihood)
        given = [p for p in self.simulator.parameters if p.from_data]
        estimated = [p.name for p in self.simulator.parameters if not p.from_data]
        self.formulas = parse_formulas(formulas, estimated)
        predictors = list(dict.fromkeys([*columns_used(self.formulas), *(p.name for p in given)]))
        self._predictors = predictors
        names = (rt, response) if self.simulator.is_decision_model else [o.name for o in self.simulator.outcomes]
        self._columns = tuple(names)
        outcomes = [column for column in names if column in predictors]
        if outcomes:
            raise InputError(f"{outcomes[0]!r} is what the model explains; it cannot be a predictor in a formula.")
        if self.simulator.is_decision_model:
            self.trials = check_trials(data, self.simulator.choices, predictors, rt=rt, response=response, upper=upper)
        else:
            self.trials = check_outcomes(data, self.simulator.outcomes, predictors)
        self.lapse = _checked_lapse(lapse, self.simulator)
        if not lapse_seconds > 0:
            raise InputError(f"lapse_seconds must be positive; got {lapse_seconds!r}.")
        self._lapse_seconds = float(lapse_seconds)
        self.priors = priors
        self._given = {p.name: check_codes(self.trials, p.name, (p.low, p.high)) for p in given}
        self.cells = find_cells(self.trials.frame, predictors)
        self.designs = build_designs(self.formulas, self.trials.frame, self.cells)
        self.hierarchy = self._hierarchy(priors)
        self._centered = centered
        self._start()

    def _start(self) -> None:
        self._pilot = pilot_fit(self.hierarchy, pooled_fit(self.hierarchy))
        self.hierarchy = self.hierarchy.with_centring(self._centring(self._centered))

    @property
    def cell(self) -> Index:
        """The cell of each trial, (n_trials,)."""
        return self.cells.of_trial

    def with_outcomes(self, values: Array) -> HierarchicalModel:
        """The same model of other outcomes, of a simulated table for instance, in the same design and with the same law
        of lapses.

        values: (n, k), a column for each of `simulator.columns`; categories by their position.
        """
        labels = {
            name: outcome.labels(values[:, k])
            for k, (name, outcome) in enumerate(zip(self._columns, self.simulator.columns, strict=True))
        }
        other, old = copy(self), self.hierarchy.trials
        for name in _OF_THE_DATA:
            other.__dict__.pop(name, None)
        other.trials = Trials(values, self.trials.frame.assign(**labels))
        seconds = getattr(old, "lapse_seconds", self._lapse_seconds)
        arranged = self.likelihood.group_by_cell(values, self.cell, old.n_cells, seconds)
        other.hierarchy = replace(self.hierarchy, trials=arranged)
        other._start()
        return other

    def __getstate__(self) -> dict[str, Any]:
        """Without the compiled density, which belongs to its process."""
        return {name: value for name, value in self.__dict__.items() if name not in _OF_THE_DATA}

    def _hierarchy(self, priors: Priors) -> Hierarchy:
        n_cells = len(self.cells)
        per_cell = np.bincount(self.cell, minlength=n_cells)
        table = parameter_priors(self.simulator, priors)
        numbers = {name: value for name, value in self.formulas.items() if isinstance(value, float)}
        self._check_fixed(numbers)
        fixed: dict[str, float | Tensor] = {
            **numbers,
            **{name: torch.as_tensor(values[self.cells.first]) for name, values in self._given.items()},
        }
        hierarchy = Hierarchy(
            self.likelihood,
            self.likelihood.group_by_cell(self.trials.values, self.cell, n_cells, self._lapse_seconds),
            tuple(
                build_predictor(design, table[name], self.likelihood.box[name], per_cell)
                for name, design in self.designs.items()
            ),
            fixed,
            self.lapse,
        )
        return hierarchy.with_priors(user_priors(priors, hierarchy.coefficient_names))

    def _check_fixed(self, fixed: Mapping[str, float]) -> None:
        for name, value in fixed.items():
            low, high = self.likelihood.box[name]
            if not low <= value <= high:
                raise InputError(f"{name} = {value:g} lies outside the likelihood's box [{low:g}, {high:g}].")

    def _centring(self, centered: str | bool | Mapping[str, bool]) -> dict[str, bool]:
        chosen = choose_centring(self.hierarchy, self._pilot)
        if isinstance(centered, bool):
            return dict.fromkeys(chosen, centered)
        if isinstance(centered, str):
            if centered != "auto":
                raise InputError(f"centered must be 'auto', True, False, or a dict by group term; got {centered!r}.")
            return chosen
        unknown = sorted(set(centered) - set(chosen))
        if unknown:
            raise InputError(f"centered names {unknown}, but the group terms are {sorted(chosen)}.")
        return {**chosen, **centered}

    @property
    def pyro_model(self) -> Hierarchy:
        """The Pyro model: a function without arguments, for any Pyro inference."""
        return self.hierarchy

    @property
    def prior_table(self) -> pd.DataFrame:
        """The prior of every coefficient, on the scale of its parameter's link."""
        links = {name: p.link for p in self.hierarchy.predictors for name in p.coefficient_names}
        rows = {
            name: {"link": links.get(name, "identity"), "prior": describe(prior)}
            for name, prior in self.hierarchy.coefficient_priors().items()
        }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("coefficient")

    @cached_property
    def density(self) -> FlatDensity:
        """Flat unconstrained log density of the Pyro model, and where sampling starts."""
        return flatten(self.hierarchy, start_values(self.hierarchy, self._pilot))

    @cached_property
    def whitening(self) -> Whitening:
        """The coordinates in which NUTS samples: those in which the effects of a group are nearly independent."""
        start = start_values(self.hierarchy, self._pilot)
        return whitening(self.hierarchy, self._pilot, start, self.density.positions)

    def fit(
        self,
        draws: int = 1000,
        tune: int = 1000,
        chains: int = 4,
        seed: int | None = None,
        method: Method = "nuts",
        *,
        quick: bool = False,
        progress: bool = True,
        log_likelihood: bool = False,
    ) -> Any:
        """Sample the posterior.

        draws, tune: per chain. seed: same seed, same draws. method: "nuts" (nutpie on the compiled model), "pyro-nuts"
        (Pyro's own, slow), or a normal approximation, which comes with a warning: "laplace" (at the mode, without
        centring) or "svi" (Pyro's AutoNormal guide). quick: a first look, 2 chains of 200 + 300 steps, which says how
        far its means may still be off. progress: show a progress bar. log_likelihood: add the pointwise log likelihood
        (chains x draws x trials numbers).
        Returns ArviZ InferenceData with posterior, sample_stats, observed_data and constant_data. Ctrl-C, or a chain
        that fails, returns the draws so far, with attrs["interrupted"] = 1. Warns (ConvergenceWarning) about what
        should not be trusted yet.
        """
        if quick:
            draws, tune, chains = _QUICK_DRAWS, _QUICK_TUNE, _QUICK_CHAINS
        for name, value, least in (("draws", draws, 1), ("tune", tune, 1), ("chains", chains, 1)):
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}; got {value!r}.")
        if method not in METHODS:
            raise InputError(f"method must be one of {METHODS}; got {method!r}.")
        if seed is not None and not isinstance(seed, int | np.integer):
            raise InputError(f"seed must be a whole number or None; got {seed!r}.")
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        hierarchy, density = self.hierarchy, self.density
        if method == "laplace":
            hierarchy = self._uncentred()
            density = flatten(hierarchy, start_values(hierarchy, self._pilot))
        drawn = sample(
            density,
            hierarchy,
            draws=draws,
            tune=tune,
            chains=chains,
            seed=seed,
            method=method,
            progress=progress,
            whitening=self.whitening,
        )
        facts = {"seed": seed, "tune": tune, "method": method, "quick": int(quick), "density": density.path}
        return self._report(drawn, variables(hierarchy, density.constrain(drawn.x)), facts, log_likelihood)

    def _uncentred(self) -> Hierarchy:
        """The same model without centring: where groups may not differ at all, only this one has a mode."""
        terms = [g for p in self.hierarchy.predictors for g in p.groups]
        return self.hierarchy.with_centring({g.name: g.population == "gamma" for g in terms})

    def _report(
        self, drawn: Draws, posterior: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], pointwise: bool
    ) -> Any:
        coords, dims = coordinates(self.hierarchy)
        groups: dict[str, dict[str, NDArray[Any]]] = {
            "posterior": dict(posterior),
            "sample_stats": drawn.stats,
            "observed_data": {
                outcome.name: outcome.labels(self.trials.values[:, k])
                for k, outcome in enumerate(self.simulator.columns)
            },
            "constant_data": {
                str(name): column.to_numpy() if column.dtype.kind in "biuf" else column.astype(str).to_numpy(dtype=str)
                for name, column in self.trials.frame[self._predictors].items()
            },
        }
        coords["trial"] = list(range(len(self.trials)))
        per_trial = [*groups["observed_data"], *groups["constant_data"]]
        dims.update({name: ["trial"] for name in per_trial})
        attrs = provenance(
            model=self.simulator.name,
            formulas={name: f if isinstance(f, float) else f.rhs for name, f in self.formulas.items()},
            likelihood=self.likelihood.kind,
            weights_sha256=getattr(self.likelihood, "sha256", ""),
            lapse=self.lapse if isinstance(self.lapse, float) else describe(self.lapse),
            lapse_seconds=getattr(self.hierarchy.trials, "lapse_seconds", 0.0),
            priors=self.prior_table["prior"].to_dict(),
            centred={g.name: g.centred for p in self.hierarchy.predictors for g in p.groups},
            interrupted=int(bool(drawn.stopped)),
            stopped=drawn.stopped,
            sampling_seconds=drawn.seconds,
            **facts,
        )
        result = inference_data.build({k: v for k, v in groups.items() if v}, coords, dims, attrs)
        self._warn(result, drawn, facts)
        return self.with_log_likelihood(result) if pointwise else result

    def _warn(self, result: Any, drawn: Draws, facts: Mapping[str, Any]) -> None:
        chains, n = drawn.x.shape[:2]
        if drawn.stopped:
            warn_stopped(drawn.stopped, chains, n)
        if facts["method"] in ("svi", "laplace"):
            warn_approximate(facts["method"])
        elif facts["quick"]:
            warn_quick(inference_data.dataset(result)[self.hierarchy.population_names], drawn.stats)
        else:
            warn(inference_data.dataset(result), drawn.stats, chains)
        thinned = np.linspace(0, chains * n - 1, min(_EDGE_DRAWS, chains * n)).astype(int)
        theta = self.theta(result, thinned)
        rows = self.trials.frame[self._predictors].iloc[self.cells.first]
        cells = [", ".join(f"{k}={v}" for k, v in row.items()) or "all trials" for row in rows.to_dict("records")]
        for predictor in self.hierarchy.predictors:
            warn_at_edge(predictor, theta[:, :, self.simulator.names.index(predictor.name)], cells)

    def with_log_likelihood(self, posterior: Any) -> Any:
        """The same posterior with the pointwise log likelihood, lapses included, as group `log_likelihood`."""
        variables = inference_data.dataset(posterior)
        shape = (variables.sizes["chain"], variables.sizes["draw"])
        lapse = (
            variables["lapse"].to_numpy().reshape(-1) if "lapse" in variables else np.full(np.prod(shape), self.lapse)
        )
        pointwise = log_likelihood(self.hierarchy, self.theta(posterior), lapse)
        name = "_".join(outcome.name for outcome in self.simulator.columns)
        return inference_data.add_group(posterior, "log_likelihood", {name: pointwise.reshape(*shape, -1)}, ["trial"])

    def theta(self, posterior: Any, draws: NDArray[np.int64] | None = None) -> Array:
        """Parameters of every cell for posterior draws, (n_draws, n_cells, p).

        posterior: what `fit` returned. draws: positions in the chains laid end to end; None for all.
        """
        flat = inference_data.dataset(posterior).stack(sample=("chain", "draw")).transpose("sample", ...)
        chosen = flat if draws is None else flat.isel(sample=np.asarray(draws))
        values = {str(name): torch.tensor(array.values) for name, array in chosen.data_vars.items()}
        theta = self.hierarchy.theta(values)
        return theta.expand(chosen.sizes["sample"], *theta.shape[-2:]).numpy()

    def __repr__(self) -> str:
        n_cells = self.hierarchy.trials.n_cells
        formulas = ", ".join(f"{name} = {f:g}" if isinstance(f, float) else str(f) for name, f in self.formulas.items())
        return (
            f"HierarchicalModel({self.simulator.name}, {self.likelihood.kind} likelihood, "
            f"{len(self.trials)} trials in {n_cells} cell{'s' if n_cells != 1 else ''}: {formulas})"
        )


def _model_of(simulator: str | Simulator | None, likelihood: str | Path | Likelihood) -> tuple[Simulator, Likelihood]:
    """The simulator and the likelihood that were meant."""
    model = catalogue.load_simulator(simulator) if isinstance(simulator, str) else simulator
    if isinstance(likelihood, Likelihood):
        chosen = likelihood
    elif likelihood in ("neural", "exact"):
        model = model or catalogue.load_simulator(_DEFAULT_MODEL)
        own = model.run is not None or model.name not in catalogue.names()
        if likelihood == "neural" and own:
            chosen = train_likelihood(model)
        else:
            chosen = catalogue.load_likelihood(model.name, kind=likelihood)  # type: ignore[arg-type]
    elif Path(likelihood).is_file():
        chosen = catalogue.load_likelihood(Path(likelihood), simulator=model)
    else:
        raise InputError(
            "likelihood must be 'neural', 'exact', a Likelihood, or the path of a .safetensors file; there is no "
            f"likelihood file {str(likelihood)!r}."
        )
    model = model or chosen.simulator
    if chosen.simulator.name != model.name or chosen.simulator.names != model.names:
        raise InputError(
            f"the likelihood is of the model {chosen.simulator.name!r}, but simulator={model.name!r}; "
            "give the likelihood of that model, or change the simulator."
        )
    return model, chosen


def _checked_lapse(lapse: float | TorchDistribution | None, simulator: Simulator) -> float | TorchDistribution:
    if lapse is None:
        return _LAPSE if simulator.is_decision_model else 0.0
    if not simulator.is_decision_model and lapse != 0:
        raise InputError(
            f"lapse={lapse!r}: a lapse is a random response at a random time; outcomes such as "
            f"{simulator.columns[0].name!r} know none: leave lapse out, or let the simulator lapse."
        )
    if isinstance(lapse, TorchDistributionMixin):
        return in_double(lapse)
    if isinstance(lapse, bool) or not isinstance(lapse, int | float) or not 0 <= lapse < 1:
        raise InputError(
            f"lapse must be a probability in [0, 1) or its prior, for instance pyro.distributions.Beta(1., 19.); "
            f"got {lapse!r}."
        )
    return float(lapse)

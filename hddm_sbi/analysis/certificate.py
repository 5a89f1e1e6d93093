"""The certificate of one fit: has the learned likelihood moved this posterior, and what would it be without?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hddm_sbi.analysis.fit import Fit, table_log_likelihood
from hddm_sbi.analysis.importance import Weights
from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy import SAME_LIKELIHOOD, HierarchicalModel, Hierarchy, check_fit_of
from hddm_sbi.inference import inference_data
from hddm_sbi.training import further
from hddm_sbi.types import Array, Index

#: a smaller shift, in posterior sds, or change of an sd, relative, changes no conclusion; by the kind of the reference:
#: simulations tell no smaller ones.
TOLERATED = {"exact": 0.1, "numerical": 0.1, "simulated": 0.3}
#: fewer draws say nothing of the tail of weights; and fewer of them at which an equation could be solved.
_FEWEST, _SOLVED = 100, 50
#: draws that are reweighted where the caller does not say how many, by the kind of the reference.
_DRAWS = {"exact": 1_000, "numerical": 100, "simulated": 1_000}
#: draws whose parameters are in memory at a time.
_BLOCK = 250
#: draws at which the time of a comparison is taken.
_TIMED = 3
#: draws around which new simulations lie, and their smallest number.
_NEAR, _FEWEST_SIMULATIONS = 500, 1_000
#: standard errors within which a number is known.
_ERRORS = 2.0
#: kinds of likelihoods that are no approximation.
_EXACT = {"exact": "in closed form", "numerical": "the model's equation solved at every theta"}
#: the references in words, and what to do where a certificate is not passed.
_BY = {
    "exact": "the closed form",
    "numerical": "the model's equation",
    "simulated": "what simulations around its draws say",
}
_INSTEAD = {
    "exact": "fit with likelihood='exact', or model.reference.fit()",
    "numerical": "fit model.reference, which is slow, or train the likelihood longer",
    "simulated": "train the likelihood on more simulations; of a simulator of one's own without symmetries, where the "
    "posterior lies: hs.refine_likelihood(likelihood, model, posterior)",
}


@dataclass(frozen=True)
class Certificate:
    """Whether the learned likelihood of a fit has moved its posterior; `certify` makes it.

    Parameters
    ----------
    reference : str
        What the likelihood was compared with: "exact", its closed form; "numerical", its equation solved; "simulated",
        what new simulations around draws of the posterior say.
    n_draws : int
        Number of posterior draws that were compared.
    pareto_k : float
        Shape of the tail of their weights. Below .7 (or 1 - 1 / log10(n_draws), if that is less) means under the
        weights can be trusted; also above, where 99 % of the draws are effective, as no mean can then have moved by
        more than .1 posterior sds.
    effective_draws : float
        Number of equally weighted draws that say as much as the weighted ones.
    shifts : pandas.DataFrame
        A row for every quantity of the population, on the scale of the posterior: `mean` and `sd` of the draws;
        `corrected_mean` and `corrected_sd`, what they are under the reference; `shift`, corrected_mean - mean in
        posterior sds, and its Monte Carlo standard error `error`. Where the weights cannot be trusted, means are right
        to first order in the difference of the likelihoods, and `corrected_sd` is nan.
    verdict : str
        What that means and what to do, in one or two sentences.
    passed : bool
        No mean lies off by more than .1 posterior sds, no sd by more than 10 %, and the draws suffice to say so; by
        new simulations .3 sds and 30 %, as they tell no smaller shifts.
    corrected : arviz.InferenceData or None
        The posterior under the reference, by resampling, with `n_draws` draws and the table; None where the weights
        cannot be trusted.

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], trials)
    >>> posterior = model.fit(draws=1000, tune=300, chains=2, seed=1, progress=False)
    >>> certificate = hs.certify(model, posterior)
    >>> certificate.passed, certificate.n_draws, certificate.shifts.index.tolist()
    (True, 1000, ['v_Intercept', 'a_Intercept', 't0_Intercept', 'lapse'])
    """

    reference: str
    n_draws: int
    pareto_k: float
    effective_draws: float
    shifts: pd.DataFrame = field(repr=False)
    verdict: str
    passed: bool
    corrected: Any = field(repr=False)


def certify(
    model: HierarchicalModel,
    posterior: Any,
    draws: int | None = None,
    *,
    n_simulations: int | None = None,
    n_jobs: int | None = None,
    seed: int = 1,
) -> Certificate:
    """Compare the learned likelihood of a fit with a reference at draws of its posterior, and reweight these.

    The reference is the model's closed form where it has one, and its equation solved at every theta where not, which
    is slow. Where it has neither, new simulations around these draws tell what the likelihood should be, in separate
    parts, so that their differences are the error: of rt and response by a ratio to the likelihood, whose dependence on
    the parameters is regressed; of a network that `hs.train_likelihood` trained, and that can go on, by what it learns.
    A draw weighs as much as the reference makes of all trials, lapses and incomplete ones included, relative to the
    learned likelihood; the weights' tail is smoothed.

    Parameters
    ----------
    model
        The fitted model.
    posterior
        What `model.fit` returned.
    draws
        How many posterior draws are compared, at least 100, evenly spaced; all, where there are fewer. Default: 1000
        with a closed form, 100 where an equation is solved.
    n_simulations
        New simulations, where there is neither closed form nor equation; else it is refused. Default: a million of a
        compiled simulator whose ratio is regressed, else 100 000.
    n_jobs
        Processes that simulate; None for as many as `joblib.parallel_config` says, or one.
    seed
        Of the resampling that gives `corrected`, and of simulations.

    Returns
    -------
    Certificate
        `verdict` says it in words.

    Raises
    ------
    InputError
        The likelihood is no learned one; the model has neither a closed form nor an equation that is solved, nor a
        simulator that is here and a network that can go on training; the posterior is of another model, table or
        likelihood; or there are fewer than 100 draws.

    References
    ----------
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto smoothed importance sampling, JMLR 25(72).

    Examples
    --------
    >>> import hddm_sbi as hs
    >>> trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    >>> model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], trials)
    >>> posterior = model.fit(draws=1000, tune=300, chains=2, seed=1, progress=False)
    >>> hs.certify(model, posterior).verdict[:58]
    'Good: the learned likelihood has moved no quantity of the '
    """
    seed = whole_number("seed", seed, least=0)
    fit, approximation = _checked(model, posterior)
    found = _compared(fit, draws, _references(fit, n_simulations, n_jobs, seed), approximation)
    usable = found.weights.reliable
    return Certificate(
        reference=found.kind,
        n_draws=len(found.positions),
        pareto_k=found.weights.pareto_k,
        effective_draws=found.weights.effective_draws,
        shifts=found.shifts,
        verdict=found.verdict,
        passed=found.passed,
        corrected=_resampled(posterior, found.positions[found.weights.resampled(seed)]) if usable else None,
    )


def why_not(model: HierarchicalModel, n_draws: int = _FEWEST) -> str:
    """Why there is no certificate for a fit of a model with so many draws, or ""."""
    kind = model.likelihood.kind
    if kind in _EXACT:
        return f"there is nothing to certify: the likelihood of this model is {kind}, {_EXACT[kind]}, and not learned."
    if model.reference is None and (refusal := further.why_not_retold(model.likelihood)):
        return (
            f"{model.simulator.name!r} has neither a closed form nor an equation that can be solved, and {refusal} "
            "hs.run_sbc(model) compares the likelihood with the simulator over the prior, and "
            "hs.recover_parameters(model, posterior) around this posterior."
        )
    if n_draws < _FEWEST:
        return f"a certificate needs at least {_FEWEST} draws; the posterior has {n_draws}: fit with more, draws=."
    return ""


def seconds(model: HierarchicalModel, posterior: Any, draws: int | None = None) -> float:
    """About how long `certify` takes; for ever, where a simulator has to run of which that is not known."""
    fit, _ = _checked(model, posterior)
    other, positions = fit.model.reference, fit.spaced(_number(fit, draws))
    if other is None:
        return float("inf")
    # The first run may compile, and an equation that is solved once is kept.
    for some in (positions[:_TIMED], positions[-_TIMED:]):
        drawn = fit.parameters(some)
        began = time.perf_counter()
        for each in (fit.model.uncentred, other.uncentred):
            table_log_likelihood(each, *drawn)
        spent = time.perf_counter() - began
    return spent / _TIMED * len(positions)


def _checked(model: HierarchicalModel, posterior: Any) -> tuple[Fit, str]:
    """The fit, and the method by which its draws approximate its posterior, "" where they are drawn from it.

    Raises InputError where there is nothing to compare with, or the posterior is of another model, table or likelihood.
    """
    fit = Fit.of(model, posterior)
    if refusal := why_not(model, fit.n_draws):
        raise InputError(refusal)
    record, _ = check_fit_of(fit.model, posterior, SAME_LIKELIHOOD)
    return fit, record.method if record.approximate else ""


def _number(fit: Fit, draws: int | None) -> int:
    """Of draws to compare at."""
    return _DRAWS[_kind(fit.model)] if draws is None else whole_number("draws", draws, _FEWEST)


def _kind(model: HierarchicalModel) -> str:
    """Of the reference."""
    return "simulated" if model.reference is None else model.reference.likelihood.kind


@dataclass(frozen=True)
class _References:
    """The same model with likelihoods whose mean log density is the reference; and with those by separate parts of the
    simulations that tell it, whose spread is its error."""

    mean_of: Sequence[Hierarchy]
    parts: Sequence[Hierarchy] = ()


def _references(fit: Fit, n_simulations: int | None, n_jobs: int | None, seed: int) -> _References:
    if n_simulations is not None:
        whole_number("the number of simulations", n_simulations, _FEWEST_SIMULATIONS)
    if fit.model.reference is not None:
        if n_simulations is not None:
            raise InputError(
                f"n_simulations={n_simulations} is for likelihoods that only their simulator can judge; this one is "
                f"compared with {_BY[_kind(fit.model)]}: leave it out."
            )
        return _References([fit.model.reference.uncentred])
    draws = fit.model.theta(fit.known, fit.spaced(_NEAR))
    found = further.retold(fit.model.likelihood, draws, n_simulations, seed, n_jobs)
    return _References(*([fit.model.with_likelihood(each).uncentred for each in some] for some in found))


def _compared(fit: Fit, draws: int | None, references: _References, approximation: str) -> _Finding:
    """The fit's likelihood beside the reference, at draws."""
    positions = fit.spaced(_number(fit, draws))
    log_ratio = _log_ratios(fit, references.mean_of, positions)
    solved = ~np.isnan(log_ratio)
    if solved.sum() < _SOLVED:
        raise InputError(
            f"the equation of {fit.model.simulator.name!r} could be solved at {solved.sum()} of {len(solved)} draws, "
            f"and {_SOLVED} are needed: give more, draws={2 * len(solved)}; or narrow the priors."
        )
    positions, log_ratio = positions[solved], log_ratio[solved]
    weights, quantities = Weights.smoothed(log_ratio), _quantities(fit, positions)
    shifts = _shifts(quantities, weights, log_ratio)
    if references.parts:
        few = fit.spaced(_FEWEST)
        x = _quantities(fit, few).to_numpy()
        # The fit's own likelihood, which is the same for all, leaves their differences as they are.
        by_part = [_first_order(x, log_p).mean(0) for log_p in _log_likelihoods(fit, references.parts, few)]
        apart = np.std(by_part, axis=0, ddof=1) / len(by_part) ** 0.5 / shifts["sd"]
        # A few parts know it badly; in posterior sds, the noise of simulations is about the same of all quantities.
        shifts["error"] = np.hypot(shifts["error"], np.maximum(apart, np.sqrt((apart**2).mean())))
    return _Finding(_kind(fit.model), positions, weights, shifts, int((~solved).sum()), approximation)


def _log_ratios(fit: Fit, others: Sequence[Hierarchy], positions: Index) -> Array:
    """Log likelihood of the whole table, the mean by others minus that by its own, at draws, (n,)."""
    own, *by_others = _log_likelihoods(fit, [fit.model.uncentred, *others], positions)
    return np.asarray(np.mean(by_others, axis=0) - own)


def _log_likelihoods(fit: Fit, of: Sequence[Hierarchy], positions: Index) -> Array:
    """Log likelihood of the whole table by each of these at draws, (m, n); nan where an equation cannot be solved."""
    blocks = np.array_split(positions, -(-len(positions) // _BLOCK))
    drawn = (fit.parameters(block) for block in blocks)
    return np.concatenate([[table_log_likelihood(each, *numbers) for each in of] for numbers in drawn], -1)


def _quantities(fit: Fit, positions: Index) -> pd.DataFrame:
    """Draws of every number that describes the population, a column each."""
    own, drawn = fit.model.uncentred, fit.draws(positions)
    matrices, columns = {correlation.reported for correlation in own.correlations}, {}
    for name in own.population_names:
        array = drawn[name]
        for index in np.ndindex(array.shape[1:]):
            if name in matrices and index[-2] <= index[-1]:
                continue
            labels = [str(array[dim].to_numpy()[i]) for dim, i in zip(array.dims[1:], index, strict=True)]
            columns[f"{name}[{', '.join(labels)}]" if labels else name] = array.to_numpy()[:, *index]
    return pd.DataFrame(columns)


def _shifts(x: pd.DataFrame, weights: Weights, log_ratio: Array) -> pd.DataFrame:
    """The table `shifts` of quantities (n draws, q).

    Under the weights, or, where these cannot be trusted, to first order in the log ratio d: E[x] moves by Cov(x, d),
    which is exact for a normal posterior and a d that is linear in the parameters.
    """
    values = x.to_numpy()
    mean, sd = values.mean(0), values.std(0)
    if weights.reliable:
        corrected, corrected_sd = weights.mean(values), weights.sd(values)
        each = len(values) * weights.w[:, None] * (values - corrected) - (values - mean)
    else:
        each = _first_order(values, log_ratio)
        corrected, corrected_sd = mean + each.mean(0), np.full(len(mean), np.nan)
    told = {"mean": mean, "sd": sd, "corrected_mean": corrected, "corrected_sd": corrected_sd}
    errors = inference_data.standard_errors(each)
    return pd.DataFrame(told | {"shift": (corrected - mean) / sd, "error": errors / sd}, index=x.columns)


def _first_order(values: Array, log_ratio: Array) -> Array:
    """What has the mean Cov(x, d): of quantities x (n, q), for a finite log ratio d (n,)."""
    possible = np.isfinite(log_ratio)
    centred = values[possible] - values[possible].mean(0)
    return np.asarray(centred * (log_ratio[possible] - log_ratio[possible].mean())[:, None])


def _resampled(posterior: Any, positions: Index) -> Any:
    """The posterior at some of its draws, with its table; chains of equal length, those that are left over are not."""
    known = inference_data.dataset(posterior)
    chains = known.sizes["chain"]
    n = len(positions) // chains
    drawn = inference_data.draws(known, positions[: n * chains]).drop_vars(["sample", "chain", "draw"])
    chain, draw = np.repeat(np.arange(chains), n), np.tile(np.arange(n), chains)
    drawn = drawn.assign_coords(chain=("sample", chain), draw=("sample", draw))
    drawn = drawn.set_index(sample=("chain", "draw")).unstack("sample").transpose("chain", "draw", ...)
    return inference_data.with_groups(posterior, {"posterior": drawn}, ("observed_data", "constant_data"))


@dataclass(frozen=True)
class _Finding:
    """Weights of draws and shifts, and what they mean in words.

    kind: of the reference. positions: of the draws. unsolved: draws at which an equation could not be solved.
    approximation: the method by which the draws approximate the posterior, or "".
    """

    kind: str
    positions: Index
    weights: Weights
    shifts: pd.DataFrame
    unsolved: int
    approximation: str

    @property
    def _worst(self) -> tuple[str, float, float]:
        """The quantity of the largest shift, that, and its error."""
        shift = self.shifts["shift"]
        name = str(shift.abs().idxmax())
        return name, float(shift[name]), float(self.shifts["error"][name])

    @property
    def _widths(self) -> str:
        """Which sd changes by more than is tolerated, or ""."""
        ratio = self.shifts["corrected_sd"] / self.shifts["sd"]
        # As far from 1 is 1 / ratio.
        far = ratio.where(ratio > 1.0, 1.0 / ratio).dropna()
        if far.empty or far.max() <= 1.0 + TOLERATED[self.kind]:
            return ""
        name = str(far.idxmax())
        return f"the sd of {name} should be {float(ratio[name]):.2f} times as large"

    @property
    def _moved(self) -> bool:
        return bool((self.shifts["shift"].abs() > TOLERATED[self.kind]).any()) or bool(self._widths)

    @property
    def _open(self) -> bool:
        """Whether the errors leave it open."""
        far = self.shifts["shift"].abs() + _ERRORS * self.shifts["error"]
        return bool((far > TOLERATED[self.kind]).any())

    @property
    def passed(self) -> bool:
        """Whether nothing has moved, and that is known."""
        return self.weights.reliable and not self._moved and not self._open

    @property
    def _basis(self) -> str:
        """What was computed, for a parenthesis."""
        of = f" of method={self.approximation!r}, an approximation not judged here," if self.approximation else ""
        told = f"{len(self.weights.w)} draws{of} weighted by {_BY[self.kind]}, Pareto k {self.weights.pareto_k:.2f}, "
        told += f"{self.weights.effective_draws:.0f} effective"
        return f"{told}; {self.unsolved} more could not be solved" if self.unsolved else told

    @property
    def verdict(self) -> str:
        """What it means and what to do."""
        name, shift, error = self._worst
        lies = f"{name} lies {_off(shift)} (standard error {error:.2f})"
        if not self.weights.reliable:
            return (
                f"The learned likelihood is too far from {_BY[self.kind]} for this posterior to be corrected in one "
                f"step ({self._basis}): to first order, {lies}. Instead, {_INSTEAD[self.kind]}."
            )
        if self._moved:
            how = " and ".join(filter(None, (lies, self._widths)))
            return (
                f"The learned likelihood has moved this posterior: {how} ({self._basis}). Go on with `corrected`, or "
                f"{_INSTEAD[self.kind]}."
            )
        if self._open:
            more = f"Compare more draws, draws={4 * len(self.weights.w)}."
            if self.kind == "simulated":
                more = "Simulate more: n_simulations=, or --simulations."
            return f"Not known yet: it seems that {lies} ({self._basis}). {more}"
        others = f", and no other mean by more than {self.weights.spread:.3f}"
        return (
            f"Good: the learned likelihood has moved no quantity of the population by more than {abs(shift):.3f} of "
            f"its posterior sds ({name}){others} ({self._basis})."
        )


def _off(shift: float) -> str:
    return f"{abs(shift):.2f} posterior sds too {'low' if shift > 0 else 'high'}"

"""Six simulators with known likelihoods, learned from 100 000 simulations: posteriors, verdicts, refinement.

Each simulator is a plain Python function to the training; its likelihood is known here only. At parameter sets spread
over the middle of the box, 500 outcomes are simulated, and both likelihoods are evaluated on a grid around the exact
posterior. Ten minutes of one core; `verdicts`, twenty trainings, half an hour.
"""

import argparse
import functools
import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from numba import njit
from scipy.optimize import minimize
from scipy.special import expit, gammaln, logsumexp, softmax
from scipy.stats import norm, qmc, t

import hddm_sbi as hs
from hddm_sbi.training.safety import NUMBERS, SAFE_SHARE, SAFE_SHIFT

N_SIMULATIONS, N_OUTCOMES = 100_000, 500
#: parameter sets at which posteriors are compared, and the part of the box where they lie.
SETS, MIDDLE = 20, 0.8
#: of verdicts: parameter sets, and the largest number of outcomes that is looked at.
JUDGED, MOST = 64, 10_000
#: distances and heights of the ball are cut here, in m.
LIMIT = 0.1
#: of the grid: points per parameter, and how far it reaches, in posterior sds.
POINTS, REACH = 13, 4.0


@dataclass(frozen=True)
class Known:
    """A simulator whose likelihood is known.

    simulate: columns of parameters (n,) and a generator -> columns of outcomes. log_prob: outcomes (n, k) and
    parameters (p, ...) -> (..., n).
    """

    parameters: dict[str, tuple[float, float]]
    outcomes: dict[str, str | tuple[object, ...]]
    simulate: Callable[..., dict[str, np.ndarray]]
    log_prob: Callable[..., np.ndarray]
    #: parameters that are known in every trial: their values, each for as many trials.
    given: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def box(self):
        """Lowest and highest values of the parameters, (p,) each."""
        return np.array(list(self.parameters.values())).T

    @property
    def sought(self):
        """Names of the parameters that are estimated."""
        return [name for name in self.parameters if name not in self.given]

    def theta(self, sought, n):
        """Values of the sought parameters (g, s) -> of all parameters in n trials (p, g, n or 1)."""
        columns = dict(zip(self.sought, sought.T[:, :, None], strict=True))
        known = {name: np.resize(values, n)[None] for name, values in self.given.items()}
        return [{**columns, **known}[name] for name in self.parameters]

    def train(self, seed=1, n_simulations=N_SIMULATIONS, **options):
        """Its learned likelihood."""
        rows = self.simulate

        def simulator(theta, rng):
            return rows(*theta.T, rng)

        declared = hs.declare(self.parameters, self.outcomes, vectorised=True)(simulator)
        return hs.train_likelihood(declared, n_simulations=n_simulations, seed=seed, progress=False, **options)

    def table(self, sought, n, seed):
        """Columns of n trials at values of the sought parameters (s,)."""
        theta = [np.broadcast_to(column, (1, n))[0] for column in self.theta(sought[None], n)]
        return self.simulate(*theta, np.random.default_rng(seed))

    def numbers(self, columns):
        """Columns of trials as numbers (n, k)."""
        return np.stack([np.asarray(columns[name], dtype=float) for name in self.outcomes], -1)


def _correlated(level, scale, correlation, rng):
    a, b = rng.standard_normal((2, len(level)))
    return {
        "x": level + scale * a,
        "y": 20 * level + 10 * scale * (correlation * a + np.sqrt(1 - correlation**2) * b),
    }


def _correlated_log_prob(x, level, scale, correlation):
    a = (x[:, 0] - level) / scale
    b = (x[:, 1] - 20 * level) / (10 * scale)
    left = 1 - correlation**2
    return (
        -0.5 * (a * a - 2 * correlation * a * b + b * b) / left - np.log(2 * np.pi * 10 * scale**2) - 0.5 * np.log(left)
    )


def _heavy(location, scale, rng):
    return {"x": location + scale * rng.standard_t(2, len(location))}


def _heavy_log_prob(x, location, scale):
    return t.logpdf((x[:, 0] - location) / scale, 2) - np.log(scale)


def _mixture(effort, gap, rng):
    engaged = rng.random(len(effort)) < expit(effort)
    return {"x": np.where(engaged, gap + rng.standard_normal(len(gap)), 0.5 * rng.standard_normal(len(gap)))}


def _mixture_log_prob(x, effort, gap):
    share = expit(effort)
    return np.log(share * norm.pdf(x[:, 0] - gap) + (1 - share) * norm.pdf(x[:, 0] / 0.5) / 0.5)


def _zeros(rate, absent, rng):
    return {"count": np.where(rng.random(len(rate)) < absent, 0, rng.poisson(rate))}


def _zeros_log_prob(x, rate, absent):
    k = x[:, 0]
    poisson = k * np.log(rate) - rate - gammaln(k + 1)
    return np.where(k == 0, np.log(absent + (1 - absent) * np.exp(-rate)), np.log1p(-absent) + poisson)


@njit(cache=True)
def _flight(speed, angle, friction):
    """Distance and height of a ball with friction, by steps of 10 ms."""
    x = y = top = 0.0
    across, up = speed * np.cos(angle), speed * np.sin(angle)
    for _ in range(10_000):
        later = y + up * 0.01
        if later < 0:
            return x - across * y / up, top
        x += across * 0.01
        y = later
        top = max(top, y)
        across, up = across - friction * across * 0.01, up + (-9.81 - friction * up) * 0.01
    return x, top


@np.vectorize(otypes=[float, float])
def _flights(speed, angle, friction):
    return _flight(speed, angle, friction)


def _ball(speed, angle, friction, rng):
    distance, height = _flights(speed, angle, friction)
    noise = 1 + 0.05 * rng.standard_normal((2, len(speed)))
    return {"distance": np.maximum(LIMIT, distance * noise[0]), "height": np.maximum(LIMIT, height * noise[1])}


def _ball_log_prob(x, speed, angle, friction):
    flown = np.stack(_flights(speed, angle, friction), -1)
    log_p = np.where(x > LIMIT, norm.logpdf(x, flown, 0.05 * flown), norm.logcdf(x, flown, 0.05 * flown))
    return log_p.sum(-1)


PULL = np.array([-1.0, 0.0, 1.0])


def _choice(pull, slow, rng):
    p = softmax(np.multiply.outer(pull, PULL), -1)
    choice = (p.cumsum(-1) < rng.random(len(pull))[:, None]).sum(-1)
    # the likelier a choice, the faster
    place = np.log(slow) - p[np.arange(len(pull)), choice]
    return {"choice": choice, "time": np.exp(place + (0.3 + 0.1 * choice) * rng.standard_normal(len(pull)))}


def _choice_log_prob(x, pull, slow):
    choice = x[:, 0].astype(int)
    log_p = pull * PULL[choice] - logsumexp(np.multiply.outer(pull, PULL), -1)
    return log_p + norm.logpdf(np.log(x[:, 1]), np.log(slow) - np.exp(log_p), 0.3 + 0.1 * choice) - np.log(x[:, 1])


KNOWN = {
    "correlated": Known(
        {"level": (-2.0, 2.0), "scale": (0.4, 3.0), "correlation": (-0.9, 0.9)},
        {"x": "real", "y": "real"},
        _correlated,
        _correlated_log_prob,
    ),
    "heavy": Known({"location": (-2.0, 2.0), "scale": (0.3, 3.0)}, {"x": "real"}, _heavy, _heavy_log_prob),
    "mixture": Known({"effort": (-2.0, 2.0), "gap": (0.5, 4.0)}, {"x": "real"}, _mixture, _mixture_log_prob),
    "zeros": Known({"rate": (0.5, 20.0), "absent": (0.02, 0.6)}, {"count": "count"}, _zeros, _zeros_log_prob),
    "ball": Known(
        {"speed": (5.0, 30.0), "angle": (0.2, 1.4), "friction": (0.01, 0.5)},
        {"distance": "positive", "height": "positive"},
        _ball,
        _ball_log_prob,
        given={"speed": (8.0, 12.0, 16.0, 20.0, 25.0)},
    ),
    "choice": Known(
        {"pull": (-2.0, 2.0), "slow": (0.3, 3.0)}, {"choice": (0, 1, 2), "time": "positive"}, _choice, _choice_log_prob
    ),
}


def spread(known: Known, n: int, seed: int, part: float = MIDDLE) -> np.ndarray:
    """n values of the sought parameters (n, s), spread over the middle of the box; part: of its width."""
    low, high = np.array([known.parameters[name] for name in known.sought]).T
    points = qmc.Sobol(len(low), rng=np.random.default_rng(seed)).random_base2(n.bit_length())[:n]
    return low + (high - low) * (0.5 + part * (points - 0.5))


def grid(known: Known, x: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sought parameters (g, s) around the exact posterior under a flat prior on the box, and its log density there."""
    low, high = np.array([known.parameters[name] for name in known.sought]).T
    width = high - low

    def log_p(theta):
        return known.log_prob(x, *known.theta(theta, len(x))).sum(-1)

    def loss(theta):
        inside = np.clip(theta, low, high)
        return -log_p(inside[None])[0] + 1e6 * ((theta - inside) ** 2).sum()

    mode = minimize(loss, truth, method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-4, "maxiter": 4_000}).x
    # The curvature in units of the box, as far from its sides as the differences reach; the box itself, where it says
    # less than a flat prior.
    step = 1e-3 * width * np.eye(len(low))
    center = np.clip(mode, low + step.sum(0), high - step.sum(0))
    signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    ends = np.array([center + i * a / 2 + j * b / 2 for i in step for j in step for a, b in signs])
    curvature = log_p(ends).reshape(len(low), len(low), 4) @ [-1, 1, 1, -1] / 1e-6
    values, vectors = np.linalg.eigh(curvature)
    line = np.linspace(-REACH, REACH, POINTS)
    steps = np.stack(np.meshgrid(*[line] * len(low), indexing="ij"), -1).reshape(-1, len(low))
    theta = mode + steps / np.sqrt(np.maximum(values, 12.0)) @ vectors.T * width
    theta = theta[((theta > low) & (theta < high)).all(1)]
    return theta, log_p(theta)


def learned(known: Known, likelihood, x: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """Learned log likelihood of trials (n, k) at every value of the sought parameters, (g,)."""
    totals, settings = [], max(map(len, known.given.values()), default=1)
    setting = np.arange(len(x)) % settings
    with torch.no_grad():
        for part in np.array_split(sought, max(1, len(sought) * len(x) // 500_000)):
            theta = [np.broadcast_to(column, (len(part), settings)) for column in known.theta(part, settings)]
            rows = torch.as_tensor(np.stack(theta, -1).reshape(len(part) * settings, -1))
            row = torch.as_tensor((np.arange(len(part))[:, None] * settings + setting).reshape(-1))
            log_p = likelihood.log_prob_at(torch.as_tensor(np.tile(x, (len(part), 1))), rows, row)
            totals.append(log_p.reshape(len(part), -1).sum(1))
    return torch.cat(totals).numpy()


def moments(theta: np.ndarray, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds of a density that is known on a grid."""
    weights = np.exp(log_p - log_p.max())
    weights /= weights.sum()
    mean = weights @ theta
    return mean, np.sqrt(weights @ (theta - mean) ** 2)


def compared(known: Known, likelihood, truths: np.ndarray, n: int = N_OUTCOMES, seed: int = 1):
    """Shifts of means of n outcomes at each truth (sets, s), in exact posterior sds, and ratios of sds, (sets, s)."""
    shifts, ratios = [], []
    for k, truth in enumerate(truths):
        x = known.numbers(known.table(truth, n, [seed, k]))
        theta, exact = grid(known, x, truth)
        (mean, sd), (other, other_sd) = moments(theta, exact), moments(theta, learned(known, likelihood, x, theta))
        shifts.append((other - mean) / sd)
        ratios.append(other_sd / sd)
    return np.array(shifts), np.array(ratios)


def divergence(known: Known, likelihood, n: int = 100_000, seed: int = 3) -> float:
    """KL divergence per outcome over the box, by fresh simulations."""
    low, high = known.box
    theta = low + (high - low) * np.random.default_rng(seed).random((n, len(low)))
    x = known.numbers(known.simulate(*theta.T, np.random.default_rng([seed, 1])))
    with torch.no_grad():
        q = likelihood.log_prob_rows(torch.as_tensor(x), torch.as_tensor(theta)).numpy()
    return float(np.mean(known.log_prob(x, *theta.T) - q))


def posteriors(names) -> None:
    """Posteriors of 500 outcomes beside the exact ones, at 20 parameter sets."""
    for name in names:
        known, began = KNOWN[name], time.process_time()
        likelihood = known.train()
        took = time.process_time() - began
        shifts, ratios = compared(known, likelihood, spread(known, SETS, 1))
        seconds, table = fitted(known, likelihood)
        shape = {key: likelihood.card.architecture[key] for key in ("components", "chained", "tabulated")}
        print(
            f"{name}: trained in {took:.0f} CPU s {shape}, KL {divergence(known, likelihood):.1e}; shift of means "
            f"{np.abs(shifts).mean():.2f} sds on average, {np.abs(shifts).max():.2f} at most; sds {ratios.mean():.2f} "
            f"times the exact ones, {ratios.min():.2f} to {ratios.max():.2f}; fit of {len(table)} outcomes "
            f"{seconds:.0f} CPU s, {likelihood.card.scores.safe_outcomes} outcomes are said to be safe",
            flush=True,
        )


def fitted(known: Known, likelihood):
    """Processor seconds of a fit of 500 outcomes, and their table."""
    truth = spread(known, 1, 1)[0]
    table = pd.DataFrame(known.table(truth, N_OUTCOMES, 1))
    formulas = [f"{name} ~ 1" for name in known.sought]
    for name, values in known.given.items():
        table[f"of_{name}"] = np.resize(np.array([f"{value:g}" for value in values]), N_OUTCOMES)
        formulas.append(f"{name} ~ 0 + of_{name}")
    began = time.process_time()
    model = hs.HierarchicalModel(formulas, table, likelihood=likelihood)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        model.fit(seed=1, progress=False)
    assert model.density.path == "compiled"
    return time.process_time() - began, table


def verdicts(names, seeds=range(1, 5)) -> None:
    """How many outcomes a training says are safe, and how many are; the error at the number that it says."""
    said, true = [], []
    for seed, name in itertools.product(seeds, names):
        known = KNOWN[name]
        likelihood = known.train(seed)
        error_of = functools.cache(functools.partial(error, known, likelihood))
        said.append(NUMBERS[np.abs(NUMBERS - likelihood.card.scores.safe_outcomes).argmin()])
        safe = itertools.takewhile(lambda n, error_of=error_of: error_of(n) <= SAFE_SHIFT, NUMBERS[NUMBERS <= MOST])
        true.append(max(safe, default=NUMBERS[0]))
        print(
            f"{name}, seed {seed}: {said[-1]:.0f} said, {true[-1]:.0f} true, "
            f"error at the first {error_of(said[-1]):.2f}",
            flush=True,
        )
    ratio = np.array(said) / np.array(true)
    print(f"said / true: median {np.median(ratio):.2f}, {ratio.min():.2f} to {ratio.max():.2f}")


def error(known: Known, likelihood, n: float) -> float:
    """The largest shift of a posterior mean of n outcomes at nine of ten parameter sets of the box, in posterior sds.

    Of the worst parameter, where all are sought.
    """
    everything = replace(known, given={})
    shifts, _ = compared(everything, likelihood, spread(everything, JUDGED, 1, part=1.0), int(n))
    return float(np.quantile(np.abs(shifts).max(1), SAFE_SHARE))


def refined() -> None:
    """The ball: posteriors before and after refinement, beside the exact one."""
    known = KNOWN["ball"]
    likelihood = known.train()
    for k, truth in enumerate(spread(known, 3, 1)):
        table = pd.DataFrame(known.table(truth, N_OUTCOMES, [1, k]))
        x = known.numbers(table)
        theta, exact = grid(known, x, truth)
        table["launcher"] = np.resize(np.array([f"{value:g}" for value in known.given["speed"]]), N_OUTCOMES)
        model = hs.HierarchicalModel(
            [f"{name} ~ 1" for name in known.sought] + ["speed ~ 0 + launcher"], table, likelihood=likelihood
        )
        options = {"draws": 1_000, "progress": False}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = hs.refine_likelihood(
                likelihood, model, model.fit(seed=1, **options), seed=1, fit=options, progress=False
            )
        mean, sd = moments(theta, exact)
        off = [
            (moments(theta, learned(known, each, x, theta))[0] - mean) / sd for each in (likelihood, found.likelihood)
        ]
        print(
            f"ball {k + 1}: off by {np.abs(off[0]).max():.2f} sds before, {np.abs(off[1]).max():.2f} after "
            f"{len(found.moved)} rounds, which moved the posterior by {found.moved['shift'].round(2).tolist()}",
            flush=True,
        )


def main() -> None:
    """All parts, or the one that is named; of all simulators, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("posteriors", "verdicts", "refined"))
    parser.add_argument("names", nargs="*", default=list(KNOWN), help=f"of {', '.join(KNOWN)}")
    given = parser.parse_args()
    if given.part in (None, "posteriors"):
        posteriors(given.names)
    if given.part in (None, "verdicts"):
        verdicts(given.names)
    if given.part in (None, "refined"):
        refined()


if __name__ == "__main__":
    warnings.simplefilter("ignore", hs.TrainingWarning)
    main()

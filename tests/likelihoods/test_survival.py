"""Survival far out: the DDM's against its series in many digits, others against quadrature."""

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from laws import LIKELIHOODS, OWN, by_name, load, random_thetas
from scipy import integrate, optimize

import hddm_sbi as hs
from hddm_sbi.likelihoods.decision import DecisionLikelihood, outcome_rows

THETA = {"v": 1.0, "a": 1.1, "z": 0.4, "t0": 0.3}
#: closed forms and learned likelihoods with an end, a heavy tail, a race, a delay, a drift that varies.
FAR = [(name, "exact") for name in ("ddm_sdv", "angle", "lba", "rdm", "lnr")]
FAR += [(name, "neural") for name in ("ddm", "angle", "lba", "levy", "weibull", "full_ddm")]
FAR += [OWN]
#: closed forms with a power law: more survive at any time.
HEAVY = ("lba",)


def survival_of_ddm(t, v, a, z, t0):
    """P(T > t) from the eigenfunctions of both bounds, A = 2a: the terms of Navarro & Fuss (2009), integrated."""
    area, total = (2 * a) ** 2, mpmath.mpf(0)
    for sign, w in ((1, z), (-1, 1 - z)):
        rest, k = mpmath.mpf(1), 0
        while rest > mpmath.eps:
            k += 1
            rate = v**2 / 2 + (k * mpmath.pi) ** 2 / (2 * area)
            rest = mpmath.exp(-(k**2 - 1) * mpmath.pi**2 / (2 * area) * (t - t0))
            term = k * mpmath.sin(k * mpmath.pi * w) * mpmath.exp(-rate * (t - t0)) / rate
            total += mpmath.pi / area * mpmath.exp(-sign * v * 2 * a * w) * term
    return total


@pytest.mark.parametrize("t", [0.6, 2.0, 10.0, 60.0, 400.0, 455.0, 466.0, 800.0, 8e3, 8e4])
def test_ddm_survives_as_its_series_says(t):
    """1.0 to 1e-307, and as a logarithm to 1e-52800: relative 1e-10, and the gradient of the log to 1e-8."""
    at = {name: torch.tensor(x, dtype=torch.float64, requires_grad=True) for name, x in THETA.items()}
    exact = hs.load_likelihood("ddm", kind="exact")
    rows = torch.stack([at[name] for name in exact.simulator.names]).unsqueeze(0)
    log_survival = exact.log_survival_rows(torch.tensor([t], dtype=torch.float64), rows)
    gradient = torch.autograd.grad(log_survival.sum(), list(at.values()))
    with mpmath.workdps(60):
        expected = survival_of_ddm(mpmath.mpf(t), *map(mpmath.mpf, THETA.values()))
        assert abs(float(log_survival.detach()[0]) - mpmath.log(expected)) < 1e-10
        if expected > 1e-307:
            assert abs(float(exact.survival([t], THETA)[0]) / expected - 1) < 1e-10
        for i, found in enumerate(gradient):
            point = [mpmath.mpf(x) for x in THETA.values()]
            slope = mpmath.diff(
                lambda x, i=i, p=point: mpmath.log(survival_of_ddm(t, *p[:i], x, *p[i + 1 :])), point[i]
            )
            assert float(found) == pytest.approx(float(slope), rel=1e-8, abs=1e-9)


def survival_of_varying_drift(t, v, a, z, sv):
    """P(T > t) of a drift from N(v, sv²): the terms of the series, each averaged by the Faddeeva function, A = 2a."""
    A, q = 2 * a, sv**2
    D, u, total, rest, k = 1 + q * t, t / A**2, mpmath.mpf(0), mpmath.mpf(1), 0
    s = mpmath.sqrt(q / D) * A
    while rest > mpmath.eps:
        k += 1
        rest = mpmath.exp(-((k * mpmath.pi) ** 2) * u / 2)
        for c in (A * (1 - z), -A * z):
            at = ((v + q * c) / D * A + 1j * k * mpmath.pi) / (s * mpmath.sqrt(2))
            mean = (
                mpmath.re(mpmath.exp(-at * at) * mpmath.erfc(-1j * at))
                * mpmath.sqrt(mpmath.pi / 2)
                / (k * mpmath.pi * s)
            )
            weight = k * rest * mpmath.sin(k * mpmath.pi * abs(c) / A)
            total += weight * mean * mpmath.exp((q * c * c + 2 * c * v - v * v * t) / (2 * D))
    return 2 * mpmath.pi * total / mpmath.sqrt(D)


def survival_of_angle(t, v, a, z, theta):
    """The same on the clock on which bounds stand still (simulators/angle.py)."""
    q = mpmath.tan(theta) / a
    return survival_of_varying_drift(t / (1 - q * t), v + q * (2 * z - 1) * a, a, z, mpmath.sqrt(q))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("name", "survival", "most"), [("ddm_sdv", survival_of_varying_drift, 4.0), ("angle", survival_of_angle, 1.2)]
)
def test_survival_of_a_drift_that_differs_in_many_digits(name, survival, most, seed):
    """Inside and outside the box, before and after the series change: log S and its gradient to 1e-10."""
    rng = np.random.default_rng(seed)
    point = [
        rng.normal(0, 3),
        rng.uniform(0.3, 2.5),
        rng.choice([0.02, 0.4, 0.97]),
        most * rng.choice([1e-5, 0.1, 0.8]),
    ]
    t = (2 * point[1]) ** 2 * float(np.exp(rng.uniform(-3.5, 1.5)))
    if name == "angle":
        t = min(t, 0.97 * point[1] / math.tan(point[3]))
    theta, log_s, gradient = np.array([*point[:3], 0.25, point[3]]), np.empty(1), np.empty((5, 1))
    hs.load_simulator(name).log_survival(theta, 0, np.array([0.25 + t]), log_s, gradient)

    def exact(t, *point):
        return mpmath.log(survival(t, *map(mpmath.mpf, point)))

    with mpmath.workdps(60):
        t = mpmath.mpf(0.25 + t) - mpmath.mpf(0.25)
        assert log_s[0] == pytest.approx(float(exact(t, *point)), abs=1e-10)
        for i, of in enumerate((0, 1, 2, None, 3)):
            step = mpmath.mpf(10) ** -15
            if of is None:
                slope = (exact(t - step, *point) - exact(t + step, *point)) / (2 * step)
            else:
                ends = [[x + sign * step * (j == of) for j, x in enumerate(map(mpmath.mpf, point))] for sign in (-1, 1)]
                slope = (exact(t, *ends[1]) - exact(t, *ends[0])) / (2 * step)
            assert gradient[i, 0] == pytest.approx(float(slope), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(("name", "kind"), FAR)
def test_survival_is_the_integral_of_the_density(name, kind):
    """Against scipy's adaptive quadrature over log decision time, where 0.1 to 1e-100 survive; closed forms 1e-310."""
    likelihood = load(name, kind)
    row = torch.tensor(random_thetas(likelihood.simulator, 1, 7, margin=0.3))
    shift = float(by_name(likelihood.simulator, row.numpy())[likelihood.simulator.symmetries.shift][0])
    closing = likelihood.simulator.clock.closing
    end = math.inf if closing is None else float(1 / closing(by_name(likelihood.simulator, row))[0])
    choices = range(len(likelihood.simulator.choices))

    def log_density(y):
        """Of log decision times (n,): of all responses together."""
        trials = torch.cat([outcome_rows(shift + np.exp(y), np.full(len(y), c)) for c in choices])
        log_p = likelihood.log_prob_rows(trials, row.expand(len(trials), -1)).reshape(len(choices), -1)
        return torch.logsumexp(log_p, 0).numpy() + y

    def log_survival(decision):
        return float(likelihood.log_survival_rows(torch.tensor([shift + decision], dtype=torch.float64), row)[0])

    times = [1.0, 4.0, 30.0] if end == math.inf else [0.5 * end, 0.9 * end, 0.99 * end]
    if kind == "exact":
        least, last = math.log(1e-310), 1e12 if end == math.inf else (1 - 1e-9) * end
        assert (log_survival(last) < least) == (name not in HEAVY)
        if name not in HEAVY:
            times.append(optimize.brentq(lambda t: max(log_survival(t), 2 * least) - least, times[0], last))
    for decision in times:
        found = log_survival(decision)
        first = math.log(decision)
        unit = log_density(np.array([first]))[0]
        ends = [first, *(first + 10.0 ** np.linspace(-5, 1.7, 40))]
        ends = [y for y in ends if y < math.log(end)] + ([math.log(end)] if end < math.inf else [])
        pieces = itertools.pairwise(ends)
        whole = sum(
            integrate.cubature(
                lambda y, u=unit: np.exp(log_density(y[:, 0]) - u), [a], [b], rtol=1e-9, atol=1e-14
            ).estimate
            for a, b in pieces
        )
        assert found == pytest.approx(unit + math.log(whole), abs=1e-6)


@pytest.mark.parametrize(("name", "kind"), [*LIKELIHOODS, OWN], ids=[" ".join(each) for each in [*LIKELIHOODS, OWN]])
def test_gradient_of_log_survival_far_out(name, kind):
    """Central differences by every parameter; a closed form in place of the quadrature agrees with it."""
    likelihood = load(name, kind)
    theta = torch.tensor(random_thetas(likelihood.simulator, 2, 8, margin=0.3))
    rt, at = torch.tensor([3.0, 9.0]).double(), theta.clone().requires_grad_()
    value = likelihood.log_survival_rows(rt, at)
    (gradient,) = torch.autograd.grad(value[torch.isfinite(value)].sum(), at)
    by_quadrature = DecisionLikelihood.log_survival_rows(likelihood, rt, theta)
    torch.testing.assert_close(value.detach(), by_quadrature, rtol=1e-6, atol=1e-6)
    for column, p in enumerate(likelihood.simulator.parameters):
        if p.from_data:
            continue
        step = torch.zeros(len(likelihood.simulator.names)).double().index_fill(0, torch.tensor(column), 1e-5)
        up, down = (likelihood.log_survival_rows(rt, theta + sign * step) for sign in (1, -1))
        slope = torch.where(torch.isfinite(value), (up - down) / 2e-5, 0.0).detach()
        torch.testing.assert_close(
            gradient[:, column], slope, rtol=1e-4, atol=1e-6, msg=lambda m, p=p: f"{p.name}: {m}"
        )

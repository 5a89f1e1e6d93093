"""Models against their equations: simulators, closed forms and declared symmetries of diffusions.

The reference of every density is `passage.first_passage`, which shares nothing with the simulators; of the closed
forms also mpmath, and of the Lévy model the exit laws of stable processes.
"""

import dataclasses
import math
from collections.abc import Callable

import laws
import mpmath
import numpy as np
import pytest
import torch
from laws import FALSE_ALARM, goodness_of_fit
from scipy import special

import hddm_sbi as hs
from hddm_sbi.likelihoods.catalogue import names
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.exact import ExactLikelihood
from hddm_sbi.simulation.first_passage import (
    _FIRST,
    _ROOT_END,
    Diffusion,
    Passage,
    Solution,
    _left_out,
    _power_beginning,
    constant,
    crowded,
    first_passage,
    grid,
)

Density = Callable[[np.ndarray], np.ndarray]


def angle(v: float, a: float, z: float, theta: float) -> Diffusion:
    slope = math.tan(theta)
    return Diffusion((2 * z - 1) * a, constant(v), lambda t: a - slope * t, constant(-slope))


CLOSED = ("ddm_sdv", "angle")
SOLVED = tuple(name for name in names() if hs.load_simulator(name).passage and hs.load_simulator(name).trial)
RACES = tuple(name for name in names() if hs.load_simulator(name).passage and hs.load_simulator(name).accumulator)


def exact_log_density(name: str, theta: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Log density (2, n) of one theta by the declared closed form."""
    likelihood = ExactLikelihood(hs.load_simulator(name))
    rows = torch.tensor(np.tile(theta, (len(t), 1)))
    choices = [torch.full((len(t),), choice) for choice in (0, 1)]
    return np.stack(
        [likelihood.log_prob_rows(outcome_rows(torch.tensor(t), choice), rows).numpy() for choice in choices]
    )


def full_ddm_density(theta: dict[str, float], t: np.ndarray) -> np.ndarray:
    """(2, n), Gauss quadrature over the start and over the delay of the model with variable drift (tested below)."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    density = np.zeros((2, len(t)))
    for start, start_weight in zip(nodes, weights, strict=True):
        z = theta["z"] + theta["sz"] * start / 2
        for delay, delay_weight in zip(nodes, weights, strict=True):
            t0 = theta["st0"] * (delay + 1) / 2
            one = exact_log_density("ddm_sdv", np.array([theta["v"], theta["a"], z, t0, theta["sv"]]), t)
            density += start_weight / 2 * delay_weight / 2 * np.exp(one)
    return density


def reference(name: str, theta: np.ndarray, t_max: float) -> Passage:
    """Density of the decision time at one theta (t0 = 0): the model's own equation, or its closed form."""
    passage = hs.load_simulator(name).passage
    if passage is not None:
        return passage(*theta, t_max=t_max)

    def closed(t: np.ndarray) -> np.ndarray:
        return exact_log_density(name, theta, t)

    return Passage(lambda n: Solution(grid(t_max, n), np.zeros((2, n + 1)), closed))


def random_thetas(name: str, n: int, seed: int) -> np.ndarray:
    """n parameter sets, uniform in the box, with t0 = 0 and a condition's code at either of its two values."""
    simulator = hs.load_simulator(name)
    theta = laws.random_thetas(simulator, n, seed)
    theta[:, simulator.names.index("t0")] = 0.0
    return theta


def fit(name: str, theta: np.ndarray, n: int, seed: int) -> float:
    """Smallest p-value of n trials of one theta (t0 = 0) against the reference."""
    return goodness_of_fit(hs.load_simulator(name), theta, n, seed, lambda row, t_max: reference(name, row, t_max))


# ---- the reference itself


#: decision times in units of a², from where the density is exp(-1e5) on.
UNITS = np.geomspace(1e-6, 4.0, 40)


@pytest.mark.parametrize(
    "theta", [(1.0, 1.0, 0.5, 0.0), (3.0, 0.5, 0.2, 0.0), (-5.0, 2.5, 0.9, 0.0), (0.0, 0.3, 0.5, 0.0)]
)
def test_reference_reproduces_the_wiener_process(theta):
    """Error of log densities below 1e-6, and below rounding where they are huge; of 500 points, 1e-8."""
    v, a, z, _ = theta
    t = UNITS * a * a
    passage = first_passage(Diffusion((2 * z - 1) * a, constant(v), constant(a), constant(0.0)), t[-1])
    expected = exact_log_density("ddm", np.array(theta), t)
    np.testing.assert_allclose(passage.log_density(t), expected, rtol=1e-12, atol=1e-6)
    np.testing.assert_allclose(passage.solve(500).log_density(t), expected, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("g", [1.3, -0.7])
def test_reference_with_leak_and_moving_bounds(g):
    """x = e^-gt B(s), s = (e^2gt - 1) / 2g, leaks at rate g; between e^-gt and -e^-gt it is the Wiener process in s."""
    moving = Diffusion(0.3, constant(0.0), lambda t: np.exp(-g * t), lambda t: -g * np.exp(-g * t), leak=g)
    t = np.linspace(0.0, 1.2, 51)[1:]
    clock = np.expm1(2 * g * t) / (2 * g)
    expected = exact_log_density("ddm", np.array([0.0, 1.0, 0.65, 0.0]), clock) + 2 * g * t
    np.testing.assert_allclose(first_passage(moving, 1.2).log_density(t), expected, atol=1e-6)


def test_a_start_that_varies_between_trials():
    """A uniform start between moving bounds by 12 nodes, against the mean of solutions from each: 1e-10."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    t = np.linspace(0.05, 2.0, 30)

    def moving(start: float | np.ndarray, weight: float | np.ndarray = 1.0) -> np.ndarray:
        falling = angle(0.8, 1.0, 0.5, 0.3)
        return first_passage(dataclasses.replace(falling, start=start, weight=weight), 2.0).solve(500).log_density(t)

    each = np.stack([moving(0.4 * node) for node in nodes])
    mean = special.logsumexp(each, axis=0, b=weights[:, None, None] / 2)
    np.testing.assert_allclose(moving(0.4 * nodes, weights / 2), mean, atol=1e-10)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 2.05, 3.0, 4.3])
def test_a_start_that_may_be_next_to_the_bounds(alpha):
    """Beta(alpha, alpha) between them, without drift, by `crowded`: 1e-6 against the expansion of what survives in the
    cosines that vanish at the bounds; the mean of each over the start is a Bessel function (Poisson's integral)."""
    shares, weights = crowded()
    law = (shares * (1.0 - shares)) ** (alpha - 1.0) / special.beta(alpha, alpha)
    start = 2.0 * shares - 1.0
    spread = Diffusion(start, constant(0.0), constant(1.0), constant(0.0), weight=weights * law, edge=alpha - 1.0)
    passage, t = first_passage(spread, 4.0), np.geomspace(0.001, 4.0, 20)
    rate = np.arange(1, 300, 2)[:, None] * math.pi / 2.0
    means = special.gamma(alpha + 0.5) * (2.0 / rate) ** (alpha - 0.5) * special.jv(alpha - 0.5, rate)
    each = 2.0 / rate * np.sin(rate) * means * np.exp(-(rate**2) * t / 2.0)
    np.testing.assert_allclose(passage.mass(t).sum(0), 1.0 - each.sum(0), rtol=1e-6)
    density = np.log((each * rate**2 / 2.0).sum(0))
    np.testing.assert_allclose(special.logsumexp(passage.solve(500).log_density(t), axis=0), density, atol=1e-6)


@pytest.mark.parametrize("power", [0.5, 1.0, 1.7, 3.2])
def test_correction_of_a_beginning_like_a_power(power):
    """int_0^inf s^power exp(-s / 9) ds by trapezoids of unit width: 1e-5."""
    s = np.arange(1.0, 1_000.0)
    values = s**power * np.exp(-s / 9.0)
    corrected = values.sum() + _power_beginning(power) @ values[:_FIRST]
    assert corrected == pytest.approx(special.gamma(power + 1.0) * 9.0 ** (power + 1.0), rel=1e-5)


def test_corrections_of_the_last_panels():
    """They integrate e^(k + 1/2) exactly, k = 0 ... 7, up to a power of the panel: sum_j w_j j^(k + 1/2) = zeta."""
    for k in range(8):
        moments = _ROOT_END * np.arange(1.0, 9.0) ** (k + 0.5)
        assert abs(math.fsum(moments) - float(mpmath.zeta(-0.5 - k))) < 1e-13 * np.abs(moments).max()


@pytest.mark.parametrize("x", [1.5, 3.0, 20.0, 800.0])
def test_correction_of_a_steep_root(x):
    """Gamma(3/2) x^-3/2 - Li_-1/2(e^-x), 1e-12: the latter is the sum of j^1/2 e^-xj (Jonquiere)."""
    expected = mpmath.gamma(1.5) * mpmath.mpf(x) ** -1.5 - mpmath.polylog(-0.5, mpmath.exp(-x))
    assert _left_out(x) == pytest.approx(float(mpmath.re(expected)), rel=1e-12)


def test_a_grid_that_is_too_coarse_is_refused():
    """Grids of 20 and 40 points, and late decisions of which 800 nats below the source are asked."""
    passage = first_passage(angle(1.0, 1.0, 0.5, 0.5), 1.5)
    t = np.linspace(0.1, 1.5, 20)
    passage.log_density(t)
    with pytest.raises(ArithmeticError, match="on 40 and on fewer points differ by"):
        dataclasses.replace(passage, grids=(20, 40)).log_density(t)
    late = first_passage(Diffusion(0.0, constant(0.0), constant(0.3), constant(0.0)), 60.0)
    with pytest.raises(ArithmeticError, match="points differ by"):
        late.log_density(np.array([59.0]))


def test_full_ddm_by_quadrature():
    """The declared density against Gauss quadrature over start and delay, 1e-6."""
    simulator = hs.load_simulator("full_ddm")
    for theta in random_thetas("full_ddm", 2, seed=11):
        theta[6] = max(theta[6], 0.02)
        values = dict(zip(simulator.names, theta, strict=True))
        # The quadrature over the delay is good to 1e-6 once the whole of it lies in the past.
        late = np.linspace(theta[6] + 0.1 * theta[1] ** 2, 3.0, 10)
        found = simulator.passage(*theta, t_max=3.0).log_density(late)
        np.testing.assert_allclose(found, np.log(full_ddm_density(values, late)), atol=1e-6)


# ---- simulators


@pytest.mark.parametrize("name", [*SOLVED, *RACES, *CLOSED])
@pytest.mark.parametrize(("n_thetas", "n"), [(3, 50_000), pytest.param(10, 1_000_000, marks=pytest.mark.slow)])
def test_simulator_agrees_with_the_equation(name, n_thetas, n):
    """Mean, choice shares and distribution at random thetas, each at a false-alarm rate of 5.7e-7 (5 se)."""
    for k, theta in enumerate(random_thetas(name, n_thetas, seed=n_thetas)):
        assert fit(name, theta, n, seed=k) > FALSE_ALARM, (name, theta.tolist())


@pytest.mark.parametrize(
    ("name", "theta"),
    [
        ("weibull", (2.0, 2.0, 0.5, 0.0, 0.31, 5.0)),  # infinite speed of collapse at first
        ("weibull", (0.0, 1.5, 0.8, 0.0, 5.0, 0.5)),  # sudden collapse
        ("ornstein", (0.0, 1.6, 0.5, 0.0, 1.0)),  # longer than one lap of the clock
        ("ornstein", (1.0, 2.5, 0.2, 0.0, -1.0)),  # the clock comes to an end
        ("ddm_exp", (3.0, 1.2, 0.65, 0.0, 6.0)),  # a choice made in 1.5 of 10 000 trials
        ("dmc", (4.8, 2.36, 0.0, 0.06, 0.05, 3.2, 2.5, 0.0, -1.0)),  # an impulse much briefer than the decision
        ("dmc", (7.3, 0.81, 0.0, 0.47, 0.19, 2.1, 9.0, 0.1, 1.0)),  # an impulse that decides
        ("ssp", (8.0, 2.0, 0.0, 0.05, 3.0, 0.4, 0.1, -1.0)),  # the spotlight closes early
    ],
)
def test_hard_cases(name, theta):
    """200 000 trials, false alarms as above."""
    assert fit(name, np.array(theta), 200_000, seed=1) > FALSE_ALARM


# ---- closed forms


def driftless(t: mpmath.mpf, w: mpmath.mpf, A: mpmath.mpf) -> mpmath.mpf:
    """Density at the lower bound of a Wiener process without drift, by the series for short times (Feller 1968)."""
    u = t / A**2
    terms = ((w + 2 * k) * mpmath.exp(-((w + 2 * k) ** 2) / (2 * u)) for k in range(-30, 31))
    return mpmath.fsum(terms) / mpmath.sqrt(2 * mpmath.pi * u**3) / A**2


def angle_in_digits(t: mpmath.mpf, v: mpmath.mpf, a: mpmath.mpf, z: mpmath.mpf, theta: mpmath.mpf) -> mpmath.mpf:
    """Lower bound, in the form of the change of measure: f0(s) (1 - t/T)^-3/2 exp(-x0²/2T + a²(T-t)/2T² + v (x_c - x0)
    - v² t/2), with x_c = -a (1 - t/T) where it ends."""
    x0, T = (2 * z - 1) * a, a / mpmath.tan(theta)
    left = 1 - t / T
    exponent = -(x0**2) / (2 * T) + a**2 * left / (2 * T) + v * (-a * left - x0) - v * v * t / 2
    return mpmath.log(driftless(t / left, z, 2 * a)) - 1.5 * mpmath.log(left) + exponent


def ddm_sdv_in_digits(t: mpmath.mpf, v: mpmath.mpf, a: mpmath.mpf, z: mpmath.mpf, sv: mpmath.mpf) -> mpmath.mpf:
    """Lower bound: the integral over the drift, done by completing the square (and by quadrature below)."""
    c, spread = 2 * a * z, 1 + sv**2 * t
    exponent = ((sv * c) ** 2 - 2 * v * c - v * v * t) / (2 * spread)
    return mpmath.log(driftless(t, z, 2 * a)) - mpmath.log(spread) / 2 + exponent


IN_DIGITS = {"angle": angle_in_digits, "ddm_sdv": ddm_sdv_in_digits}


def test_integral_over_the_drift():
    """Completing the square against quadrature in 30 digits, 1e-15."""
    with mpmath.workdps(30):
        t, v, a, z, sv = (mpmath.mpf(x) for x in ("0.7", "1.2", "0.9", "0.4", "0.8"))

        def joint(d: mpmath.mpf) -> mpmath.mpf:
            return mpmath.npdf(d, v, sv) * driftless(t, z, 2 * a) * mpmath.exp(-d * 2 * a * z - d * d * t / 2)

        integral = mpmath.log(mpmath.quad(joint, mpmath.linspace(-10, 12, 23)))
        assert abs(integral - ddm_sdv_in_digits(t, v, a, z, sv)) < 1e-15


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_and_gradient_against_high_precision(name):
    """60 points over the box and decision times from 1e-3 a² to the tail: 1e-10, relative where |value| > 1."""
    theta = random_thetas(name, 60, seed=6)
    rng = np.random.default_rng(7)
    t = theta[:, 1] ** 2 * np.exp(rng.uniform(np.log(1e-3), np.log(4.0), 60))
    if name == "angle":
        t = np.minimum(t, 0.9 * theta[:, 1] / np.tan(theta[:, 4]))
    theta[:, 3] = 0.25
    choice = rng.integers(0, 2, 60)
    at = torch.tensor(theta, requires_grad=True)
    value = ExactLikelihood(hs.load_simulator(name)).log_prob_rows(
        outcome_rows(torch.tensor(t + 0.25), torch.tensor(choice)), at
    )
    (gradient,) = torch.autograd.grad(value.sum(), at)
    with mpmath.workdps(60):
        h = mpmath.mpf("1e-20")
        for i in range(60):
            # The decision time that the code sees, rounded as the code rounds it.
            x = [mpmath.mpf(float(q)) for q in (t[i] + 0.25, *theta[i])]

            def f(
                rt: mpmath.mpf,
                v: mpmath.mpf,
                a: mpmath.mpf,
                z: mpmath.mpf,
                t0: mpmath.mpf,
                last: mpmath.mpf,
                upper: bool = choice[i] == 1,
            ) -> mpmath.mpf:
                return IN_DIGITS[name](rt - t0, -v if upper else v, a, 1 - z if upper else z, last)

            slope = [
                (f(*x[:j], x[j] + h, *x[j + 1 :]) - f(*x[:j], x[j] - h, *x[j + 1 :])) / (2 * h) for j in range(1, 6)
            ]
            expected = np.array([float(q) for q in (f(*x), *slope)])
            got = np.array([float(value[i].detach()), *gradient[i].tolist()])
            assert np.max(np.abs(got - expected) / np.maximum(1.0, np.abs(expected))) < 1e-10, (theta[i], t[i])


def test_angle_agrees_with_the_equation():
    """The closed form against the integral equation, 1e-6, from decisions within 1e-4 of the time that there is on."""
    for theta in random_thetas("angle", 6, seed=8):
        v, a, z, _, collapse = theta
        t = np.geomspace(1e-4, 0.6, 30) * min(a / math.tan(collapse), 4 * a * a)
        found = first_passage(angle(v, a, z, collapse), t[-1]).log_density(t)
        np.testing.assert_allclose(found, exact_log_density("angle", theta, t), rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("name", CLOSED)
def test_mass_is_one(name):
    """Trapezoid in log t (for `angle` in the log odds of t / T): 1e-8."""
    for theta in random_thetas(name, 8, seed=9):
        y = np.linspace(-16.0, 16.0, 20_001)
        t = np.exp(y)
        by_y = t
        if name == "angle":
            end = theta[1] / math.tan(theta[4])
            t, by_y = end * special.expit(y), end * special.expit(y) * special.expit(-y)
        density = np.exp(exact_log_density(name, theta, t)).sum(0) * by_y
        assert abs(np.trapezoid(density, y) - 1.0) < 1e-8


@pytest.mark.parametrize("name", CLOSED)
def test_without_variability_or_collapse_it_is_the_ddm(name):
    t = np.geomspace(1e-3, 20.0, 50)
    theta = np.array([1.2, 0.9, 0.4, 0.1])
    expected = exact_log_density("ddm", theta, t)
    np.testing.assert_allclose(exact_log_density(name, np.append(theta, 0.0), t), expected, rtol=1e-12)


def test_nothing_outside_the_support_of_the_angle_model():
    """Below t0 and after the bounds have met at t0 + T: density and gradient are 0."""
    likelihood = ExactLikelihood(hs.load_simulator("angle"))
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3, math.atan(0.5)]] * 4, dtype=torch.float64, requires_grad=True)
    rt = torch.tensor([0.3, 0.5, 2.29, 2.31], dtype=torch.float64)
    value = likelihood.log_prob_rows(outcome_rows(rt, torch.ones(4, dtype=torch.int64)), theta)
    assert torch.isfinite(value).tolist() == [False, True, True, False]
    (gradient,) = torch.autograd.grad(value[1:3].sum() + value[[0, 3]].sum(), theta)
    assert torch.isfinite(gradient).all()
    assert not gradient[[0, 3]].any()


# ---- symmetries


@pytest.mark.parametrize("name", [*SOLVED, *CLOSED])
def test_declared_symmetries_hold_in_the_equation(name):
    """The density at a theta and at its scaled and its mirrored image, 1e-6 of the peak (solver: 1 000 points)."""
    simulator = hs.load_simulator(name)
    symmetries = simulator.symmetries
    theta = random_thetas(name, 1, seed=10)[0]
    if symmetries.delay is not None:
        theta[simulator.names.index(symmetries.delay)] = 0.0  # it has no scale: the network is without it
    end = theta[simulator.names.index("a")] ** 2
    if name == "angle":
        end = min(end, 0.9 * theta[1] / math.tan(theta[4]))
    t = np.linspace(0.02, 1.0, 50) * end
    original = reference(name, theta, end).log_density(t)
    mirrored = theta.copy()
    for column, parameter in enumerate(simulator.names):
        if parameter in symmetries.negated:
            mirrored[column] *= -1
        elif parameter in symmetries.complemented:
            mirrored[column] = 1 - mirrored[column]
    own = len(simulator.per_choice)
    mirrored[:own] = mirrored[:own][::-1]
    assert np.abs(reference(name, mirrored, end).log_density(t)[::-1] - original).max() < 1e-6
    if symmetries.scale is None:
        return
    at = dict(zip(simulator.names, theta, strict=True))
    b = at[symmetries.scale]
    stretch = b ** laws.power_at(symmetries.time_power, at)
    factor = {p: b ** laws.power_at(symmetries.scale_powers.get(p, 0.0), at) for p in simulator.names}
    scaled = [
        1.0
        if p == symmetries.scale
        else math.atan(math.tan(x) * factor[p])
        if p in symmetries.tangents
        else x * factor[p]
        for p, x in at.items()
    ]
    reduced = reference(name, np.array(scaled), end / stretch).log_density(t / stretch)
    assert np.abs(reduced - math.log(stretch) - original).max() < 1e-6

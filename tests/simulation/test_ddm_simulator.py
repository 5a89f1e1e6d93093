"""Simulated trials of the DDM against the closed form: means, choice shares, whole distributions."""

import numpy as np
import pytest
import torch
from laws import FALSE_ALARM, chi_square_p, edges_of
from scipy import stats

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.decision import outcome_rows

SIMULATOR = hs.load_simulator("ddm")
EXACT = hs.load_likelihood("ddm", kind="exact")


def closed_form(v: np.ndarray, a: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(upper) and mean decision time of a Wiener process between -a and a from (2z - 1) a (Cox & Miller 1965)."""
    x = (2 * z - 1) * a
    p = np.expm1(-2 * v * (x + a)) / np.expm1(-4 * v * a)
    return p, ((2 * p - 1) * a - x) / v


@pytest.mark.parametrize("n", [200_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_mean_and_choice_share_agree_with_the_closed_form(n):
    """20 random parameter sets, n trials each, 40 statistics within 5 standard errors: false alarms 2.3e-5."""
    rng = np.random.default_rng(1)
    low, high = np.array(list(SIMULATOR.box.values())).T
    theta = low + (high - low) * rng.random((20, 4))
    p, mean = closed_form(*theta[:, :3].T)
    for k, row in enumerate(theta):
        rt, choice = SIMULATOR.simulate(np.tile(row, (n, 1)), seed=k)
        # +1 trial: a choice so rare that none is expected has no standard error of its own.
        assert abs(choice.mean() - p[k]) < 5 * np.sqrt(p[k] * (1 - p[k]) / n) + 1 / n
        assert abs(rt.mean() - row[3] - mean[k]) < 5 * rt.std() / np.sqrt(n)


@pytest.mark.parametrize(
    "theta", [(0.0, 1.0, 0.5, 0.0), (2.0, 0.7, 0.3, 0.2), (-4.5, 2.4, 0.85, 1.0), (0.1, 0.3, 0.1, 0.0)]
)
def test_distribution_agrees_with_the_density(theta):
    """400 000 trials in up to 40 bins per choice, at the false-alarm rate of the laws, per theta."""
    rows = np.tile(theta, (400_000, 1))
    pilot, trials = (SIMULATOR.simulate(rows, seed) for seed in (11, 12))

    def cdf(choice: int, t: np.ndarray) -> np.ndarray:
        return EXACT.cdf_rows(
            outcome_rows(torch.tensor(t), torch.full((len(t),), choice)), torch.tensor(rows[: len(t)])
        ).numpy()

    assert chi_square_p(*trials, edges_of(*pilot, 2, bins=40), cdf) > FALSE_ALARM


def test_exit_time_of_a_symmetric_interval():
    """Kolmogorov-Smirnov, 200 000 trials, false-alarm rate 1e-6.

    P(T > t) = 4/pi sum (-1)^k / (2k+1) exp(-(2k+1)² pi² t / 8).
    """
    rt, _ = SIMULATOR.simulate(np.tile([0.0, 1.0, 0.5, 0.0], (200_000, 1)), seed=5)
    k = np.arange(200)[:, None]

    def cdf(t: np.ndarray) -> np.ndarray:
        odd = 2 * k + 1
        return 1 - 4 / np.pi * np.sum((-1.0) ** k / odd * np.exp(-(odd**2) * np.pi**2 * t / 8), axis=0)

    t = np.sort(rt)
    steps = np.arange(1, len(t) + 1) / len(t)
    distance = np.max(np.abs(cdf(t[::50]) - steps[::50]))
    # Kolmogorov's distribution at 1e-6, plus the spacing of the points compared.
    assert distance < stats.kstwobign.isf(1e-6) / np.sqrt(len(t)) + 50 / len(t)


def test_extreme_drift_neither_overflows_nor_stalls():
    rt, choice = SIMULATOR.simulate(np.tile([200.0, 5.0, 0.5, 0.0], (1_000, 1)), seed=1)
    assert np.isfinite(rt).all()
    assert choice.all()
    assert abs(rt.mean() - 5.0 / 200.0) < 5 * rt.std() / np.sqrt(1_000)


@pytest.mark.parametrize("threads", [2, 3])
def test_same_seed_same_bytes_on_any_number_of_threads(threads):
    theta = np.tile([1.0, 1.0, 0.5, 0.3], (50_001, 1))
    one, many = SIMULATOR.simulate(theta, 9), SIMULATOR.simulate(theta, 9, threads)
    assert one[0].tobytes() == many[0].tobytes()
    assert one[1].tobytes() == many[1].tobytes()
    assert SIMULATOR.simulate(theta, 10)[0].tobytes() != one[0].tobytes()


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ([[1.0, -1.0, 0.5, 0.3]], "'a'.*row 0"),
        ([[1.0, 1.0, 0.5, 0.3], [np.nan, 1.0, 0.5, 0.3]], "'v'.*row 1"),
        ([[1.0, 1.0, 1.5, 0.3]], "'z'"),
        ([[1.0, 1.0, 0.5, -0.1]], "'t0'"),
        ([[1.0, 1.0, 0.5]], "one column for each"),
    ],
)
def test_bad_parameters_are_named(theta, message):
    with pytest.raises(InputError, match=message):
        SIMULATOR.simulate(np.array(theta), seed=1)


def test_simulate_returns_a_table_of_trials():
    table = hs.simulate("ddm", {"v": [1.0, 2.0], "a": 1.0, "z": 0.5, "t0": 0.3}, seed=1)
    assert table.columns.tolist() == ["rt", "response"]
    assert set(table["response"]) <= {-1, 1}
    with pytest.raises(InputError, match="n_trials is needed"):
        hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, seed=1)
    with pytest.raises(InputError, match="did you mean 't0'"):
        hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t": 0.3}, 10, seed=1)

"""Races of independent accumulators: what makes a race, and the closed forms of their densities."""

import dataclasses

import mpmath
import numpy as np
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import load_simulator, names
from hddm_sbi.likelihoods.decision import outcome_rows

RACES = [name for name in names() if load_simulator(name).accumulator and load_simulator(name).log_density]


@pytest.fixture(scope="module", params=RACES)
def race(request):
    return load_simulator(request.param)


def uniform_theta(race, n, seed):
    low, high = np.array(list(race.box.values())).T
    return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))


def test_choices_are_a_property_of_the_simulator(race):
    assert race.stems == {stem: tuple(f"{stem}{c}" for c in race.choices) for stem in race.symmetries.per_choice}
    assert race.names == (*race.per_choice, "t0")
    assert race.trial is None


def test_either_a_trial_or_an_accumulator():
    lba, ddm = load_simulator("lba"), load_simulator("ddm")
    with pytest.raises(InputError, match="either a trial or an accumulator"):
        dataclasses.replace(lba, accumulator=None)
    with pytest.raises(InputError, match="either a trial or an accumulator"):
        dataclasses.replace(lba, trial=ddm.trial)
    with pytest.raises(InputError, match="accumulator of 'lba' must take the arguments"):
        dataclasses.replace(lba, accumulator=ddm.trial)


def test_gradient_of_the_closed_form(race):
    """Central differences of step 1e-5, whose own error is 1e-6 of the third derivative: all but the sharpest 5 %."""
    exact = hs.load_likelihood(race.name, kind="exact")
    theta = uniform_theta(race, 200, 4)
    rt, choice = race.simulate(theta, 4)

    def log_p(rows):
        return exact.log_prob_rows(outcome_rows(rt, choice), rows)

    at = torch.tensor(theta, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_p(at).sum(), at)
    for j in range(theta.shape[1]):
        step = 1e-5 * np.eye(theta.shape[1])[j]
        difference = (log_p(torch.tensor(theta + step)) - log_p(torch.tensor(theta - step))) / 2e-5
        error = ((difference - gradient[:, j]).abs() / (1 + gradient[:, j].abs())).numpy()
        assert np.quantile(error, 0.95) < 1e-6, race.names[j]


def phi(x):
    return mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi)


def cumulative(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def lnr(t, m, s):
    e = (mpmath.log(t) - m) / s
    return phi(e) / (s * t), cumulative(-e)


def lba(t, v, sv, A, B):
    """Brown & Heathcote (2008), equations 1 and 2, over the probability of a positive drift."""
    near, far = B - v * t, A + B - v * t
    x, y = near / (sv * t), far / (sv * t)
    f = (-v * cumulative(x) + sv * phi(x) + v * cumulative(y) - sv * phi(y)) / A
    F = 1 + (near * cumulative(x) - far * cumulative(y) + sv * t * (phi(x) - phi(y))) / A
    positive = cumulative(v / sv)
    return f / positive, 1 - F / positive


def rdm(t, v, A, B):
    """Averages over the starting point of the Wald density and survival function, by mpmath's quadrature."""

    def density(k):
        return k / mpmath.sqrt(2 * mpmath.pi * t**3) * mpmath.exp(-((k - v * t) ** 2) / (2 * t))

    def survival(k):
        root = mpmath.sqrt(t)
        return cumulative((k - v * t) / root) - mpmath.exp(2 * v * k) * cumulative(-(k + v * t) / root)

    # Where the threshold is far, nearly all of the density comes from the nearest starting points.
    pieces = [B + A * share for share in (0, 0.003, 0.01, 0.03, 0.1, 0.3, 1)]
    return tuple(mpmath.quad(f, pieces) / A for f in (density, survival))


@pytest.mark.parametrize("name", ["rdm", "lba"])
def test_nearly_impossible_times_are_finite_with_a_gradient(name):
    """Decision times so short that the density underflows: log p falls like -k² / 2t (rdm) and -k² / 2t² (lba)."""
    race = load_simulator(name)
    exact = hs.load_likelihood(name, kind="exact")
    row = race.theta_matrix({"v0": 2.0, "v1": 1.0, "A": 0.5, "B": 1.0, "t0": 0.3}, 3)
    theta = torch.tensor(row, requires_grad=True)
    t = torch.tensor([1e-3, 1e-5, 1e-6], dtype=torch.float64)
    log_p = exact.log_prob_rows(outcome_rows(0.3 + t, torch.zeros(3, dtype=torch.int64)), theta)
    (gradient,) = torch.autograd.grad(log_p.sum(), theta)
    leading = -1.0 / (2 * t if name == "rdm" else 2 * t**2)
    np.testing.assert_allclose((log_p.detach() / leading)[1:], 1.0, rtol=1e-3)
    assert torch.isfinite(gradient).all()
    assert (gradient[:, race.names.index("t0")] < 0).all()


REFERENCE = {"lnr": (lnr, 100, 60, 1e-12), "lba": (lba, 100, 400, 1e-12), "rdm": (rdm, 15, 60, 1e-9)}


@pytest.mark.parametrize("name", REFERENCE)
def test_closed_form_against_high_precision(name):
    """Two-choice log densities down to -700, decision times from 10 ms to 60 s, relative to max(1, |log p|)."""
    reference, n, digits, tolerance = REFERENCE[name]
    race = load_simulator(name)
    exact = hs.load_likelihood(name, kind="exact")
    theta = uniform_theta(race, n, 6)
    theta[:, -1] = 0.0
    t = np.exp(np.random.default_rng(7).uniform(np.log(0.01), np.log(60.0), n))
    found = exact.log_prob_rows(
        outcome_rows(torch.as_tensor(t), torch.zeros(n, dtype=torch.int64)), torch.as_tensor(theta)
    ).numpy()
    compared = 0
    with mpmath.workdps(digits):
        for i in range(n):
            at, *own = (mpmath.mpf(float(x)) for x in (t[i], *theta[i, :-1]))
            density = reference(at, *own[::2])[0] * reference(at, *own[1::2])[1]
            if density > mpmath.exp(-700):
                compared, true = compared + 1, float(mpmath.log(density))
                assert abs(found[i] - true) < tolerance * max(1.0, abs(true)), (t[i], theta[i], found[i], true)
    assert compared > n / 3


def test_a_stem_stands_for_all_accumulators():
    """Of simulations, densities and everything else that takes parameters by name; sv is 1 where nothing is said."""
    race = load_simulator("lba3")
    drifts = {"v0": 2.0, "v1": 1.0, "v2": 0.5}
    short = {**drifts, "A": 0.5, "B": 0.8, "B1": 0.9, "t0": 0.2}
    long = [2.0, 1.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.8, 0.9, 0.8, 0.2]
    assert race.theta_matrix(short, 1).tolist() == [long]
    with pytest.raises(InputError, match="theta lacks A0, A1, A2"):
        race.theta_matrix({**drifts, "B": 0.8, "t0": 0.2}, 1)


@pytest.mark.parametrize("n", [2, 3, 7, 10])
def test_a_race_of_any_number_of_choices(n):
    """Equal accumulators are chosen equally often: 20 000 trials, 5 standard errors, false alarms below 1e-5."""
    name = "lba" if n == 2 else f"lba{n}"
    theta = {"v": 2.0, "A": 0.5, "B": 0.8, "t0": 0.2}
    share = hs.simulate(name, theta, 20_000, seed=n)["response"].value_counts(normalize=True)
    assert (abs(share - 1 / n) < 5 * np.sqrt(1 / n * (1 - 1 / n) / 20_000)).all()
    assert len(share) == n
    assert hs.load_likelihood(name, "exact").choice_probabilities(theta).numpy() == pytest.approx(1 / n)


def test_more_choices_than_ten_are_refused():
    with pytest.raises(InputError, match="there is no model called 'lba11'"):
        load_simulator("lba11")

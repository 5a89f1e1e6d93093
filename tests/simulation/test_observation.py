"""How trials come to be seen: what is known of a trial is true of it, and what is kept was not removed."""

import numpy as np
import pytest

import hddm_sbi as hs
from hddm_sbi.likelihoods.cells import Ranges
from hddm_sbi.simulation import Observation

INF = np.inf


def observation(n, deadline=INF, withheld=None, censored=(0.0, INF), truncated=(0.0, INF), untimed=0, unanswered=0):
    everywhere = [np.full(n, end) for end in (deadline, *censored, *truncated)]
    rows = np.arange(n)
    return Observation(
        2,
        everywhere[0],
        withheld,
        tuple(everywhere[1:3]),
        tuple(everywhere[3:]),
        rows >= untimed,
        (rows < untimed) | (rows >= untimed + unanswered),
    )


def outcomes(n, seed=1):
    """Times around one second, half of them of either response."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.lognormal(0.0, 0.5, n), rng.integers(2, size=n).astype(float)], -1)


KINDS = {
    "deadline": {"deadline": 1.2},
    "go/no-go": {"withheld": 0},
    "go/no-go with a deadline": {"withheld": 0, "deadline": 1.2},
    "censored": {"censored": (0.5, 1.5)},
    "truncated": {"truncated": (0.5, 1.5)},
    "truncated before a deadline": {"truncated": (0.5, 2.0), "deadline": 1.2},
    "all": {"truncated": (0.4, INF), "censored": (0.6, 1.1), "deadline": 1.5, "withheld": 0},
    "by chance": {"untimed": 100, "unanswered": 100, "deadline": 1.4},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_known_of_a_trial_is_true_of_it(kind):
    values = outcomes(2_000)
    seen_by = observation(2_000, **kind)
    kept = ~seen_by.removed(values)
    assert 0.5 < kept.mean() <= 1.0
    seen = seen_by.seen(values)
    incomplete = kept & ~np.isfinite(seen).all(1)
    assert incomplete.sum() > 100 or not set(kind) - {"truncated"}
    low, high = (end[np.arange(2_000), values[:, 1].astype(int)] for end in seen_by.ranges(seen))
    point = low == high
    assert ((low < values[:, 0]) & (values[:, 0] <= high) | point & (values[:, 0] == low))[incomplete].all()
    whole = np.isfinite(seen).all(1)
    np.testing.assert_array_equal(seen[whole], values[whole])
    if seen_by.kept is not None:
        first, last = (end[np.arange(2_000), values[:, 1].astype(int)] for end in seen_by.kept)
        np.testing.assert_array_equal((first <= values[:, 0]) & (values[:, 0] <= last), kept)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "by chance"])
def test_what_can_be_seen_is_everything(name):
    """Under a uniform law, densities of whole trials and probabilities of the others are one (or what is kept): the
    incomplete are enumerated, the whole integrated on a grid of 20 000 times. What is missing by chance is not one more
    thing that can be seen."""
    kind = KINDS[name]
    n, seconds = 20_000, 3.0
    uniform = hs.LapseLaw((1.0, 1.0), seconds)
    times = (np.arange(n) + 0.5) * seconds / n
    total, told = 0.0, []
    for choice in (0.0, 1.0):
        values = np.stack([times, np.full(n, choice)], -1)
        seen_by = observation(n, **kind)
        seen = seen_by.seen(values)
        kept, whole = ~seen_by.removed(values), np.isfinite(seen).all(1)
        total += (kept & whole).sum() / (2 * n)
        ranges = seen_by.ranges(seen)
        told.append(np.column_stack(ranges)[kept & ~whole])
    distinct = np.unique(np.concatenate(told), axis=0)
    total += uniform.mass(Ranges(distinct[:, :2], distinct[:, 2:])).sum()
    expected = 1.0 if seen_by.kept is None else uniform.mass(Ranges(*seen_by.kept))[0]
    assert total == pytest.approx(expected, abs=2 / n)


def test_mass_under_a_uniform_law():
    low = np.array([[1.0, 1.0], [0.5, 1.0], [2.0, 2.0], [0.0, 9.0], [1.0, 1.0], [12.0, 12.0]])
    high = np.array([[INF, INF], [0.5, 0.0], [4.0, 3.0], [INF, INF], [0.0, 0.0], [12.0, 12.0]])
    expected = [0.9, 0.05, 0.15, 0.55, 0.0, 0.0]
    np.testing.assert_allclose(hs.LapseLaw((1.0, 1.0), 10.0).mass(Ranges(low, high)), expected, atol=1e-15)

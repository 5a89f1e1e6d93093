"""A function becomes a simulator: every way to call it, every way it can go wrong, same seed same bytes."""

import functools
import math
import threading

import joblib
import numba as nb
import numpy as np
import pandas as pd
import pytest
import torch

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.simulation import as_json, from_json

N = 2_500
RATES = np.random.default_rng(1).uniform(0.5, 20.0, (N, 1))
CHIPS = {"parameters": {"rate": (0.5, 20.0)}, "outcomes": {"chips": "count"}}


def by_row(rate, rng):
    """Chips in a cookie."""
    return rng.poisson(rate)


def by_theta(theta, rng):
    return [rng.poisson(theta[0])]


def by_dict(rate, rng):
    return {"chips": rng.poisson(rate)}


def by_columns(rate, rng):
    return rng.poisson(rate)


def by_matrix(theta, rng):
    return rng.poisson(theta)


@nb.njit
def compiled(rate, rng):
    return rng.poisson(rate)


@pytest.mark.parametrize(
    ("function", "vectorised"),
    [(by_row, False), (by_theta, False), (by_dict, False), (compiled, False), (by_columns, True), (by_matrix, True)],
)
def test_every_form_makes_the_same_outcomes(function, vectorised):
    """Poisson: mean of (chips - rate) / sqrt(rate) over 2 500 rows within 5 standard errors (6e-7 false alarms)."""
    simulator = hs.declare(**CHIPS, vectorised=vectorised)(function)
    made = simulator.simulate_outcomes(RATES, seed=1)
    assert made.values.shape == (N, 1)
    assert not made.failed.any()
    assert made.statement() == ""
    standard = (made.values - RATES) / np.sqrt(RATES)
    assert abs(standard.mean()) < 5 / math.sqrt(N)
    np.testing.assert_array_equal(made.values, simulator.simulate_outcomes(RATES, seed=1).values)
    assert (made.values != simulator.simulate_outcomes(RATES, seed=2).values).any()


def test_same_seed_same_outcomes_on_any_number_of_workers():
    simulator = hs.declare(**CHIPS)(by_row)
    one, two = (simulator.simulate_outcomes(RATES, 1, n_jobs=n).values for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_blocks_that_are_kept_are_not_made_again(tmp_path):
    """A function that fails at high rates, and later everywhere, when it is asked for the last block only."""

    @hs.declare(**CHIPS)
    def burnt(rate, rng):
        if rate > 15 or (tmp_path / "no more").exists():
            raise ValueError("the oven is on fire")
        return rng.poisson(rate)

    first = burnt.simulate_outcomes(RATES, 1, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [f"rows-00000{k}000.npz" for k in range(3)]
    (tmp_path / "no more").touch()
    (tmp_path / "rows-000002000.npz").unlink()
    again = burnt.simulate_outcomes(RATES, 1, folder=tmp_path)
    np.testing.assert_array_equal(again.values[:2_000], first.values[:2_000])
    assert again.failed[2_000:].all()
    assert again.errors[: (RATES[:2_000] > 15).sum()] == first.errors[: (RATES[:2_000] > 15).sum()]
    assert set(first.errors) == {"ValueError: the oven is on fire"}


def test_rows_do_not_depend_on_what_follows():
    """Blocks of 1 000 rows have streams of their own."""
    simulator = hs.declare(**CHIPS)(by_row)
    np.testing.assert_array_equal(
        simulator.simulate_outcomes(RATES[:1_000], 1).values, simulator.simulate_outcomes(RATES, 1).values[:1_000]
    )


def test_failures_are_counted_and_said():
    @hs.declare(**CHIPS)
    def burnt(rate, rng):
        if rate > 15:
            raise ValueError("the oven is on fire")
        return math.nan if rate > 10 else rng.poisson(rate)

    made = burnt.simulate_outcomes(RATES, seed=1)
    np.testing.assert_array_equal(made.failed, RATES[:, 0] > 10)
    hot = int((RATES > 15).sum())
    assert f"{made.failed.sum()} of 2500 simulations failed ({hot} raised an error, the first ValueError: the oven" in (
        made.statement()
    )


def outcomes_of(function, outcomes, **options):
    simulator = hs.declare(parameters={"rate": (0.5, 20.0)}, outcomes=outcomes, **options)(function)
    return simulator.simulate_outcomes(RATES[:10], seed=1)


@pytest.mark.parametrize(
    ("function", "outcomes", "options", "mention"),
    [
        (lambda rate, rng: (1, 2), {"chips": "count"}, {}, r"must return 1 value \(chips\); got 2: \(1, 2\)"),
        (lambda rate, rng: 1, {"chips": "count", "grams": "positive"}, {}, r"must return 2 values \(chips, grams\)"),
        (lambda rate, rng: np.ones((2, 1)), {"chips": "count"}, {}, "must return 1 value"),
        (lambda rate, rng: [np.ones(3)], {"chips": "count"}, {}, "must return one number as 'chips'"),
        (lambda rate, rng: "many", {"chips": "count"}, {}, "returned 'many' as 'chips' at rate = .*a whole number"),
        (lambda rate, rng: 1.5, {"chips": "count"}, {}, "returned 1.5 as 'chips'.*a whole number, 0 or more"),
        (lambda rate, rng: -1, {"chips": "count"}, {}, "returned -1 as 'chips'"),
        (lambda rate, rng: 0.0, {"grams": "positive"}, {}, "returned 0.0 as 'grams'.*a positive, finite number"),
        (lambda rate, rng: "up", {"side": ("left", "right")}, {}, "returned 'up' as 'side'.*one of 'left', 'right'"),
        (
            lambda rate, rng: {"chip": 1},
            {"chips": "count"},
            {},
            r"must return the outcomes \['chips'\]; got \['chip'\]",
        ),
        (lambda rate, rng: 1, {"chips": "count"}, {"vectorised": True}, r"declared vectorised.*got shape \(\)"),
        (lambda rate, rng: rate[:3], {"grams": "real"}, {"vectorised": True}, r"each of 10 rows.*got shape \(3,\)"),
    ],
)
def test_wrong_returns_are_refused(function, outcomes, options, mention):
    with pytest.raises(InputError, match=mention):
        outcomes_of(function, outcomes, **options)


@pytest.mark.parametrize(
    ("make", "mention"),
    [
        (lambda: hs.declare(**CHIPS)(lambda speed, rng: 1), r"must take the arguments \('rate', 'rng'\) or \('theta',"),
        (lambda: hs.declare(**CHIPS)(lambda rate: 1), "rng is a numpy Generator"),
        (lambda: hs.declare({"rate": (2, 1)}, {"chips": "count"})(by_row), "two finite numbers, low < high"),
        (lambda: hs.declare({"rate": (0, math.inf)}, {"chips": "count"})(by_row), "two finite numbers"),
        (lambda: hs.declare({"rate": (1, 2)}, {"chips": "counts"})(by_row), "must be one of real, positive, count"),
        (lambda: hs.declare({"rate": (1, 2)}, {"side": ("left",)})(by_row), "two or more distinct categories"),
        (lambda: hs.declare({"rate": (1, 2)}, {"rt": "positive", "response": ("a", "b")})(by_row), "whole numbers"),
        (lambda: hs.declare({"rate": (1, 2)}, {"rt": "positive", "response": (1, -1)})(by_row), "ascending order"),
        (lambda: hs.Outcome("side", "categorical"), "categories are for categorical outcomes"),
        (lambda: hs.declare({"rate": (1, 2)}, {})(by_row), "at least one outcome"),
        (lambda: hs.declare({"rate": (1, 2)}, hs.rt_and_response(-1, 1)), "outcomes must be a dict by name"),
        (lambda: hs.declare(["rate"], {"chips": "count"}), "parameters must be a dict by name"),
    ],
)
def test_wrong_declarations_are_refused(make, mention):
    with pytest.raises(InputError, match=mention):
        make()


def test_theta_outside_the_domain_is_refused():
    with pytest.raises(InputError, match=r"theta\['rate'\] must be finite and inside \(0, inf\); got -1 in row 1"):
        hs.declare(**CHIPS)(by_row).simulate_outcomes(np.array([[1.0], [-1.0]]), seed=1)


def test_rt_and_response_make_a_decision_model():
    @hs.declare({"p": (0.1, 0.9)}, {"rt": "positive", "response": (-1, 1)})
    def coin(p, rng):
        return 0.3 + rng.exponential(), 1 if rng.random() < p else -1

    assert coin.is_decision_model
    assert coin.choices == (-1, 1)
    trials = hs.simulate(coin, {"p": 0.5}, n_trials=50, seed=1)
    assert trials.columns.tolist() == ["rt", "response"]
    assert set(trials["response"]) == {-1, 1}


def parcel(weight, tape, rng):
    grams = rng.gamma(10.0 * weight, 0.1)
    return {"grams": grams, "stamps": rng.poisson(grams), "side": "left" if rng.random() < tape else "right"}


def parcels(weight, tape, rng):
    grams = rng.gamma(10.0 * weight, 0.1)
    return grams, rng.poisson(grams), np.where(rng.random(len(weight)) < tape, "left", "right")


@pytest.mark.parametrize(("function", "vectorised"), [(parcel, False), (parcels, True)])
def test_a_table_has_a_column_for_every_outcome(function, vectorised):
    """Shares and means of 4 000 rows within 5 standard errors."""
    outcomes = {"grams": "positive", "stamps": "count", "side": ("right", "left")}
    simulator = hs.declare({"weight": (1.0, 5.0), "tape": (0.1, 0.9)}, outcomes, vectorised=vectorised)(function)
    table = hs.simulate(simulator, {"weight": np.repeat([1.0, 4.0], 2_000), "tape": 0.3}, seed=1)
    assert table.columns.tolist() == list(outcomes)
    assert table["stamps"].dtype == np.int64
    assert set(table["side"]) == {"left", "right"}
    for half, weight in ((table[:2_000], 1.0), (table[2_000:], 4.0)):
        assert abs(half["grams"].mean() - weight) < 5 * math.sqrt(0.1 * weight / 2_000)
        assert abs(half["stamps"].mean() - weight) < 5 * math.sqrt(1.1 * weight / 2_000)
    assert abs((table["side"] == "left").mean() - 0.3) < 5 * math.sqrt(0.21 / 4_000)
    again = hs.simulate(simulator, {"weight": np.repeat([1.0, 4.0], 2_000), "tape": 0.3}, seed=1)
    assert table.equals(again)


def test_one_outcome_of_any_name_makes_a_table():
    table = hs.simulate(hs.declare(**CHIPS)(by_row), {"rate": 5.0}, 3, seed=1)
    assert table.columns.tolist() == ["chips"]
    assert len(table) == 3


def test_a_table_says_which_simulations_failed():
    @hs.declare(**CHIPS)
    def burnt(rate, rng):
        if rate > 15:
            raise ValueError("the oven is on fire")
        return rng.poisson(rate)

    with pytest.raises(
        InputError, match=r"'burnt': 1 of 3 simulations failed \(1 raised an error, the first ValueError"
    ):
        hs.simulate(burnt, {"rate": [1.0, 16.0, 2.0]}, seed=1)
    assert len(hs.simulate(burnt, {"rate": [1.0, 2.0]}, seed=1)) == 2


def test_threads_are_no_processes():
    """Every block of rows waits for another one: only where joblib's two workers run both do they end."""
    meeting, workers = threading.Barrier(2, timeout=20), set()

    def wait(p, rng):
        workers.add(threading.get_ident())
        meeting.wait()
        return np.full(len(p), 0.3), np.ones(len(p))

    outcomes = {"rt": "positive", "response": (-1, 1)}
    coin = hs.declare({"p": (0.1, 0.9)}, outcomes, vectorised=True)(wait)
    theta = np.full((2_000, 1), 0.5)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert len(coin.simulate(theta, 1)[0]) == 2_000
    assert len(workers) == 2
    meeting, workers = threading.Barrier(1), set()
    with joblib.parallel_config(backend="threading", n_jobs=1):
        coin.simulate(theta, 1, n_threads=2)
    assert workers == {threading.get_ident()}


def test_links_follow_from_the_box():
    links = {box: hs.parameter("x", *box).prior.link for box in ((-1, 1), (0, 5), (0.1, 0.9))}
    assert links == {(-1, 1): "identity", (0, 5): "log", (0.1, 0.9): "logit"}
    assert hs.parameter("x", 0.5, 20, link="identity").prior.link == "identity"
    assert hs.parameter("x", 0, 20).typical == (5.0, 15.0)
    assert hs.parameter("x", 0, 20, typical=(2.0, 8.0)).typical == (2.0, 8.0)


def test_a_declaration_survives_json():
    import json

    symmetries = hs.Symmetries(shift="t0", scale="a", scale_powers={"v": 1.0}, negated=("v",))
    simulator = hs.declare(
        {"v": (-3, 3), "a": (0.5, 2), "t0": (0, 1)}, {"rt": "positive", "response": (-1, 1)}, symmetries=symmetries
    )(lambda v, a, t0, rng: (t0 + a, 1))
    again = from_json(json.loads(json.dumps(as_json(simulator))))
    for name in ("name", "parameters", "choices", "outcomes", "symmetries"):
        assert getattr(again, name) == getattr(simulator, name), name
    assert simulator.can_simulate
    assert not again.can_simulate
    with pytest.raises(InputError, match="holds its likelihood and no code"):
        again.simulate_outcomes(np.array([[1.0, 1.0, 0.3]]), seed=1)


class Arraylike:
    """What has nothing but `__array__`, as tensors of other libraries."""

    def __init__(self, *values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


@pytest.mark.parametrize(
    "wrap", [np.array, tuple, list, torch.tensor, pd.Series, lambda x: Arraylike(*x), lambda x: torch.tensor(x).numpy()]
)
def test_anything_that_numpy_takes_is_a_sequence(wrap):
    """Of one row's two outcomes, and of the columns of all rows, alone or as a matrix."""
    theta = np.linspace(0, 1, 5)[:, None]
    boxes = {"mu": (0.0, 1.0)}, {"x": "real", "y": "real"}
    for vectorised, function in (
        (False, lambda mu, rng: wrap([mu, mu + 1])),
        (True, lambda mu, rng: (wrap(mu.tolist()), wrap((mu + 1).tolist()))),
        (True, lambda mu, rng: Arraylike(*np.stack([mu, mu + 1], 1))),
        (True, lambda mu, rng: torch.tensor(np.stack([mu, mu + 1], 1), requires_grad=True)),
    ):
        made = hs.declare(*boxes, vectorised=vectorised)(function).simulate_outcomes(theta, seed=1)
        assert made.values.tolist() == np.hstack([theta, theta + 1]).tolist()


def test_messages_about_returns_are_short():
    long = hs.declare({"mu": (0.0, 1.0)}, {"x": "real"})(lambda mu, rng: list(range(10**6)))
    with pytest.raises(InputError, match="got 1000000: ") as caught:
        long.simulate_outcomes(np.full((1, 1), 0.5), seed=1)
    assert len(str(caught.value)) < 300


def test_a_partial_function_is_a_simulator():
    def scaled(mu, scale, rng):
        """A scaled number."""
        return scale * mu

    made = hs.declare({"mu": (0.0, 1.0)}, {"x": "real"})(functools.partial(scaled, scale=3.0))
    assert (made.name, made.title) == ("scaled", "A scaled number.")
    assert made.simulate_outcomes(np.full((1, 1), 0.5), seed=1).values.tolist() == [[1.5]]

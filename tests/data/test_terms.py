"""offset(), mo() and s(): their columns against definitions, and what they refuse. Splines of formulae."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline
from test_formula import N, design, experiment

from hddm_sbi.data.monotonic import MonotonicTerm
from hddm_sbi.data.smooths import SmoothTerm, Spline
from hddm_sbi.errors import InputError


@pytest.fixture(scope="module")
def data():
    table = experiment()
    table["grade"] = pd.Categorical(table["condition"], ["easy", "medium", "hard"], ordered=True)
    return table


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("offset(x)", lambda d: d["x"]),
        ("side + offset(2 * x) + (1|subject)", lambda d: 2 * d["x"]),
        ("offset(log(load)) + x", lambda d: np.log(d["load"])),
        ("0 + side + offset(x) + offset(const)", lambda d: d["x"] + 2.0),
        ("offset(scale(x))", lambda d: (d["x"] - d["x"].mean()) / d["x"].std(ddof=0)),
        ("offset(`my column`)", lambda d: d["my column"]),
    ],
)
def test_an_offset_is_what_it_says_on_every_trial(data, formula, expected):
    found, cell = design(formula, data)
    assert np.allclose(found.offset[cell], expected(data), rtol=0, atol=1e-12)
    assert not any("offset" in term.name for term in found.common)


def test_without_offset_there_is_none(data):
    assert design("x", data)[0].offset is None


def test_monotonic_counts_steps_in_the_order_of_the_levels(data):
    found, cell = design("mo(grade)", data)
    term = found.common[1]
    assert isinstance(term, MonotonicTerm)
    assert term.steps == ("medium", "hard")
    expected = data["grade"].map({"easy": 0, "medium": 1, "hard": 2}).to_numpy(float)
    assert np.array_equal(term.matrix[cell, 0], expected)
    numbers = design("mo(load)", data.assign(load=np.where(data["load"] == 2, 5, data["load"])))[0].common[1]
    assert numbers.steps == (2, 3, 4, 5)  # a whole number that does not occur is a level, as in brms


def test_a_smooth_is_a_line_and_wiggles_whose_squares_are_the_curvature():
    """The integral of f''² of a random curve by quadrature of SciPy's natural spline, one number apart."""
    x = np.linspace(0.0, 3.0, 1 + 5 * 100) ** 2
    columns = Spline()(x, k=6)
    z = (x - x.mean()) / x.std()
    assert columns.shape == (501, 5)
    assert np.allclose(columns[:, 0], z, rtol=0, atol=1e-10)
    assert np.allclose(columns.mean(0), 0.0, rtol=0, atol=1e-10)
    assert np.isclose((columns[:, 1:] ** 2).mean(0).sum(), 1.0, rtol=1e-12)
    knots = np.quantile(np.unique(z), np.linspace(0, 1, 6))
    ratios = []
    for u in np.random.default_rng(1).normal(size=(3, 4)):
        f = columns[:, 1:] @ u
        spline = CubicSpline(knots, f[::100], bc_type="natural")
        assert np.allclose(spline(z), f, rtol=0, atol=1e-8)
        ratios.append(curvature(spline, knots) / (u @ u))
    assert np.ptp(np.log(ratios)) < 1e-6


def curvature(spline, knots):
    """The integral of f''²."""
    return sum(quad(lambda t: spline(t, 2) ** 2, a, b)[0] for a, b in itertools.pairwise(knots))


def test_a_smooth_weighs_trials_not_cells(data):
    found, cell = design("s(load, k=4)", data)
    term = found.common[1]
    assert isinstance(term, SmoothTerm)
    assert len(term.matrix) == 4
    assert np.allclose(term.wiggles[cell].mean(0), 0.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "call", ["bs(x, df=4)", "cr(x, df=4)", "cc(x, period=10.0, df=4)", "tp(x, df=4)", "poly(x, 4)"]
)
@pytest.mark.parametrize("group", [False, True])
def test_splines_of_formulae_are_columns_in_common_and_group_terms(data, call, group):
    found, cell = design(f"x2 + (0 + {call}|subject)" if group else call, data)
    term = found.groups[0].terms[0] if group else found.common[1]
    assert term.matrix[cell].shape == (N, 4)
    assert term.levels == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("offset(side)", "offset() can only be used with numeric variables."),
        ("offset(log(x))", "offset(log(x)) is not a finite number in rows"),
        ("offset(x):side", "offset(x) is a term by itself, added with +, and here it stands inside of another term"),
        ("(offset(x)|subject)", "stands inside of a group term, offset(x); multiply the columns inside of it"),
        ("log(offset(x))", "stands inside of another term, log(offset(x))"),
        ("offset(offset(x))", "stands inside of another term, offset(offset(x))"),
        ("mo(side)", "mo() needs levels in an order, and 'side' has none ("),
        ("mo(side)", "; give them one, data['side'] = pandas.Categorical(data['side'], "),
        ("mo(correct)", "mo() needs levels in an order, and 'correct' has none (bool)"),
        ("mo(nearly)", "mo() needs whole numbers or an ordered factor, and 'nearly' has 0.5; write s(nearly), or"),
        ("mo(many)", "mo(many) would have 500 steps, and has 100 at most; write s(many), or make classes"),
        ("mo(x)", "mo() needs whole numbers or an ordered factor, and 'x' has "),
        ("mo(stamp)", "mo(stamp) would have 1000000000000 steps, and has 100 at most"),
        ("mo(const)", "'const' has one level, '2.0', so mo() has no step"),
        ("mo(log(load))", "mo() takes one column of the table as it is, mo(x)"),
        ("mo(load, 3)", "mo() takes one column of the table as it is, mo(x)"),
        ("mo(load)*side", "mo(x) is a term by itself, added with +, and here it stands inside of another term"),
        ("(mo(load)|subject)", "inside of a group term, mo(load); write the column itself there"),
        ("load + mo(load)", "column 'mo(load)' is a linear combination of 'Intercept', 'load', so"),
        ("s(load)", "from 3 to the number of different values of its covariate, 4; got k=10: write s(x, k=4)"),
        ("s(x, k=2)", "from 3 to the number of different values of its covariate, 600; got k=2"),
        ("s(x, k=200)", "the numbers in s(x, k=200) must be at most 100."),
        ("s(side)", "s() takes a column of finite numbers; of a factor, write the column itself"),
        ("s(correct, k=3)", "s() takes a column of finite numbers"),
        ("s(const)", "s() needs a covariate of 3 or more different values, and this one has 1: leave s() out."),
        ("s(x, by=side)", "s() has one covariate and k=, the number of its knots"),
        ("s(x, load)", "s() has one covariate and k=, the number of its knots"),
        ("s()", "s() has one covariate and k="),
        ("s(x):side", "s(x) is a term by itself, added with +, and here it stands inside of another term"),
        ("x + s(x)", "column 's(x)' is a linear combination of 'Intercept', 'x', so"),
        ("gp(x)", "gp(x) is not supported: gp() is a Gaussian process, and the smooth curve there is here is a p"),
    ],
)  # fmt: skip
def test_what_is_refused(data, formula, expected):
    table = data.assign(nearly=0.5, many=data["load"] % 2 * 500, stamp=data["load"] % 2 * 10**12)
    with pytest.raises(InputError) as caught:
        design(formula, table)
    assert expected in str(caught.value)

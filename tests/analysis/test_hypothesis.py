"""Hypotheses about coefficients, against densities and shares by hand."""

import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from asked import as_posterior, experiment, model_of
from scipy.stats import beta, gamma, halfnorm, norm

import hddm_sbi as hs
from hddm_sbi.analysis.linear import Linear, read_hypothesis

NAMES = ["v_x", "v_x[hard]", "v_x[hard]:z", "v_1|subject_sigma", "v_I(age \u2215 10)", "a_Intercept", "v_x_2"]
READ = {
    "v_x < 0": (0.0, {"v_x": 1.0}, "<"),
    "v_x[hard] > v_x": (0.0, {"v_x[hard]": 1.0, "v_x": -1.0}, ">"),
    "2*(v_x - 1)/4 + .5 = -a_Intercept*1e-1": (0.0, {"v_x": 0.5, "a_Intercept": 0.1}, "="),
    "v_I(age/10) - v_1 | subject_sigma > 2": (-2.0, {"v_I(age \u2215 10)": 1.0, "v_1|subject_sigma": -1.0}, ">"),
    "v_x_2 < v_x[hard]:z": (0.0, {"v_x_2": 1.0, "v_x[hard]:z": -1.0}, "<"),
    "-(-v_x) - v_x*1 + a_Intercept < 1": (-1.0, {"a_Intercept": 1.0}, "<"),
}


@pytest.mark.parametrize("text", READ)
def test_hypotheses_are_read(text):
    constant, weights, sign = READ[text]
    assert read_hypothesis(text, NAMES) == (Linear(constant, weights), sign)


UNREADABLE = {
    "v_x": "expected <, > or =",
    "v_x <": "expected a number or a coefficient",
    "v_x < 0 < 1": "one sign at a time",
    "v_x < 0 )": "expected its end",
    "(v_x < 0": "a parenthesis is not closed",
    "v_x * v_x < 0": "not linear",
    "1 / v_x < 0": "not linear",
    "v_x / 0 < 0": "not linear",
    "v_x == 0": "write = once",
    "v_x <= 0": "write < without =",
    "": "expected a number or a coefficient",
    "1 < 2": "says nothing of a coefficient",
    "v_x - v_x < 1": "says nothing of a coefficient",
    "v_x[hart] < 0": r"there is no coefficient 'v_x\[hart\]'; did you mean 'v_x\[hard\]'",
    "v_1|subjct_sigma < 0": r"there is no coefficient 'v_1\|subjct_sigma'; did you mean 'v_1\|subject_sigma'",
    "b < 0": "there is no coefficient 'b'",
    "a > 0": "there is no coefficient 'a'; did you mean 'a_Intercept'",
    "v_x < 1e400": "a number that is too large or too small",
    "v_x / 1e-320 < 1": "a number that is too large or too small",
    "exp(a_Intercept) > 1": "which is a function of 'a_Intercept': .* see hs.comparisons",
}


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_no_hypothesis(text):
    with pytest.raises(hs.InputError, match=UNREADABLE[text]):
        read_hypothesis(text, NAMES)


@pytest.fixture(scope="module")
def asked():
    model = model_of(["v ~ condition + (condition|subject)", "a ~ 1", "z = 0.5", "t0 = 0.3"], None)
    posterior, draws = as_posterior(model, draws=100)
    return model, posterior, draws


def test_directions_are_shares_of_draws(asked):
    model, posterior, draws = asked
    x = draws["v_condition"][:, 0] + 0.5 * draws["v_Intercept"] - 0.2
    row = hs.hypothesis(model, posterior, "v_condition[hard] + v_Intercept / 2 > 0.2").iloc[0]
    assert row["probability"] == (x > 0).mean()
    assert row["evidence_ratio"] == pytest.approx((x > 0).sum() / (x < 0).sum())
    np.testing.assert_allclose(
        row[["mean", "sd", "low", "high"]].astype(float), [x.mean(), x.std(), *np.quantile(x, (0.03, 0.97))]
    )
    u = draws["v_1|subject"][:, 1]
    assert hs.hypothesis(model, posterior, "v_1|subject[s01] < 0")["probability"][0] == (u < 0).mean()


def test_a_ratio_without_draws_against_it_is_infinite(asked):
    model, posterior, _ = asked
    row = hs.hypothesis(model, posterior, "v_1|subject_sigma > -1").iloc[0]
    assert row["probability"] == 1.0
    assert row["evidence_ratio"] == np.inf


def with_draws(posterior, **normal):
    """The posterior with 4 000 draws of some variables, normal with this mean and sd."""
    known = posterior["posterior"].isel(chain=[0], draw=np.zeros(4_000, dtype=int)).copy(deep=True)
    known = known.assign_coords(draw=np.arange(4_000))
    rng = np.random.default_rng(5)
    for name, (mean, sd) in normal.items():
        known[name].values = rng.normal(mean, sd, known[name].shape)
    return known


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_a_point_has_the_ratio_of_its_densities(asked, distance):
    """Posterior N(d s, s²), prior N(0, 1.5²): 4 000 draws, 20 seeds by hand have an sd of 2, 2 and 4 % at these."""
    model, posterior, _ = asked
    known = with_draws(posterior, v_condition=(0.2 * distance, 0.2))
    row = hs.hypothesis(model, known, "v_condition[hard] = 0").iloc[0]
    expected = norm(0.2 * distance, 0.2).pdf(0.0) / norm(0.0, 1.5).pdf(0.0)
    assert row["evidence_ratio"] == pytest.approx(expected, rel=0.2)
    assert row["probability"] == pytest.approx(row["evidence_ratio"] / (1 + row["evidence_ratio"]))


def test_a_combination_of_normal_priors_is_exact(asked):
    """2 v_condition + v_Intercept - 1 ~ N(-1, 4 1.5² + 3²) under the prior."""
    model, posterior, _ = asked
    known = with_draws(posterior, v_condition=(0.1, 0.2), v_Intercept=(0.9, 0.3))
    row = hs.hypothesis(model, known, "2 * v_condition[hard] + v_Intercept = 1").iloc[0]
    expected = norm(0.1, 0.5).pdf(0.0) / norm(-1.0, np.sqrt(4 * 1.5**2 + 3**2)).pdf(0.0)
    assert row["evidence_ratio"] == pytest.approx(expected, rel=0.2)


def prior_ordinate(model, posterior, text):
    """By what the ratio changes where nothing but the prior does: the density of the posterior is that of a normal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return hs.hypothesis(model, posterior, text)["evidence_ratio"][0]


ORDINATES = {
    "v_1|subject_sigma = 0.4": ("v_1|subject_sigma", (0.4, 0.05), halfnorm(scale=1.0).pdf(0.4)),
    "v_1+condition|subject_corr[1, condition[hard]] = 0.2": (
        "v_1+condition|subject_corr", (0.2, 0.1), 0.5 * beta(2.0, 2.0).pdf(0.6),
    ),
    "3 * a_Intercept = 0.3": ("a_Intercept", (0.1, 0.1), norm(0.0, 0.6).pdf(0.1)),
}  # fmt: skip


@pytest.mark.parametrize("text", ORDINATES)
def test_exact_ordinates_of_other_priors(asked, text):
    """At the mode of a normal posterior of 4 000 draws, whose density there is known: sd 2 % by hand."""
    model, posterior, _ = asked
    name, (mean, sd), ordinate = ORDINATES[text]
    known = with_draws(posterior, **{name: (mean, sd)})
    assert prior_ordinate(model, known, text) == pytest.approx(norm(mean, sd).pdf(mean) / ordinate, rel=0.1)


def test_priors_of_levels_of_simplexes_and_on_the_natural_scale():
    trials = experiment().assign(k=np.arange(150) % 3)
    priors = {
        "v_condition": dist.Normal(0.0, torch.tensor([0.5, 2.0])),
        "a": dist.Gamma(9.0, 10.0),
        "v_mo(k)_simplex": dist.Dirichlet(torch.tensor([2.0, 3.0])),
    }
    model = model_of(["v ~ 0 + condition + mo(k)", "z = 0.5", "t0 = 0.3"], priors, trials)
    posterior, _ = as_posterior(model, draws=10)
    cases = {
        "v_condition[hard] = 1": ("v_condition", norm(0.0, 2.0).pdf(1.0), 1.0),
        "v_mo(k)_simplex[1] = 0.3": ("v_mo(k)_simplex", beta(2.0, 3.0).pdf(0.3), 0.3),
        # The density of log a: that of a, times a.
        "a_Intercept = 0.1": ("a_Intercept", gamma(9.0, scale=0.1).pdf(np.exp(0.1)) * np.exp(0.1), 0.1),
    }
    for text, (name, ordinate, at) in cases.items():
        known = with_draws(posterior, **{name: (at, 0.05)})
        assert prior_ordinate(model, known, text) == pytest.approx(norm(0, 0.05).pdf(0) / ordinate, rel=0.1), text


@pytest.mark.parametrize("at", [0.02, 0.1])
def test_a_point_near_a_bound(asked, at):
    """A spread whose posterior is |N(0, .3)|: 4 000 draws, 10 seeds by hand have an sd of 5 and 2 %; kernels that reach
    beyond 0 lose a third of the density at .02."""
    model, posterior, _ = asked
    known = with_draws(posterior, **{"v_1|subject_sigma": (0.0, 0.3)})
    known["v_1|subject_sigma"].values = abs(known["v_1|subject_sigma"].values)
    row = hs.hypothesis(model, known, f"v_1|subject_sigma = {at}").iloc[0]
    expected = halfnorm(scale=0.3).pdf(at) / halfnorm(scale=1.0).pdf(at)
    assert row["evidence_ratio"] == pytest.approx(expected, rel=0.25)


def test_a_bounded_prior():
    """v_x ~ U(-1, 2) and a ~ U(.5, 2) at draws N(.9, .05²): 5 errors of 2 %; beyond a bound is no point."""
    model = model_of(["v ~ x", "z = 0.5", "t0 = 0.3"], {"v_x": dist.Uniform(-1.0, 2.0), "a": dist.Uniform(0.5, 2.0)})
    posterior, _ = as_posterior(model, draws=10)
    # The density of log a: that of a, times a.
    for text, name, at, ordinate in (
        ("v_x = 0.9", "v_x", 0.9, 1 / 3),
        ("a_Intercept = 0.1", "a_Intercept", 0.1, np.exp(0.1) / 1.5),
    ):
        known = with_draws(posterior, **{name: (at, 0.05)})
        assert prior_ordinate(model, known, text) == pytest.approx(norm(0, 0.05).pdf(0) / ordinate, rel=0.1), text
    for text in ("v_x = 2", "v_x = -1.5", "a_Intercept = 0.8"):
        with pytest.raises(hs.InputError, match="cannot be on both sides of that point"):
            hs.hypothesis(model, posterior, text)


def test_the_test_of_a_point_can_fail(asked):
    """A prior that is twice as wide halves its ordinate, and doubles the ratio."""
    model, posterior, _ = asked
    wide = model_of(
        ["v ~ condition + (condition|subject)", "a ~ 1", "z = 0.5", "t0 = 0.3"], {"v_condition": dist.Normal(0.0, 3.0)}
    )
    known = with_draws(posterior, v_condition=(0.1, 0.2))
    ratios = [hs.hypothesis(m, known, "v_condition[hard] = 0")["evidence_ratio"][0] for m in (wide, model)]
    assert ratios[0] / ratios[1] == pytest.approx(2.0)


def test_a_point_beyond_the_draws_is_warned_of(asked):
    """6 sds out, a normal posterior's ratio is right to five errors of z² / 2: 5 z (1 + z² / 2)**.5 / n**.5 nats."""
    model, posterior, _ = asked
    known = with_draws(posterior, v_condition=(1.2, 0.2))
    with pytest.warns(hs.ConvergenceWarning, match="0 of 4000 draws lie beyond the point"):
        row = hs.hypothesis(model, known, "v_condition[hard] = 0").iloc[0]
    expected = norm(1.2, 0.2).logpdf(0.0) - norm(0.0, 1.5).logpdf(0.0)
    assert np.log(row["evidence_ratio"]) == pytest.approx(expected, abs=2.1)


REFUSED = {
    "v_1|subject_sigma = 0": "cannot be on both sides of that point",
    "v_1|subject_sigma = -1": "cannot be on both sides of that point",
    "v_1|subject[s01] = 0": "depends on other coefficients",
    "a_Intercept - v_1|subject_sigma = 0": "where all its coefficients have normal priors",
    "v_condition[easy] < 0": r"there is no coefficient 'v_condition\[easy\]'; did you mean 'v_condition\[hard\]'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(asked, text):
    model, posterior, _ = asked
    with pytest.raises(hs.InputError, match=REFUSED[text]):
        hs.hypothesis(model, posterior, text)


@pytest.mark.parametrize("hypotheses", [3, [], [1], None])
def test_what_is_no_text(asked, hypotheses):
    model, posterior, _ = asked
    with pytest.raises(hs.InputError, match="hypotheses must be one or several such as"):
        hs.hypothesis(model, posterior, hypotheses)


def test_a_model_and_its_posterior_in_the_other_order(asked):
    model, posterior, _ = asked
    for ask in (hs.hypothesis, hs.with_log_prior):
        with pytest.raises(hs.InputError, match=r"model must be a HierarchicalModel; got .*The model comes first"):
            ask(posterior, model, *(["v_Intercept < 0"] if ask is hs.hypothesis else []))


def test_a_posterior_of_another_model(asked):
    _, posterior, _ = asked
    with pytest.raises(hs.InputError, match="the posterior is not of this model"):
        hs.hypothesis(model_of(["v ~ x"], None), posterior, "v_x < 0")

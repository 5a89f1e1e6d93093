"""Whether a posterior belongs to a model, by two promises: the same model and table, or the same likelihood of them."""

import warnings

import arviz as az
import numpy as np
import pyro.distributions as dist
import pytest

import hddm_sbi as hs
from hddm_sbi.hierarchy import SAME_LIKELIHOOD, check_fit_of
from hddm_sbi.hierarchy.fits.belonging import SAME_MODEL

FORMULAS = {"v": "condition + (1|subject)", "a": "1", "z": 0.5, "t0": 0.3}
#: name -> other options, and what the refusal says; in any case, and where priors are compared too.
OTHER_LIKELIHOOD = {
    "lapses": ({"lapse": 0.01}, r"its lapse is 0\.05, and that of this model 0\.01\."),
    "seconds of lapses": ({"lapse_seconds": 5.0}, r"its lapse seconds is 10\.0, and that of this model 5\.0\."),
    "choices of lapses": ({"lapse_choices": (0.3, 0.7)}, r"its lapse choices is \(\), and that of this model \[0\.3"),
    "limits": ({"censored": (None, 3.0)}, r"its missing.*censored"),
    "network": ({"likelihood": "neural"}, "its likelihood is exact, and that of this model neural"),
}
OTHER_MODEL = {
    "priors": ({"priors": {"v_Intercept": dist.Normal(0.0, 1.0)}}, r"its priors\['v_Intercept'\] is Normal\(loc=0,"),
}


def of(trials, **options):
    said = {"likelihood": "exact", "lapse": 0.05, "lapse_seconds": 10.0}
    return hs.HierarchicalModel(FORMULAS, trials, **said | options)


def posterior_of(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        return model.fit(draws=4, tune=20, chains=1, seed=1, progress=False)


@pytest.fixture(scope="module")
def trials():
    return hs.simulate_experiment(n_subjects=3, n_trials=10, seed=1).trials


@pytest.fixture(scope="module")
def posterior(trials):
    return posterior_of(of(trials))


def test_a_posterior_belongs_to_its_model(trials, posterior):
    for promise in (SAME_MODEL, SAME_LIKELIHOOD):
        record, known = check_fit_of(of(trials), posterior, promise)
        assert record.likelihood == "exact"
        assert "v_condition" in known


@pytest.mark.parametrize("case", OTHER_LIKELIHOOD)
def test_another_likelihood_is_refused_by_both(trials, posterior, case):
    options, said = OTHER_LIKELIHOOD[case]
    for promise in (SAME_MODEL, SAME_LIKELIHOOD):
        with pytest.raises(hs.InputError, match=said):
            check_fit_of(of(trials, **options), posterior, promise)


@pytest.mark.parametrize("case", ["choices of lapses", "seconds of lapses"])
def test_what_only_the_fit_said_is_refused_too(trials, case):
    """A model that says nothing of the choices of lapses is not that of a fit that did."""
    options = OTHER_LIKELIHOOD[case][0]
    for promise in (SAME_MODEL, SAME_LIKELIHOOD):
        with pytest.raises(hs.InputError, match="the posterior is of another model: its lapse "):
            check_fit_of(of(trials), posterior_of(of(trials, **options)), promise)


@pytest.mark.parametrize("case", OTHER_MODEL)
def test_other_priors_are_refused_by_the_stronger(trials, posterior, case):
    options, said = OTHER_MODEL[case]
    with pytest.raises(hs.InputError, match=said):
        check_fit_of(of(trials, **options), posterior)
    assert check_fit_of(of(trials, **options), posterior, SAME_LIKELIHOOD)[1].sizes["draw"] == 4


def test_draws_alone_belong_to_the_likelihood(trials, posterior):
    alone = posterior["posterior"]
    with pytest.raises(hs.InputError, match="not that of the trials of this model: column 'rt'"):
        check_fit_of(of(trials), alone)
    assert check_fit_of(of(trials), alone, SAME_LIKELIHOOD)[1].sizes["draw"] == 4


@pytest.mark.parametrize("column", ["rt", "response", "condition", "subject"])
def test_every_column_of_the_table_counts(trials, posterior, column):
    """Turned round: the same levels, the same subjects, other rows."""
    others = trials.assign(**{column: trials[column].to_numpy()[::-1]})
    assert not np.array_equal(others[column], trials[column])
    for promise in (SAME_MODEL, SAME_LIKELIHOOD):
        with pytest.raises(hs.InputError, match=f"not that of the trials of this model: column '{column}'"):
            check_fit_of(of(others), posterior, promise)


def test_a_fit_from_a_file_belongs_as_well(trials, posterior, tmp_path):
    path = posterior.to_netcdf(tmp_path / "fit.nc")
    for model in (of(trials), hs.load_model(path)):
        for promise in (SAME_MODEL, SAME_LIKELIHOOD):
            assert check_fit_of(model, az.from_netcdf(path), promise)[1].sizes["draw"] == 4

"""Pictures are drawn with units on their labels, and predictions agree with the data they were fitted to."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest

import hddm_sbi as hs
from hddm_sbi.analysis.experiment import FORMULAS, simulate_experiment
from hddm_sbi.analysis.predictive import predictive_draws
from hddm_sbi.hierarchy.fits.diagnostics import ConvergenceWarning
from hddm_sbi.presentation import plots


@pytest.fixture(scope="module")
def fitted():
    mpl.use("Agg")
    experiment = simulate_experiment(n_subjects=5, n_trials=40, seed=4)
    model = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", lapse=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return experiment, model, model.fit(draws=100, tune=200, chains=2, seed=1, progress=False)


def test_predictive_has_the_shape_and_the_means_of_the_data(fitted):
    """400 trials, 60 draws: mean RT and accuracy within 5 predictive standard deviations (6e-7 each)."""
    experiment, model, posterior = fitted
    predicted = predictive_draws(model, posterior, n_draws=60, seed=2)
    assert predicted.rt.shape == predicted.choice.shape == (60, len(experiment.trials))
    for simulated, observed in (
        (predicted.rt.mean(1), experiment.trials["rt"].mean()),
        (predicted.choice.mean(1), (experiment.trials["response"] == 1).mean()),
    ):
        assert abs(simulated.mean() - observed) < 5 * simulated.std()
    again = predictive_draws(model, posterior, n_draws=60, seed=2)
    assert again.rt.tobytes() == predicted.rt.tobytes()


def test_predictive_includes_lapses(fitted):
    """With half of the trials lapses, a quarter of all responses are slower than 5 s: 20 x 400 trials, 5 sds."""
    experiment, _, posterior = fitted
    lapsing = hs.HierarchicalModel(FORMULAS, experiment.trials, likelihood="exact", lapse=0.5, lapse_seconds=10.0)
    slow = (predictive_draws(lapsing, posterior, n_draws=20, seed=1).rt > 5.0).mean()
    assert abs(slow - 0.25) < 5 * np.sqrt(0.25 * 0.75 / (20 * len(experiment.trials))) + 0.005


def test_plot_predictive_by_condition_and_subject(fitted):
    _, model, posterior = fitted
    for by, panels in (("condition", 2), ("subject", 5)):
        axes = plots.plot_predictive(model, posterior, by, n_draws=20)
        assert len(axes) == panels
        assert "(s)" in axes[0].figure.get_supxlabel()
        mpl.pyplot.close(axes[0].figure)
    with pytest.raises(hs.InputError, match="condition"):
        plots.plot_predictive(model, posterior, "session")


def test_more_than_two_responses_have_panels_of_their_own():
    """Panels by condition and response; the areas of a condition's panels add up to the shares shown, at most 1."""
    theta = {"m0": np.repeat([-1.0, -0.5], 150), "m1": -0.6, "m2": -0.3, "s": 0.5, "t0": 0.2}
    data = hs.simulate("lnr3", theta, seed=3).assign(condition=np.repeat(["easy", "hard"], 150))
    model = hs.HierarchicalModel("m0 ~ condition", data, "lnr3", likelihood="exact", lapse=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = model.fit(draws=20, tune=50, chains=1, seed=1, progress=False)
    axes = plots.plot_predictive(model, posterior, "condition", n_draws=10)
    assert [ax.get_title() for ax in axes[:2]] == ["condition = easy, response 0", "condition = easy, response 1"]
    assert len(axes) == 6
    named = hs.HierarchicalModel(
        "m0 ~ condition",
        data.assign(response=np.array(["red", "green", "blue"])[data["response"]]),
        "lnr3",
        likelihood="exact",
        lapse=0.0,
        choices=["red", "green", "blue"],
    )
    again = plots.plot_predictive(named, posterior, "condition", n_draws=10)
    assert [ax.get_title() for ax in again[:2]] == [
        "condition = easy, response red",
        "condition = easy, response green",
    ]
    mpl.pyplot.close(again[0].figure)
    steps = [ax.patches[0].get_data() for ax in axes[:3]]
    shown = sum(float((step.values * np.diff(step.edges)).sum()) for step in steps)
    assert 0.97 < shown < 1.0 + 1e-9
    mpl.pyplot.close(axes[0].figure)


def test_shrinkage_pulls_towards_the_population(fitted):
    """Every hierarchical mean lies between the group's own estimate and the population mean, up to posterior noise."""
    _, model, posterior = fitted
    (ax,) = plots.plot_shrinkage(model, posterior)
    assert ax.get_ylabel() == "v (1/s)"
    own, pooled = (line.get_ydata() for line in ax.lines[1:3])
    population = ax.lines[0].get_ydata()[0]
    assert np.abs(pooled - population).mean() < np.abs(own - population).mean()
    with pytest.raises(hs.InputError, match="no term"):
        plots.plot_shrinkage(model, posterior, "z")


def test_recovery_counts_the_truth_inside(fitted):
    experiment, model, posterior = fitted
    axes = plots.plot_recovery(model, posterior, experiment.true_values)
    titles = [ax.get_title() for ax in axes]
    assert [title.split(":")[0] for title in titles] == ["v (1/s)", "log a", "logit z", "log t0"]
    with pytest.raises(hs.InputError, match="the posterior has not"):
        plots.plot_recovery(model, posterior, {"w_Intercept": 1.0})


def test_a_full_disk_leaves_no_part_of_a_figure(fitted, tmp_path, monkeypatch):
    experiment, model, posterior = fitted

    def full(_):
        raise OSError(28, "No space left on device")

    paths = hs.report.write_figures(model, posterior, experiment.true_values, tmp_path)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        hs.report.write_figures(model, posterior, experiment.true_values, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

"""A fit at its defaults goes on while Rhat is above 1.01, to an end, and says so."""

import warnings

import arviz as az
import numpy as np
import pytest
from click.testing import CliRunner
from test_fit_folder import counted, evaluations

import hddm_sbi as hs
from hddm_sbi.analysis.refits import Refit
from hddm_sbi.cli import main
from hddm_sbi.hierarchy.fits import diagnostics, fitting
from hddm_sbi.inference import inference_data

TRIALS = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 60, seed=1).assign(subject=list("abc") * 20)
SHORT = {"tune": 100, "chains": 2, "seed": 7, "progress": False}
LOOKS = (1_000, 1_500, 2_000, 2_500, 3_000)


@pytest.fixture(scope="module")
def model():
    formulas = {"v": "1 + (1|subject)", "a": 1.0, "z": 0.5, "t0": 0.3}
    return hs.HierarchicalModel(formulas, TRIALS, likelihood="exact", lapse=0.05, lapse_seconds=10.0)


def fit(model, **options):
    """The draws of a fit, and its warnings about Rhat."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = model.fit(**{**SHORT, **options})
    return inference_data.dataset(posterior), [str(w.message) for w in caught if "Rhat of" in str(w.message)]


@pytest.fixture(scope="module")
def long(model):
    """As many draws as a fit may ever take at its defaults."""
    return fit(model, draws=3_000)[0]


@pytest.fixture
def high_until(monkeypatch):
    """Rhat of one number is 1.02 in fewer draws than these, and then 1."""

    def at(draws):
        def worst(posterior):
            return "v_Intercept", 1.02 if posterior.sizes["draw"] < draws else 1.0

        monkeypatch.setattr(inference_data, "worst_rhat", worst)

    return at


def test_a_fit_that_passes_takes_a_thousand_draws(model, long, high_until):
    high_until(1_000)
    taken, said = fit(model)
    assert (taken.sizes["draw"], said, diagnostics.went_on(taken)) == (1_000, [], "")
    assert taken.equals(long.isel(draw=slice(1_000)))
    assert (taken.attrs["draws"], taken.attrs["least_draws"]) == (3_000, 1_000)
    fixed, _ = fit(model, draws=1_000)
    assert fixed.equals(taken)
    assert (fixed.attrs["draws"], "least_draws" in fixed.attrs) == (1_000, False)


def test_a_fit_goes_on_until_every_rhat_passes(model, long, monkeypatch):
    """Rhat of population and groups, by ArviZ, against a limit between that of all draws and that of the first."""
    rhat = {n: float(az.rhat(long.isel(draw=slice(n))).to_dataarray().max()) for n in LOOKS}
    limit = (rhat[1_000] + min(rhat.values())) / 2
    monkeypatch.setattr(diagnostics, "MAX_RHAT", limit)
    first = next(n for n in LOOKS if rhat[n] <= limit)
    assert first > 1_000
    taken, said = fit(model)
    assert (taken.sizes["draw"], said) == (first, [])
    assert taken.equals(long.isel(draw=slice(first)))
    said = f"Sampling went on to {first} draws of each chain, because Rhat was above {limit} after 1000."
    assert diagnostics.went_on(taken) == said


def test_a_fit_that_never_passes_ends_and_warns(model, long, high_until):
    high_until(10_000)
    taken, said = fit(model)
    assert said == ["Rhat of v_Intercept is 1.020 (above 1.01): run more tuning and draws"]
    assert taken.equals(long)


@pytest.mark.parametrize(
    ("options", "draws"),
    [
        ({"draws": 1_100}, 1_100),
        ({"quick": True}, 300),
        ({"method": "laplace"}, 1_000),
        ({"chains": 1}, 1_000),
    ],
    ids=["asked for", "quick", "fixed", "one chain"],
)
def test_what_does_not_go_on(model, monkeypatch, options, draws):
    """Numbers that the caller named, samplers with a fixed number, and a single chain, which has no Rhat."""
    real = inference_data.worst_rhat
    monkeypatch.setattr(inference_data, "worst_rhat", lambda x: (real(x)[0], 1.02 if x.sizes["chain"] > 1 else np.nan))
    assert fit(model, **options)[0].sizes["draw"] == draws


def test_a_fit_in_a_folder_goes_on_to_the_same_draws(model, long, high_until, tmp_path):
    """Interrupted at the look, then whole, then read; and on to more, of which none is evaluated twice."""
    high_until(1_500)
    watched, calls = counted(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Goal, "reached", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        so_far, _ = fit(watched, folder=tmp_path)
    assert so_far.attrs["stopped"] == "interrupted"
    # A chain that waits has taken one draw more than is looked at.
    assert so_far.sizes["draw"] in (1_000, 1_001)
    before, _ = evaluations(tmp_path), calls.clear()
    taken, _ = fit(watched, folder=tmp_path)
    assert (taken.attrs["stopped"], taken.sizes["draw"]) == ("", 1_500)
    assert taken.equals(long.isel(draw=slice(1_500)))
    assert before > 1_000
    assert len(calls) <= evaluations(tmp_path) - before + 3
    calls.clear()
    assert fit(watched, folder=tmp_path)[0].equals(taken)
    assert not calls
    assert fit(watched, folder=tmp_path, draws=1_000)[0].equals(long.isel(draw=slice(1_000)))
    assert len(calls) <= 3


def test_draws_that_cannot_be_looked_at_are_returned(model, monkeypatch):
    def fails(*_):
        raise ArithmeticError("no such number")

    monkeypatch.setattr(inference_data, "worst_rhat", fails)
    with pytest.warns(hs.ConvergenceWarning, match="the draws could not be checked: no such number"):
        posterior = model.fit(**SHORT)
    assert inference_data.dataset(posterior).sizes["draw"] == 1_000


def test_the_command_line_says_that_a_fit_went_on(high_until, tmp_path):
    high_until(1_500)
    TRIALS.to_csv(tmp_path / "t.csv")
    asked = ["fit", tmp_path / "t.csv", "v ~ 1", "-f", "a = 1.0", "-f", "z = 0.5", "--likelihood", "exact", "--quiet"]
    asked += ["--tune", 100, "--chains", 2, "--seed", 1, "-o", tmp_path / "fit.nc"]
    said = "Sampling went on to 1500 draws of each chain, because Rhat was above 1.01 after 1000."
    for arguments in (asked, ["summary", tmp_path / "fit.nc"]):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        assert result.stdout.count(said) == 1


@pytest.mark.parametrize(("draws", "taken"), [(None, 1_500), (1_200, 1_200)])
def test_fits_of_many_models_and_refits_go_on_likewise(model, high_until, monkeypatch, draws, taken):
    high_until(1_500)
    lengths, real = [], hs.HierarchicalModel.fit

    def watched(*arguments, **options):
        posterior = real(*arguments, **options)
        lengths.append(posterior["posterior"].sizes["draw"])
        return posterior

    monkeypatch.setattr(hs.HierarchicalModel, "fit", watched)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        fits = hs.fit_models({"one": model}, draws, **SHORT)
        of_all = np.zeros((2, taken))
        Refit.of(model, fits["one"], np.array([0]), 0, of_all).run()
    assert lengths == [taken, taken]

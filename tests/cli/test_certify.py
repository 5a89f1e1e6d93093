"""The certificate on the command line: after a fit, where it is cheap or asked for, and of a file."""

import numpy as np
import pytest
from click.testing import CliRunner

import hddm_sbi as hs
from hddm_sbi.analysis import certificate
from hddm_sbi.cli import main
from hddm_sbi.inference import inference_data

GOOD = "Good: the learned likelihood has moved no quantity of the population"
QUICK = ["--tune", "100", "--chains", "2", "--seed", "1", "--quiet"]


def run(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("fits")
    trials = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 200, seed=1)
    trials.to_csv(made / "trials.csv", index=False)
    return made


def fit(folder, *options, draws=60):
    own = ["v ~ 1", "-f", "z = 0.5", "-o", folder / "fit.nc", "--draws", draws, *QUICK]
    return run("fit", folder / "trials.csv", *own, *options)


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        (0.0, GOOD),
        (1e6, "Not certified, as it takes about 1000000 s: hddm-sbi"),
        (np.inf, "Not certified, as that needs new simulations: hddm-sbi"),
    ],
)
def test_a_fit_is_certified_where_that_is_cheap(folder, monkeypatch, takes, said):
    monkeypatch.setattr(certificate, "seconds", lambda *_: takes)
    result = fit(folder)
    assert result.exit_code == 0, result.output
    assert result.output.index("Posterior written to") < result.output.index(said)


def test_flags_leave_it_out_or_ask_for_it(folder, monkeypatch):
    monkeypatch.setattr(certificate, "seconds", lambda *_: 0.0)
    assert "ertified" not in fit(folder, "--no-certify").output
    monkeypatch.setattr(certificate, "seconds", lambda *_: 1e6)
    asked = fit(folder, "--certify")
    assert asked.exit_code == 0
    assert GOOD in asked.output
    assert "120 draws weighted by the closed form" in asked.output


def test_what_has_no_certificate_is_fitted_in_silence_and_refused_where_asked(folder):
    quiet = fit(folder, "--likelihood", "exact")
    assert quiet.exit_code == 0
    assert "ertif" not in quiet.output
    few = fit(folder, draws=20)
    assert few.exit_code == 0
    assert "ertif" not in few.output
    (folder / "fit.nc").unlink()
    refused = fit(folder, "--likelihood", "exact", "--certify")
    assert refused.exit_code == 2
    assert "nothing to certify: the likelihood of this model is exact, in closed form" in refused.output
    assert not (folder / "fit.nc").exists()


def test_what_fails_unasked_is_no_failure_of_the_fit(folder, monkeypatch):
    monkeypatch.setattr(certificate, "seconds", lambda *_: 0.0)
    monkeypatch.setattr(certificate, "_log_ratios", lambda fit, others, at: np.full(len(at), np.nan))
    unasked = fit(folder)
    assert unasked.exit_code == 0
    assert "Not certified: the equation of 'ddm' could be solved at 0 of 100 draws" in unasked.output
    assert fit(folder, "--certify").exit_code == 2
    assert (folder / "fit.nc").exists()


def test_a_file_is_certified_and_corrected(folder):
    assert fit(folder, "--no-certify").exit_code == 0
    result = run("certify", folder / "fit.nc", "-o", folder / "corrected.nc")
    assert result.exit_code == 0, result.output
    assert GOOD in result.output
    assert "corrected_mean" in result.output
    corrected = inference_data.read(folder / "corrected.nc")
    model = hs.load_model(folder / "fit.nc")
    assert np.isfinite(model.theta(corrected)).all()


def test_a_posterior_that_weights_cannot_correct_is_not_written(folder, monkeypatch):
    assert fit(folder, "--no-certify").exit_code == 0
    ratios = 30.0 * np.random.default_rng(1).standard_normal(1_000)
    monkeypatch.setattr(certificate, "_log_ratios", lambda fit, others, at: ratios[: len(at)])
    result = run("certify", folder / "fit.nc", "-o", folder / "none.nc")
    assert result.exit_code == 2
    assert "too far from the closed form" in result.output
    assert "cannot be corrected by weights" in result.output
    assert not (folder / "none.nc").exists()
    monkeypatch.setattr(certificate, "seconds", lambda *_: 0.0)
    after = fit(folder)
    assert after.exit_code == 0
    assert f"hddm-sbi certify {folder / 'fit.nc'} -o corrected.nc" in after.output


@pytest.mark.parametrize(("arguments", "mention"), [
    (["--draws", "20"], "at least 100; got 20"),
    (["-n", "2000"], "Error: --simulations 2000 is for likelihoods that only their simulator can judge"),
    (["-o", "nowhere/corrected.nc"], "does not exist; create it first"),
    (["--simulations", "20"], "the number of simulations must be a whole number of at least 1000; got 20"),
])  # fmt: skip
def test_bad_arguments_are_refused(folder, arguments, mention):
    assert fit(folder, "--no-certify").exit_code == 0
    result = run("certify", folder / "fit.nc", *arguments)
    assert result.exit_code == 2
    assert mention in result.output

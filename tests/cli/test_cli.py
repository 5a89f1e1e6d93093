"""The command line as a newcomer types it: results, exit codes, messages without tracebacks."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import hddm_sbi as hs
import hddm_sbi.cli
from hddm_sbi.analysis.experiment import simulate_experiment
from hddm_sbi.cli import main
from hddm_sbi.cli.fit import fit
from hddm_sbi.inference import inference_data
from hddm_sbi.likelihoods.card import read_card, write_card
from hddm_sbi.likelihoods.catalogue import weights_of
from hddm_sbi.likelihoods.scores import HeldOutScores
from hddm_sbi.training import shipped

FORMULA = "v ~ condition + (1|subject)"
QUICK = ["--draws", "40", "--tune", "80", "--chains", "2", "--seed", "1", "--quiet", "--likelihood", "exact"]


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    return simulate_experiment(n_subjects=4, n_trials=15, seed=2).trials


def run(*arguments: str):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.mark.parametrize(("suffix", "write"), [
    (".csv", lambda d, p: d.to_csv(p, index=False)),
    (".tsv", lambda d, p: d.to_csv(p, index=False, sep="\t")),
    (".parquet", lambda d, p: d.to_parquet(p)),
    (".feather", lambda d, p: d.to_feather(p)),
])  # fmt: skip
def test_fit_reads_tables_and_writes_netcdf(trials, tmp_path: Path, suffix, write):
    write(trials, tmp_path / f"trials{suffix}")
    result = run("fit", tmp_path / f"trials{suffix}", FORMULA, "-f", "z = 0.5", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 0, result.output
    equation = "v = v_Intercept + v_condition[hard] + v_1|subject    where condition = hard"
    assert 0 < result.output.index(equation) < result.output.index("ess_bulk")
    assert "Warning: the effective sample size of" in result.output
    posterior = az.from_netcdf(tmp_path / "fit.nc")
    assert posterior.posterior.sizes["draw"] == 40
    assert posterior.posterior.attrs["model"] == "ddm"


def edited(data: pd.DataFrame, **columns) -> pd.DataFrame:
    return data.assign(**columns)


def with_value(data: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    data = data.copy()
    data[column] = data[column].astype(object)
    data.loc[4, column] = value
    return data


BAD_TABLES = {
    "missing column": (lambda d: d.drop(columns="rt"), "rt"),
    "nan": (lambda d: with_value(with_value(d, "rt", np.nan), "response", np.nan), "--deadline"),
    "zero rt": (lambda d: with_value(d, "rt", 0.0), "4"),
    "negative rt": (lambda d: with_value(d, "rt", -0.5), "4"),
    "milliseconds": (lambda d: edited(d, rt=d["rt"] * 1000), "1000"),
    "coding": (lambda d: with_value(d, "response", 3), "4"),
    "zero-one": (lambda d: edited(d, response=(d["response"] + 1) // 2), "upper"),
    "unknown column": (lambda d: d.rename(columns={"condition": "cond"}), "condition"),
    "one level": (lambda d: edited(d, condition="easy"), "condition"),
    "empty": (lambda d: d.iloc[:0], "empty"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_refused_with_exit_code_2(trials, tmp_path: Path, name):
    spoil, mention = BAD_TABLES[name]
    spoil(trials).to_csv(tmp_path / "bad.csv", index=False)
    result = run("fit", tmp_path / "bad.csv", FORMULA, "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 2
    assert mention in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "fit.nc").exists()


def test_duplicate_columns_are_refused(trials, tmp_path: Path):
    text = trials.to_csv(index=False).replace("subject,condition", "subject,subject", 1)
    (tmp_path / "bad.csv").write_text(text)
    result = run("fit", tmp_path / "bad.csv", "v ~ (1|subject)", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 2
    assert "subject" in result.output


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["fit", "absent.csv", "v ~ 1"], "absent.csv"),
        (["fit", "{csv}", "w ~ 1", "-o", "{out}"], "w"),
        (["fit", "{csv}", "v ~ (1|", "-o", "{out}"], "v"),
        (["fit", "{csv}", "v ~ 1", "--model", "dmm", "-o", "{out}"], "ddm"),
        (["fit", "{csv}", "v ~ 1", "--likelihood", "none.safetensors", "-o", "{out}"], "none.safetensors"),
        (["fit", "{csv}", "v ~ 1", "-o", "no/such/folder/fit.nc"], "folder"),
        (["fit", "{csv}", "v ~ 1", "--upper", "yes", "-o", "{out}"], "yes"),
        (["simulate", "ddm", "v=1"], "lacks"),
        (["simulate", "ddm", "v=one"], "NUMBER"),
        (["simulate", "ddm", "v=1", "a=-1", "z=.5", "t0=.3"], "rows 0"),
        (["check", "nothing"], "nothing"),
    ],
)
def test_bad_arguments_are_refused_with_exit_code_2(trials, tmp_path: Path, arguments, mention):
    trials.to_csv(tmp_path / "t.csv", index=False)
    places = {"csv": tmp_path / "t.csv", "out": tmp_path / "fit.nc"}
    result = run(*(argument.format(**places) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert mention in result.output
    assert "Traceback" not in result.output


def test_check_prints_scores_and_verdicts(monkeypatch):
    """The scores as the card has them, without their kind, and a line for each target."""
    card = read_card(weights_of("ddm"))
    monkeypatch.setattr(shipped, "score", lambda weights, simulator: card.scores)
    result = run("check", "ddm")
    assert result.exit_code == 0, result.output
    text, end, lines = result.output.partition("\n}\n")
    assert json.loads(text + end) == dataclasses.asdict(card.scores)
    assert text.startswith('{\n "KL": ')
    assert lines.splitlines()[0] == f"pass  KL = {card.scores.KL:.3g} (target: at most 5e-06)"
    assert [line.split()[:2] for line in lines.splitlines()[1:]] == [
        ["pass", "mean_abs_error"],
        ["pass", "posterior_bias"],
    ]
    monkeypatch.setattr(shipped, "score", lambda weights, simulator: dataclasses.replace(card.scores, KL=6e-6))
    result = run("check", "ddm")
    assert result.exit_code == 1
    assert "FAIL  KL = 6e-06" in result.output


@pytest.mark.parametrize("passed", [True, False])
def test_check_of_a_likelihood_of_ones_own_prints_its_verdict(tmp_path: Path, passed):
    scores = HeldOutScores(
        log_score=-2.0,
        information=1.0,
        p_value=0.5,
        where="chips",
        distance=0.01,
        mass=1.0,
        ranked=2_000,
        safe_outcomes=560,
        passed=passed,
        verdict="Said in words.",
    )
    card = read_card(weights_of("ddm"))
    (tmp_path / "own.safetensors").touch()
    write_card(tmp_path / "own.safetensors", dataclasses.replace(card, scores=scores, declaration={"name": "own"}))
    result = run("check", tmp_path / "own.safetensors")
    assert (result.output, result.exit_code) == ("Said in words.\n", 0 if passed else 1)


def test_named_responses_on_the_command_line_and_in_predictions(tmp_path: Path):
    """A refusal speaks of the flag; simulate, fit and predict speak of the table's responses."""
    theta = {"v0": 1.0, "v1": 2.0, "v2": 1.0, "A": 0.5, "B": 1.0, "t0": 0.2}
    table = hs.simulate("lba3", theta, 200, seed=1)
    simulate = [
        "simulate",
        "lba3",
        *(f"{name}={x}" for name, x in theta.items()),
        "-n",
        "200",
        "-o",
        tmp_path / "t.csv",
    ]
    assert run(*simulate, "--choices", "left,mid,right").exit_code == 0
    named = pd.read_csv(tmp_path / "t.csv")["response"]
    assert named.tolist() == table["response"].map({0: "left", 1: "mid", 2: "right"}).tolist()
    assert "must name the 3 responses of 'lba3' in their order" in run(*simulate, "--choices", "left,mid").output
    fit = ["fit", tmp_path / "t.csv", "v0 ~ 1", "--model", "lba3", "-o", tmp_path / "fit.nc", *QUICK]
    refused = run(*fit)
    assert refused.exit_code == 2
    assert "the order of the model's choices: --choices left,mid,right." in refused.output
    fitted = run(*fit, "--choices", "left,mid,right")
    assert fitted.exit_code == 0, fitted.output
    assert run("predict", tmp_path / "fit.nc", "--draws", "20", "-o", tmp_path / "p.csv").exit_code == 0
    counts = pd.read_csv(tmp_path / "p.csv")["response"].value_counts()
    # 4 000 predictions of the 200 trials that were fitted, whose own shares have a standard error of 0.035.
    assert set(counts.index) == {"left", "mid", "right"}
    assert abs(counts["mid"] / 4_000 - (table["response"] == 1).mean()) < 5 * 0.035


def test_lapses_by_formula_and_their_law(trials, tmp_path: Path):
    trials.to_csv(tmp_path / "t.csv", index=False)
    law = ["--lapse-mean", "1.5", "--lapse-choices", "1=0.7,-1=0.3"]
    formulas = ["v ~ 1", "-f", "z = 0.5", "-f", "lapse ~ 1 + (1|subject)"]
    result = run("fit", tmp_path / "t.csv", *formulas, *law, "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 0, result.output
    assert "lapse_1|subject_sigma" in result.output
    assert hs.load_model(tmp_path / "fit.nc").lapses == hs.LapseLaw((0.3, 0.7), mean=1.5)
    assert run("predict", tmp_path / "fit.nc", "--draws", "5", "-o", tmp_path / "p.csv").exit_code == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 5 * len(trials)


@pytest.mark.parametrize(
    ("empty", "arguments", "facts"),
    [
        ("late", ["--deadline", "limit"], {"deadline": "limit"}),
        ("no", ["--withheld", "-1", "--deadline", "1.1"], {"deadline": 1.1, "withheld": -1}),
        ("", ["--censored", ",1.1", "--truncated", "0.2,9"], {"censored": [None, 1.1], "truncated": [0.2, 9.0]}),
    ],
)
def test_tables_in_which_something_is_missing(tmp_path: Path, empty, arguments, facts):
    """From the file to the predictions: the same gaps are read, kept, and predicted."""
    trials = hs.simulate("ddm", {"v": 0.8, "a": 0.9, "z": 0.5, "t0": 0.3}, 60, seed=1).assign(limit=1.1)
    gone = ((trials["rt"] > 1.1) & (empty != "")) | ((trials["response"] == -1) & (empty == "no"))
    trials.assign(rt=trials["rt"].mask(gone), response=trials["response"].mask(gone)).to_csv(tmp_path / "t.csv")
    held = ["-f", "z = 0.5", "-f", "a = 0.9", "-f", "t0 = 0.3", "-o", tmp_path / "fit.nc"]
    result = run("fit", tmp_path / "t.csv", "v ~ 1", *arguments, *held, *QUICK)
    assert result.exit_code == 0, result.output
    model = hs.load_model(tmp_path / "fit.nc")
    assert model.facts["missing"] == facts
    predicted = run("predict", tmp_path / "fit.nc", "-o", tmp_path / "p.csv", "--draws", "5")
    assert predicted.exit_code == 0, predicted.output
    rt = pd.read_csv(tmp_path / "p.csv")["rt"]
    assert (rt.isna().mean() > 0.0) == bool(empty)
    assert np.isposinf(rt).any() == (not empty)
    assert rt[np.isfinite(rt)].max() <= 1.1


def test_a_sequence_on_the_command_line(trials, tmp_path: Path):
    counted = trials.assign(trial=trials.groupby("subject").cumcount(), paid=(trials["response"] == 1).astype(float))
    counted.to_csv(tmp_path / "t.csv", index=False)
    rule = ["--sequence", "dq = delta_rule(paid, response, by=subject)", "--target-accept", "0.9"]
    result = run("fit", tmp_path / "t.csv", "v ~ 0 + dq", "-f", "z = 0.5", *rule, "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 0, result.output
    assert "alpha_Intercept" in result.output
    (sequence,) = hs.load_model(tmp_path / "fit.nc").sequences.values()
    assert sequence.settings == {"feedback": "paid", "chosen": "response", "by": "subject"}
    assert run("predict", tmp_path / "fit.nc", "--draws", "3", "-o", tmp_path / "p.csv").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sequence", "dq = delta(a, b)"], "'delta' is not a rule that comes with hddm_sbi"),
        (["--target-accept", "2"], "Invalid value for '--target-accept': 2.0 is not in the range 0.0<x<1.0."),
        (["--quick", "--ess", "9"], "--quick is a first look of fixed length: leave out --quick, or --ess."),
        (
            ["--method", "svi", "--ess", "9"],
            "--method 'svi' takes a fixed number of draws: leave out --ess and --minut",
        ),
        (["--upper", "x"], "--upper 'x' does not occur"),
        (["--lapse", "1"], "Invalid value for '--lapse': 1.0 is not in the range 0.0<=x<1.0, nor is it 'estimated'."),
        (["--lapse", "some"], "Invalid value for '--lapse': 'some' is not a valid float range, nor is it 'estimated'."),
        (
            ["--lapse-seconds", "-1"],
            "Invalid value for '--lapse-seconds': -1.0 is not in the range x>0.0, nor is it 'range'.",
        ),
        (["--lapse-mean", "0"], "Invalid value for '--lapse-mean': 0.0 is not in the range x>0.0."),
        (["--lapse-mean", "2", "--lapse-seconds", "5"], "--lapse-mean 2.0 makes lapses exponential in time, --lapse-"),
        (["--lapse-choices", "left"], "must be RESPONSE=PROBABILITY,..., as in left=0.7,right=0.3; got 'left'."),
        (["--lapse-choices", "1=0.7,-1=0.2"], "probabilities that sum to 1; they sum to 0.9."),
        (["--lapse", "0.1", "-f", "lapse ~ 1"], "--lapse 0.1 and the formula 'lapse ~ 1' both say the probability"),
        (["--lapse", "estimated", "--lapse-seconds", "range", "--upper", "x"], "--upper 'x' does not occur"),
        (["--withheld", "none"], "--withheld 'none' must be one of the responses, -1, 1."),
        (["--deadline", "nan"], "--deadline nan must be a positive number of seconds, or a column of them"),
        (["--censored", "9,"], "no trial has both"),
        (["--censored", ",-2"], "--censored ,-2.0 must be a positive number of seconds"),
        (["--truncated", "3,0.2"], "--truncated 3.0,0.2 must be the shortest and the longest time; rows 0, 1, 2"),
        (["--truncated", ",0.4"], "--truncated ,0.4 says that trials with times outside were removed"),
        (["--sequence", "dq = delta_rule(rt, response, by=subject, order=rt)"], "--sequence 'dq' stands in no formula"),
        (["--priors", "hdm"], "Its sets: hddm; leave out --priors for its default priors."),
    ],
)
def test_refusals_speak_of_flags(trials, tmp_path: Path, arguments, said):
    trials.to_csv(tmp_path / "t.csv", index=False)
    result = run("fit", tmp_path / "t.csv", "v ~ 1", "-o", tmp_path / "fit.nc", *arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    "arguments",
    [["predict", "{fit}", "-o", "{out}"], ["simulate", "ddm", "v=1", "a=1", "z=.5", "t0=.3", "-o", "{out}"]],
)
def test_a_full_disk_is_one_sentence_and_leaves_no_file(trials, tmp_path: Path, monkeypatch, arguments):
    trials.to_csv(tmp_path / "t.csv", index=False)
    assert run("fit", tmp_path / "t.csv", "v ~ 1", "-o", tmp_path / "fit.nc", *QUICK).exit_code == 0
    monkeypatch.setattr("os.fsync", no_space)
    result = run(*(a.format(fit=tmp_path / "fit.nc", out=tmp_path / "new.csv") for a in arguments))
    assert result.exit_code == 1
    assert result.output.strip().splitlines()[-1].startswith("Error: [Errno 28] No space left on device; free some")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fit.nc", "t.csv"]


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_a_demo_where_no_folder_can_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    result = run("demo", "--out", tmp_path / "file" / "demo")
    assert result.exit_code == 2
    assert "cannot be made" in result.output


def test_upper_on_the_command_line(trials, tmp_path: Path):
    coded = trials.assign(response=np.where(trials["response"] == 1, "right", "left"))
    coded.to_csv(tmp_path / "t.csv", index=False)
    result = run("fit", tmp_path / "t.csv", "v ~ 1", "--upper", "right", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 0, result.output


def test_stimuli_and_outliers_on_the_command_line(trials, tmp_path: Path):
    right = trials.index % 2 == 0
    coded = trials.assign(
        S=np.where(right, 1, 2),
        response=np.where((trials["response"] == 1) == right, 1, 2),
        rt=trials["rt"].where(trials.index != 5, 55.0),
    )
    coded.to_csv(tmp_path / "t.csv", index=False)
    result = run("fit", tmp_path / "t.csv", "v ~ 1", "--correct", "S", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 0, result.output
    assert "Warning: column 'rt' holds 1 value above 30 s, in row 5" in result.output
    result = run("fit", tmp_path / "t.csv", "v ~ 1", "--correct", "condition", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 2
    assert "--correct 'condition' compares responses" in result.output


def test_help_lists_every_verb_with_the_first_sentence_of_its_own_help():
    shown = dict(re.findall(r"^  (\w+) +(\S.*(?:\n {4,}\S.*)*)", run("--help").output.partition("Commands:")[2], re.M))
    modules = {path.stem for path in Path(hddm_sbi.cli.__file__).parent.glob("*.py")} - {"__init__", "output"}
    assert set(shown) == modules
    for verb, said in shown.items():
        own = " ".join(getattr(importlib.import_module(f"hddm_sbi.cli.{verb}"), verb).help.split())
        assert own.startswith(" ".join(said.split())), verb


def test_methods_are_the_samplers():
    (method,) = (option for option in fit.params if option.name == "method")
    assert tuple(method.type.choices) == tuple(hs.SAMPLERS)


def test_simulate_is_reproducible_and_models_lists_the_ddm():
    arguments = ["simulate", "ddm", "v=1", "a=1", "z=.5", "t0=.3", "-n", "5", "--seed", "7"]
    first, second = run(*arguments), run(*arguments)
    assert first.output == second.output
    assert len(first.output.splitlines()) == 6
    assert "ddm" in run("models").output


# tests/cli/test_faults.py ends a command by SIGTERM too.
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_interrupt_writes_the_draws_so_far(trials, tmp_path: Path, number):
    """A real Ctrl-C or SIGTERM to a real process: the file is there, the message says so, the exit code is 130."""
    trials.to_csv(tmp_path / "t.csv", index=False)
    command = [sys.executable, "-m", "hddm_sbi", "fit", "t.csv", "v ~ 1", "-f", "z = 0.5", "-o", "fit.nc", "--quiet"]
    command += ["--likelihood", "exact", "--draws", "1000000", "--tune", "50", "--chains", "2", "--folder", "kept"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    chains = [tmp_path / "kept" / f"chain-{i}.draws" for i in range(2)]
    deadline = time.monotonic() + 60
    # 80 rows of three numbers: tuning is over
    while not all(file.exists() and file.stat().st_size > 80 * 24 for file in chains):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    posterior = az.from_netcdf(tmp_path / "fit.nc")
    assert posterior.posterior.sizes["draw"] > 1


def test_a_full_disk_loses_nothing(trials, tmp_path: Path, monkeypatch):
    """The first write fails as on a full disk: an older file stays, and the message says where the posterior is."""
    trials.to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "fit.nc").write_text("older")
    write = inference_data.write_whole

    def full(content, path):
        if path.parent == tmp_path:
            raise OSError(28, "No space left on device")
        write(content, path)

    monkeypatch.setattr(inference_data, "write_whole", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    result = run("fit", tmp_path / "t.csv", "v ~ 1", "-o", tmp_path / "fit.nc", *QUICK)
    assert result.exit_code == 1
    (rescued,) = (tmp_path / "elsewhere").glob("*/fit.nc")
    assert "No space left on device" in result.stderr
    assert str(rescued) in result.stderr
    assert az.from_netcdf(rescued).posterior.sizes["draw"] == 40
    assert (tmp_path / "fit.nc").read_text() == "older"
    assert not list(tmp_path.glob("*.part"))


def test_a_limit_on_the_size_of_files_loses_nothing(trials, tmp_path: Path):
    """No file may be as large as the posterior, wherever it lies: it is in parts, and one sentence says so."""
    trials.to_csv(tmp_path / "t.csv", index=False)
    fit = [sys.executable, "-m", "hddm_sbi", "fit", "t.csv", "v ~ 1", "-o", "fit.nc", *QUICK]
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 20; {shlex.join(fit)}"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "fit.nc could not be written ([Errno 27] File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.glob("*.nc*")] == []
    parts = sorted(tmp_path.glob("hddm_sbi-*/fit.nc.*"))
    assert len(parts) > 1
    (tmp_path / "joined.nc").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert az.from_netcdf(tmp_path / "joined.nc").posterior.sizes["draw"] == 40
    result = run("summary", tmp_path / "joined.nc")
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def fits(trials, tmp_path_factory):
    """Two fits of the same trials, written by the command line."""
    folder = tmp_path_factory.mktemp("fits")
    trials.to_csv(folder / "t.csv", index=False)
    for name, formula in (("null", "v ~ 1"), ("effect", "v ~ condition")):
        result = run("fit", folder / "t.csv", formula, "-f", "z = 0.5", "-o", folder / f"{name}.nc", *QUICK)
        assert result.exit_code == 0, result.output
    return folder


def test_summary_and_predictions_of_a_file(fits, trials):
    result = run("summary", fits / "effect.nc")
    assert result.exit_code == 0, result.output
    assert "v_condition[hard]" in result.output
    assert result.output.splitlines()[2].endswith("identity")
    result = run("predict", fits / "effect.nc", "-o", fits / "p.csv", "--draws", "3")
    assert result.exit_code == 0, result.output
    predicted = pd.read_csv(fits / "p.csv")
    assert predicted.columns.tolist() == ["draw", "trial", "condition", "rt", "response"]
    assert len(predicted) == 3 * len(trials)
    assert predicted["condition"].tolist() == trials["condition"].tolist() * 3
    assert set(predicted["response"]) == {1, -1}
    assert run("predict", fits / "effect.nc", "--draws", "3").output == (fits / "p.csv").read_text()


def test_comparison_of_files(fits):
    result = run("compare", fits / "null.nc", fits / "effect.nc")
    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()[1:]} == {"null", "effect"}
    assert "elpd_loo" in result.stdout


def test_comparison_of_files_by_evidence(fits, tmp_path):
    files = [tmp_path / "null.nc", tmp_path / "effect.nc"]
    for file, formula in zip(files, ("v ~ 1", "v ~ condition"), strict=True):
        result = run("fit", fits / "t.csv", formula, "-f", "z = 0.5", "-o", file, *QUICK, "--draws", 100)
        assert result.exit_code == 0, result.output
    result = run("compare", *files, "--by", "evidence")
    assert result.exit_code == 0, result.output
    assert {line.split()[0] for line in result.stdout.splitlines()[1:]} == {"null", "effect"}
    shares = [float(line.split()[-1]) for line in result.stdout.splitlines()[1:]]
    assert shares[0] > shares[1]
    assert abs(sum(shares) - 1) < 1e-3
    result = run("compare", fits / "null.nc", fits / "effect.nc", "--leave-out", "subjct")
    assert result.exit_code == 2
    assert "expected 'trial', or a column" in result.output


def test_comparison_of_files_with_refits(tmp_path, monkeypatch):
    """One trial, which no lapse explains, decides where both posteriors lie: both are fitted again without it, which
    the folder keeps; without --refit the warning says so."""
    table = hs.simulate("ddm", {"v": 2.0, "a": 1.0, "z": 0.5, "t0": 0.3}, 40, seed=1).assign(x=np.arange(40) % 2)
    table.loc[7, ["rt", "response"]] = [9.0, -1]
    table.to_csv(tmp_path / "t.csv", index=False)
    files = [tmp_path / "one.nc", tmp_path / "two.nc"]
    held = ["-f", "a = 1", "-f", "z = 0.5", "-f", "t0 = 0.3", "--lapse", "0"]
    for file, formula in zip(files, ("v ~ 1", "v ~ x"), strict=True):
        result = run("fit", tmp_path / "t.csv", formula, *held, "-o", file, *QUICK, "--draws", 200)
        assert result.exit_code == 0, result.output
    before = run("compare", *files)
    assert "one: without trial 7 (0 = first) the posterior would be so different" in before.stderr
    assert _column(before, "refits") == {"one": "0", "two": "0"}
    result = run("compare", *files, "--refit", "--folder", tmp_path / "kept")
    assert result.exit_code == 0, result.output
    assert _column(result, "refits") == {"one": "1", "two": "1"}
    assert all(float(k) < 0.7 for k in _column(result, "pareto_k").values())
    assert "so different" not in result.stderr
    assert _column(result, "elpd_loo") != _column(before, "elpd_loo")
    assert len(list((tmp_path / "kept").glob("refit-*.json"))) == 2
    monkeypatch.setattr(hs.HierarchicalModel, "fit", None)
    again = run("compare", *files, "--refit", "--folder", tmp_path / "kept")
    assert again.stdout == result.stdout


def _column(result, name):
    """Of the table on the screen, by the model of its row."""
    first, *rows = (line.split() for line in result.stdout.splitlines() if line)
    return {row[0]: row[1 + first.index(name)] for row in rows}


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["summary", "{folder}/none.nc"], "there is no file"),
        (["summary", "{folder}/t.csv"], "cannot be read as a fit"),
        (["predict", "{folder}/cut.nc"], "cannot be read as a fit"),
        (["predict", "{folder}/null.nc", "-o", "no/such/p.csv"], "does not exist"),
        (["compare", "{folder}/null.nc"], "two fits or more"),
        (["compare", "{folder}/null.nc", "{folder}/effect.nc", "--by", "evidence", "--refit"], "drop --refit"),
        (["compare", "{folder}/null.nc", "{folder}/effect.nc", "--folder", "kept"], "--folder keeps what refits say"),
        (["compare", "{folder}/null.nc", "{folder}/t.csv"], "cannot be read as a fit"),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_exit_code_2(fits, arguments, mention):
    (fits / "cut.nc").write_bytes((fits / "null.nc").read_bytes()[:5_000])
    result = run(*(argument.format(folder=fits) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert mention in result.output
    assert "Traceback" not in result.output

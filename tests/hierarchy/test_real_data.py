"""Published data: trusted posteriors and maximum-likelihood values are reproduced.

False-alarm rate: a difference of two Monte-Carlo means is compared with 5 of its standard errors, 6e-7 per number and
below 1e-4 for all numbers here together.
"""

from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

pytestmark = pytest.mark.real_data

BASIC = ["v ~ 1 + (1|subj_idx)", "a ~ 1 + (1|subj_idx)", "t0 ~ 1 + (1|subj_idx)", "z = 0.5"]
VSTIM = ["v ~ 0 + stim + (1|subj_idx:stim)", *BASIC[1:]]


# HDDM's outlier density is 0.1 per response: uniform over 5 s, the reference's lapse mixture.
def cavanagh(published: Path, formulas: list[str], likelihood: str, *, draws: int, seed: int):
    data = pd.read_csv(published / "cavanagh.csv")
    model = hs.HierarchicalModel(formulas, data, likelihood=likelihood, priors="hddm", upper=1, lapse_seconds=5.0)
    return model.fit(draws=draws, tune=500, chains=4, seed=seed, progress=False)


def in_reference_terms(posterior) -> dict[str, np.ndarray]:
    """Our posterior under the names and conventions of the reference (a: full separation), (n_draws,) each."""
    flat = inference_data.dataset(posterior).stack(sample=("chain", "draw")).transpose("sample", ...)
    out: dict[str, np.ndarray] = {}
    for ours, theirs, factor in (("v", "v", 1.0), ("a", "a", 2.0), ("t0", "t", 1.0)):
        terms = [name for name in map(str, flat.data_vars) if name.startswith(f"{ours}_1|") and "sigma" not in name]
        mean = flat[f"{ours}_Intercept"].to_numpy()[:, None] if f"{ours}_Intercept" in flat else 0.0
        out[f"{theirs}_std"] = factor * flat[f"{terms[0]}_sigma"].to_numpy()
        deviations = flat[terms[0]].to_numpy()
        if ours == "v" and "v_stim" in flat:
            conditions = flat["v_stim"].to_numpy()
            for k in range(3):
                out[f"v_LL_WL_WW[{k}]"] = conditions[:, k]
            levels = [str(level).split(":") for level in flat[terms[0]][terms[0].split("|")[1]].to_numpy()]
            names = ["LL", "WL", "WW"]
            for column, (subject, stim) in enumerate(levels):
                k = names.index(stim)
                out[f"v_subj[{subject},{k}]"] = conditions[:, k] + deviations[:, column]
            continue
        out[theirs] = factor * np.asarray(mean)[:, 0]
        for column in range(deviations.shape[1]):
            out[f"{theirs}_subj[{column}]"] = factor * (mean[:, 0] + deviations[:, column])
    return out


def compare(posterior, reference: pd.DataFrame) -> None:
    ours = in_reference_terms(posterior)
    missing = set(reference["param"]) - set(ours)
    assert not missing, missing
    chains = inference_data.dataset(posterior).sizes["chain"]
    for row in reference.itertuples():
        draws = ours[row.param]
        # Draws on alternating sides of the mean make it, and not the sd, more precise than as many independent ones.
        ess, ess_of_sd = (float(az.ess(draws.reshape(chains, -1), method=how)) for how in ("bulk", "sd"))
        se = np.hypot(row.sd / np.sqrt(row.ess), draws.std() / np.sqrt(ess))
        assert abs(draws.mean() - row.mean) < 5 * se, (row.param, draws.mean(), row.mean, se)
        assert abs(np.log(draws.std() / row.sd)) < 5 * np.sqrt(1 / ess_of_sd + 1 / row.ess), (
            row.param,
            draws.std(),
            row.sd,
        )


@pytest.mark.filterwarnings("ignore::hddm_sbi.hierarchy.fits.diagnostics.ConvergenceWarning")
@pytest.mark.parametrize(("formulas", "name"), [(BASIC, "basic"), (VSTIM, "vstim")])
def test_cavanagh_reproduces_hddm_and_the_network_agrees(published: Path, formulas: list[str], name: str):
    reference = pd.read_csv(published / f"ref_cavanagh_{name}.csv")
    exact = cavanagh(published, formulas, "exact", draws=500, seed=1)
    compare(exact, reference)
    neural = in_reference_terms(cavanagh(published, formulas, "neural", draws=500, seed=2))
    for key, draws in in_reference_terms(exact).items():
        gap = abs(neural[key].mean() - draws.mean()) / draws.std()
        assert gap < 0.2, (key, gap)


def test_rr98_wiener_optima(published: Path):
    """rtdists stores minus the log likelihood at its optimum, and z in units of a."""
    trials = pd.read_csv(published / "rr98.csv")
    trials = trials[~trials["outlier"]]
    bins = pd.cut(trials["strength"], [-0.5, 10.5, 13.5, 16.5, 19.5, 32.5], labels=False).to_numpy()
    exact = hs.load_likelihood("ddm", kind="exact")
    for row in pd.read_csv(published / "ref_rr98_wiener_separate_mle.csv").itertuples():
        rows = ((trials["id"] == row.id) & (trials["instruction"] == row.instruction)).to_numpy()
        drifts = np.array([row.v_1, row.v_2, row.v_3, row.v_4, row.v_5])
        stored = {"v": drifts[bins[rows]], "a": row.a, "z": row.z * row.a, "t0": row.t0}
        theta = hs.convert(stored, "ddm", source="rtdists")
        response = np.where(trials["response"][rows] == "light", 1, -1)
        log_p = exact.log_prob(trials["rt"][rows], response, theta)
        assert float(-torch.sum(log_p)) == pytest.approx(row.objective, abs=5e-5), (row.id, row.instruction)


def test_rr98_full_diffusion_optima(published: Path):
    """rtdists' stored optima, whose integral over the start is numerical: 2e-4 per trial.

    Ours agrees with quadrature of the closed form given the start to 1e-6 in all,
    and the learned likelihood with ours to its target, .008 per trial.
    """
    trials = pd.read_csv(published / "rr98.csv")
    trials = trials[~trials["outlier"]]
    bins = pd.cut(trials["strength"], [-0.5, 10.5, 13.5, 16.5, 19.5, 32.5], labels=False).to_numpy()
    numerical, learned = (hs.load_likelihood("full_ddm", kind=kind) for kind in ("numerical", "neural"))
    given_start = hs.load_likelihood("ddm_sdv", kind="exact")
    nodes, weights = np.polynomial.legendre.leggauss(40)
    for row in pd.read_csv(published / "ref_rr98_full_diffusion_mle.csv").itertuples():
        rows = ((trials["id"] == row.id) & (trials["instruction"] == row.instruction)).to_numpy()
        drifts = np.array([row.v_1, row.v_2, row.v_3, row.v_4, row.v_5])[bins[rows]]
        widths = {"sv": row.sv, "sz": row.sz, "st0": 0.0}
        stored = {"v": drifts, "a": row.a, "z": row.z * row.a, "t0": row.t0, **widths}
        theta = hs.convert(stored, "full_ddm", source="rtdists")
        data = trials["rt"][rows], np.where(trials["response"][rows] == "light", 1, -1)
        ours = float(-torch.sum(numerical.log_prob(*data, theta)))
        assert ours == pytest.approx(row.objective, abs=2e-4 * rows.sum()), (row.id, row.instruction)
        assert float(-torch.sum(learned.log_prob(*data, theta))) == pytest.approx(ours, abs=0.008 * rows.sum())
        sz, fixed = theta["sz"], {name: theta[name] for name in ("v", "a", "t0", "sv")}
        starts = [given_start.log_prob(*data, {**fixed, "z": row.z + sz * x / 2}) for x in nodes]
        by_start = torch.stack(starts) + torch.tensor(np.log(weights / 2))[:, None]
        assert ours == pytest.approx(float(-torch.logsumexp(by_start, 0).sum()), abs=1e-6)


def test_rr98_lba_optima(published: Path):
    """rtdists' stored optima that converged, with a starting range of each accumulator and drifts of sd sv."""
    trials = pd.read_csv(published / "rr98.csv")
    trials = trials[~trials["outlier"]]
    bins = pd.cut(trials["strength"], [-0.5, 10.5, 13.5, 16.5, 19.5, 32.5], labels=False).to_numpy()
    stored = pd.read_csv(published / "ref_rr98_full_lba_mle.csv")
    assert (stored["convergence"] == 0).sum() == 5
    for row in stored[stored["convergence"] == 0].itertuples():
        rows = ((trials["id"] == row.id) & (trials["instruction"] == row.instruction)).to_numpy()
        drift = np.array([row.v_1, row.v_2, row.v_3, row.v_4, row.v_5])[bins[rows]]
        light = (trials["response"][rows] == "light").to_numpy().astype(int)
        threshold = max(row.a_1, row.a_2) + row.b
        theta = {"v0": drift, "v1": 1 - drift, "sv": row.sv, "A0": row.a_1, "A1": row.a_2, "t0": row.t0}
        theta |= {"B0": threshold - row.a_1, "B1": threshold - row.a_2}
        log_p = hs.load_likelihood("lba", "exact").log_prob(trials["rt"][rows], light, theta)
        assert -float(log_p.sum()) == pytest.approx(row.objective, abs=5e-5), (row.id, row.instruction)


def test_rr98_lba_optima_by_one_formula_for_both_accumulators(published: Path):
    """rtdists' stored optima that converged, by one formula for both accumulators: drift, start and gap of each."""
    trials = pd.read_csv(published / "rr98.csv")
    trials = trials[~trials["outlier"]]
    bins = pd.cut(trials["strength"], [-0.5, 10.5, 13.5, 16.5, 19.5, 32.5], labels=list("12345"))
    trials = trials.assign(bin=bins.astype(str))
    stored = pd.read_csv(published / "ref_rr98_full_lba_mle.csv")
    assert (stored["convergence"] == 0).sum() == 5
    formulas = {"v": "0 + choice:bin", "A": "0 + choice", "B": "0 + choice"}
    for row in stored[stored["convergence"] == 0].itertuples():
        table = trials[(trials["id"] == row.id) & (trials["instruction"] == row.instruction)]
        model = hs.HierarchicalModel(
            {**formulas, "sv": row.sv, "t0": row.t0},
            table,
            "lba",
            likelihood="exact",
            lapse=0,
            choices=["dark", "light"],
        )
        drift = np.array([row.v_1, row.v_2, row.v_3, row.v_4, row.v_5])
        starts = np.array([row.a_1, row.a_2])
        at = {
            "v_choice:bin": np.concatenate([drift, 1 - drift]),
            "A_choice": np.log(starts),
            "B_choice": np.log(starts.max() + row.b - starts),
        }
        theta = model.hierarchy.theta({name: torch.tensor(value) for name, value in at.items()})
        rows = torch.as_tensor(model.trials.values), theta[torch.as_tensor(model.cell)]
        total = float(-model.likelihood.log_prob_rows(*rows).sum())
        assert total == pytest.approx(row.objective, abs=5e-5), (row.id, row.instruction)


def test_roitman_constant_and_collapsing_bounds(published: Path):
    """PyDDM's optimum for monkey 1 (2 % lapses over [0, 2] s), and hundreds of nats for a bound that collapses.

    The learned likelihoods agree to their targets, .002 and .003 per trial, where the drift is in their box: at the
    highest coherence it is above 5.
    """
    trials = pd.read_csv(published / "roitman.csv")
    trials = trials[(trials["monkey"] == 1) & trials["rt"].between(0.1, 1.65, inclusive="neither")]
    rt, coherence = trials["rt"].to_numpy(), trials["coh"].to_numpy()
    response = np.where(trials["correct"] == 1, 1, -1)

    def loss(likelihood, per_coherence, rows=..., **theta):
        v = per_coherence * coherence[rows]
        log_p = likelihood.log_prob(rt[rows], response[rows], {"v": v, "z": 0.5, **theta})
        return -float(torch.logaddexp(np.log(0.98) + log_p, torch.tensor(np.log(0.02 / 4.0)).double()).sum())

    constant, collapsing = (hs.load_likelihood(name, kind="exact") for name in ("ddm", "angle"))
    stored = loss(constant, 10.308, a=0.746, t0=0.3079)
    assert stored == pytest.approx(205.49, abs=0.005)
    found = minimize(
        lambda x: loss(collapsing, x[0], a=x[1], t0=x[2], theta=x[3]),
        [10.0, 1.0, 0.25, 0.6],
        method="Nelder-Mead",
        bounds=[(1.0, 40.0), (0.3, 3.0), (0.01, 0.34), (0.0, 1.3)],
        options={"maxiter": 600},
    )
    assert stored - found.fun > 300.0
    k, a, t0, theta = found.x
    for name, target, drift, rest in (
        ("ddm", 0.002, 10.308, {"a": 0.746, "t0": 0.3079}),
        ("angle", 0.003, k, {"a": a, "t0": t0, "theta": theta}),
    ):
        inside = drift * coherence <= 5.0
        exact, learned = (loss(hs.load_likelihood(name, kind), drift, inside, **rest) for kind in ("exact", "neural"))
        assert inside.mean() > 0.8
        assert learned == pytest.approx(exact, abs=target * inside.sum())

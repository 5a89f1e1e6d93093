"""One formula for all accumulators of a race: an LBA written by hand, in designs, densities, fits and files."""

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from click.testing import CliRunner
from scipy.optimize import minimize
from scipy.stats import lognorm, norm
from test_record import fit

import hddm_sbi as hs
from hddm_sbi.analysis.predictive import predicted_table, predictive_draws
from hddm_sbi.analysis.shrinkage import group_levels
from hddm_sbi.cli import main
from hddm_sbi.data.formula import parse_formulas
from hddm_sbi.hierarchy.pilot.blocks import common_columns, gram
from hddm_sbi.hierarchy.pilot.pooled import pooled_fit
from hddm_sbi.hierarchy.terms.link import to_link
from hddm_sbi.likelihoods.likelihood import Likelihood

SIDES = np.array(["left", "right"])
AT = {"A": 0.5, "B": 0.7, "t0": 0.2}
#: drift of an accumulator that does not match, what matching adds, and what being the right one adds.
DRIFT, MATCH, RIGHT = 1.4, 1.6, 0.5


def brown_heathcote(t, v, A, b):
    """Density and distribution function of one accumulator, of drifts N(v, 1) given that they are positive."""
    x, y = (b - A) / t - v, b / t - v
    density = (v * (norm.cdf(y) - norm.cdf(x)) + norm.pdf(x) - norm.pdf(y)) / A
    reached = 1 + t / A * (x * norm.cdf(x) + norm.pdf(x) - y * norm.cdf(y) - norm.pdf(y))
    return density / norm.cdf(v), reached / norm.cdf(v)


def log_race(t, right, v, A, b):
    """Log density of a response at t; v: by accumulator, two columns."""
    (first, F), (second, G) = (brown_heathcote(t, v[:, i], A, b) for i in (0, 1))
    return np.log(np.where(right, second * (1 - F), first * (1 - G)))


def drifts(stimulus, subject=0.0, coefficients=(DRIFT, MATCH, RIGHT)):
    """Of both accumulators, (n, 2)."""
    base, match, right = coefficients
    return np.stack([base + subject + match * (stimulus == side) + right * (side == "right") for side in SIDES], -1)


@pytest.fixture(scope="module")
def trials():
    """Four subjects, two stimuli, and responses that are biased to the right."""
    rng = np.random.default_rng(1)
    stimulus, subject = SIDES[rng.integers(2, size=600)], np.arange(600) % 4
    v = drifts(stimulus, np.array([-0.4, 0.0, 0.1, 0.3])[subject])
    table = hs.simulate("lba", {"v0": v[:, 0], "v1": v[:, 1], **AT}, seed=1)
    return table.assign(response=SIDES[table["response"]], S=stimulus, subject=subject, x=rng.normal(size=600))


def model(formulas, table, simulator="lba", **options):
    options = {"likelihood": "exact", "stimulus": "S", "choices": SIDES.tolist(), "lapse": 0.0, **options}
    return hs.HierarchicalModel(formulas, table, simulator, **options)


FORMULA = "v ~ match + choice + (match|subject)"


@pytest.fixture(scope="module")
def fitted(trials):
    made = model([FORMULA, "A = 0.5"], trials)
    return made, fit(made)


def by_hand(table, v, A=AT["A"], b=AT["A"] + AT["B"], t0=AT["t0"]):
    return log_race(table["rt"].to_numpy() - t0, (table["response"] == "right").to_numpy(), v, A, b)


def test_the_log_likelihood_is_that_of_an_lba_by_hand(trials):
    """At coefficients with effects of matching, side, and of matching in each subject, to 1e-9 per trial."""
    made = model([FORMULA, *(f"{name} = {value}" for name, value in AT.items())], trials)
    rng = np.random.default_rng(2)
    of_subject = {"v_1|subject": rng.normal(size=4), "v_match|subject": rng.normal(size=4)}
    values = {"v_Intercept": DRIFT, "v_match": MATCH, "v_choice": [RIGHT], **of_subject}
    theta = made.hierarchy.theta({name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    v = drifts(trials["S"].to_numpy())
    for column, side in enumerate(SIDES):
        own = of_subject["v_1|subject"] + of_subject["v_match|subject"] * (trials["S"] == side).to_numpy()[:, None]
        v[:, column] += own[np.arange(600), trials["subject"]]
    np.testing.assert_allclose(theta.numpy()[made.cell][:, :2], v, rtol=1e-12)
    ours = made.likelihood.log_prob_rows(torch.as_tensor(made.trials.values), theta[torch.as_tensor(made.cell)])
    np.testing.assert_allclose(ours.numpy(), by_hand(trials, v), rtol=1e-9, atol=1e-9)


def test_the_mode_is_the_maximum_likelihood_fit_of_an_lba_by_hand(trials):
    """Priors of sd 100 move the mode by less than 1e-4 of a unit; the two searches end within 1e-3 of it."""
    wide = ["v_Intercept", "v_match", "v_choice", "A_Intercept", "B_Intercept", "t0_Intercept"]
    made = model("v ~ match + choice", trials, priors={name: dist.Normal(0.0, 100.0) for name in wide})
    density = made.density
    found = minimize(lambda x: tuple(-part for part in density(x)), density.start, jac=True, method="BFGS")
    ours = {name: value.numpy() for name, value in density.constrain(found.x).items()}

    def loss(x):
        A, B, t0 = np.exp(x[3:])
        return -by_hand(trials, drifts(trials["S"].to_numpy(), coefficients=x[:3]), A, A + B, t0).sum()

    start = [2.0, 1.0, 0.0, np.log(0.5), np.log(0.5), np.log(0.15)]
    theirs = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 3000, "xatol": 1e-5, "fatol": 1e-6})
    assert theirs.success
    np.testing.assert_allclose([float(ours[name].item()) for name in wide], theirs.x, atol=1e-3)


def test_one_formula_and_a_formula_for_each_accumulator_are_the_same_model(trials):
    """With `0 + choice:S` or the drifts of each accumulator by stimulus: the same theta, the same log likelihood."""
    together, alone = model("v ~ 0 + choice:S", trials), model(["v0 ~ 0 + S", "v1 ~ 0 + S"], trials)
    assert together.density.size == alone.density.size
    at = {f"{name}_Intercept": torch.tensor(np.log(value)) for name, value in AT.items()}
    drift = torch.tensor([2.0, 0.5, 1.0, 2.5]).double()
    theta = together.hierarchy.theta({**at, "v_choice:S": drift})
    assert torch.equal(theta, alone.hierarchy.theta({**at, "v0_S": drift[:2], "v1_S": drift[2:]}))


def test_the_compiled_density_is_that_of_the_pyro_model(trials):
    made = model(FORMULA, trials, lapse=0.02)
    eager = hs.flatten(made.hierarchy, made.start, path="eager")
    assert made.density.path == "compiled"
    for seed in range(3):
        x = made.density.start + 0.1 * np.random.default_rng(seed).normal(size=made.density.size)
        (value, gradient), (expected, by_x) = made.density(x), eager(x)
        np.testing.assert_allclose(value, expected, rtol=1e-11)
        np.testing.assert_allclose(gradient, by_x, rtol=1e-8, atol=1e-8)


def test_the_pilot_fit_knows_what_a_coefficient_moves(trials):
    """Its information about coefficients, by the sum over trials of J' I J with J by differences; and its start."""
    made = model("v ~ match + choice", trials)
    hierarchy, pooled = made._uncentred, pooled_fit(made._uncentred)
    columns = common_columns(hierarchy)
    names = [name for p in hierarchy.predictors for c in p.common for name in [c.name] * c.matrix.shape[1]]
    eta = {name: torch.zeros(1 if name == "v_choice" else (), dtype=torch.float64) for name in names}

    def links(at):
        theta = dict(zip(made.simulator.names, hierarchy.theta(at).unbind(-1), strict=True))
        return torch.stack([to_link(theta[name], p.link) for (name, *_), p in hierarchy.estimated], -1)

    jacobian = torch.stack([(links({**eta, name: eta[name] + 1e-3}) - links(eta)) / 1e-3 for name in names], -1)
    counts = torch.as_tensor(np.bincount(hierarchy.cell))
    expected = torch.einsum(
        "c,cpk,pq,cql->kl", counts.double(), jacobian, torch.as_tensor(pooled.information), jacobian
    )
    np.testing.assert_allclose(gram(hierarchy, pooled, columns, columns)[0], expected, rtol=1e-6, atol=1e-6)
    start = {name: float(value.reshape(-1)[0]) for name, value in made.start.items()}
    assert abs(start["v_match"] - MATCH) < 0.5


def test_names_labels_and_groups_of_the_posterior(fitted, trials):
    made, posterior = fitted
    known = posterior["posterior"]
    assert {"v_Intercept", "v_match", "v_choice", "v_1|subject", "v_match|subject", "v_match|subject_sigma"} <= set(
        known
    )
    assert known["v_choice_dim"].values.tolist() == ["right"]
    assert known["v_1+match|subject_corr_dim"].values.tolist() == ["1", "match"]
    assert set(posterior["constant_data"]) == {"S", "subject", "response"}
    theta = made.theta(posterior)
    left = (trials["S"] == "left").to_numpy()[made.trials.cells.first]
    flipped = theta[:, :, 1] - theta[:, :, 0] - known["v_choice"].to_numpy().reshape(-1, 1)
    match = (known["v_match"] + known["v_match|subject"]).to_numpy().reshape(-1, 4)
    subject = trials["subject"].to_numpy()[made.trials.cells.first]
    np.testing.assert_allclose(flipped, np.where(left, -1, 1) * match[:, subject], atol=1e-12)


def test_predictions_levels_and_figures(fitted):
    made, posterior = fitted
    predicted = predictive_draws(made, posterior, 2)
    assert predicted.choice.shape == (2, 600)
    table = predicted_table(made, posterior, 2)
    assert set(table["response"]) == set(SIDES)
    assert (table["S"] == table["response"]).mean() > 0.6
    assert group_levels(made, posterior, "v", "subject").groups == (0, 1, 2, 3)
    assert hs.plots.plot_shrinkage(made, posterior, "v", "subject")[0].get_ylabel() == "v (1/s)"
    (axis,) = hs.plots.plot_recovery(made, posterior, {"v_match": MATCH, "v_choice": [RIGHT]})
    assert axis.get_title().startswith("v (1/s): ")
    assert len(hs.plots.plot_predictive(made, posterior, by="S")) == 2
    assert hs.report.summary(made, posterior).loc["v_choice[right]", "scale"] == "identity"


def test_a_file_makes_the_model_again(fitted, tmp_path):
    made, posterior = fitted
    posterior.to_netcdf(str(tmp_path / "fit.nc"))
    again = hs.load_model(tmp_path / "fit.nc")
    assert (repr(again), again.fingerprint) == (repr(made), made.fingerprint)
    assert np.array_equal(again.theta(posterior), made.theta(posterior))
    assert hs.report.summary_of_fit(tmp_path / "fit.nc").equals(hs.report.summary(made, posterior))


def test_a_table_of_some_subjects_has_their_drifts(fitted, trials):
    made, posterior = fitted
    rows = trials["subject"].isin([1, 3])
    some = model([FORMULA, "A = 0.5"], trials[rows])
    assert np.array_equal(some.theta(posterior)[:, some.cell], made.theta(posterior)[:, made.cell][:, rows])


def test_simulated_tables_are_of_the_same_design(trials):
    made = model(["v ~ match", "A = 0.5", "B = 0.7", "t0 = 0.2"], trials)
    tables = hs.recover_parameters(made, {"v_Intercept": 1.5, "v_match": 1.5}, 4, method="laplace", progress=False)
    bias = hs.report.recovery_summary(tables)["bias"]
    # Four tables of 600 trials: the posterior sd of a mean is near .05.
    assert (bias[["v_Intercept", "v_match"]].abs() < 0.25).all()


def test_the_command_line(trials, tmp_path):
    trials.to_csv(tmp_path / "t.csv", index=False)
    command = [
        "fit",
        tmp_path / "t.csv",
        "v ~ match",
        "--model",
        "lba",
        "--likelihood",
        "exact",
        "--choices",
        "left,right",
    ]
    few = ["--draws", "20", "--tune", "40", "--chains", "2", "--seed", "1", "--quiet", "-o", tmp_path / "fit.nc"]
    refused = CliRunner().invoke(main, list(map(str, [*command, *few])))
    assert refused.exit_code == 2
    assert "name the column that has the right response of each trial, for instance --stimulus 'S'." in refused.stderr
    done = CliRunner().invoke(main, list(map(str, [*command, "--stimulus", "S", *few])))
    assert done.exit_code == 0, done.output
    assert "v_match" in done.stdout
    predicted = CliRunner().invoke(main, ["predict", str(tmp_path / "fit.nc"), "-o", str(tmp_path / "p.csv")])
    assert predicted.exit_code == 0, predicted.output
    assert set(pd.read_csv(tmp_path / "p.csv")["response"]) == set(SIDES)


REFUSED = {
    "match without stimulus": ("v ~ match", {"stimulus": None}, "'v ~ match': match says whether .* stimulus='S'"),
    "two formulas": (["v ~ match", "v0 ~ 1"], {}, "'v0' has two formulas, its own and that of 'v', .* all of v0, v1"),
    "an unknown parameter": ("w ~ 1", {}, "unknown parameter 'w' .* v0, v1, sv0, .* B1, t0, v for all of v0, v1"),
    "stimuli that are no responses": ("v ~ match", {"stimulus": "odd"}, r"'left', 'right'; got 'up' in row 2 \(0 = f"),
    "no such column": ("v ~ match", {"stimulus": "Z"}, "the data have no column 'Z'"),
    "no name": ("v ~ match", {"stimulus": ["S"]}, r"stimulus must be the name of a column .* got \['S'\]"),
    "the responses": ("v ~ match", {"stimulus": "response"}, "'response' is what the model explains"),
    "accuracy coding": ("v ~ match", {"choices": None, "correct": "S"}, "'error', 'correct'; .* write choice for mat"),
    "accumulators as groups": ("v ~ 1 + (1|choice)", {}, r"'choice' tells accumulators apart, .* \(0 \+ choice\|sub"),
    "of one accumulator": ("v0 ~ match", {}, "no column 'match', and v0 is that of one accumulator, .* all of them: v"),
    "a combination": ("v ~ match + choice:S", {}, "is a linear combination of"),
    "rows": ("v ~ match + np.log(x)", {}, "is not a finite number in rows [0-9, ]+ and [0-9]+ more "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(trials, name):
    formulas, options, expected = REFUSED[name]
    table = trials.assign(odd=trials["S"].where(trials.index != 2, "up"))
    with pytest.raises(hs.InputError, match=expected):
        model(formulas, table, **options)


@pytest.mark.parametrize("name", ["match", "choice"])
def test_columns_of_the_table_that_are_called_as_those_of_accumulators(trials, name):
    """Refused in a formula of all accumulators; in that of one they are the table's. Responses are `choice` anyway."""
    table = trials.assign(**{name: trials["x"]})
    with pytest.raises(hs.InputError, match=f"{name!r} is a column of the table, and what .* rename the column"):
        model(f"v ~ {name}", table)
    assert f"v0_{name}" in model(f"v0 ~ {name}", table).prior_table.index
    answered = trials.rename(columns={"response": "choice"})
    assert "v_choice" in model("v ~ choice", answered, response="choice").prior_table.index


def test_stimuli_need_accumulators():
    data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.5, "t0": 0.3}, n_trials=20, seed=1)
    with pytest.raises(hs.InputError, match="stimulus='S' is for models whose choices are accumulators; leave it out"):
        hs.HierarchicalModel("v ~ 1", data, stimulus="S")


@pytest.mark.parametrize("simulator", ["lba3", "rdm3", "lnr3", "race3", "lca3"])
def test_every_race_of_three_choices_with_stimuli_that_are_fewer(simulator):
    """`match` marks the one of three that is asked for; `choice` has the codes of the model, as numbers."""
    known = hs.load_simulator(simulator)
    stem, members = next(iter(known.stems.items()))
    theta = {p.name: sum(p.typical) / 2 for p in known.parameters}
    table = hs.simulate(simulator, theta, 60, seed=1).assign(S=np.arange(60) % 2)
    fixed = {name: value for name, value in theta.items() if name not in members}
    made = model({stem: "match + choice", **fixed}, table, simulator, choices=None, likelihood="neural")
    (predictor,) = made._uncentred.predictors
    assert (predictor.parameters, predictor.common[2].levels) == (members, (1, 2))
    at = {"Intercept": 0.5, "match": 0.3, "choice": [0.1, -0.1]}
    found = made._uncentred.theta({f"{stem}_{name}": torch.tensor(x, dtype=torch.float64) for name, x in at.items()})
    columns = [known.names.index(name) for name in members]
    expected = 0.3 * np.eye(3)[table["S"]] + np.array([0.5, 0.6, 0.4])
    eta = to_link(found[torch.as_tensor(made.cell)][:, columns], predictor.link)
    # Links map onto the box softly: some numbers move by 1e-4.
    np.testing.assert_allclose(eta, expected, atol=1e-3)


def test_responses_may_be_numbers_of_the_table():
    table = hs.simulate("lba", {"v0": 1.0, "v1": 2.0, **AT}, 60, seed=1)
    tens = table.assign(response=10 * table["response"], S=10 * (np.arange(60) % 2))
    made = model("v ~ match + choice", tens, choices=[0, 10])
    assert made._uncentred.predictors[0].common[2].levels == (10,)


STEMS = {"m": ("m0", "m1"), "s": ("s0", "s1"), "w": ("w0", "w1")}
MEMBERS = [member for members in STEMS.values() for member in members]


@pytest.mark.parametrize(
    ("formulas", "expected"),
    [
        ([], ["m0 ~ 1", "m1 ~ 1", "s ~ 1", "w = 2"]),
        (["m ~ match"], ["m ~ match", "s ~ 1", "w = 2"]),
        (["m1 ~ x", "s1 ~ x", "w1 ~ 1"], ["m0 ~ 1", "m1 ~ x", "s0 ~ 1", "s1 ~ x", "w0 = 2", "w1 ~ 1"]),
        (["w ~ 0 + match", "s = 3"], ["m0 ~ 1", "m1 ~ 1", "s = 3", "w ~ 0 + match"]),
    ],
)
def test_where_no_formula_is_given_accumulators_differ_in_the_first_stem(formulas, expected):
    parsed = parse_formulas(formulas, MEMBERS, {"w0": 2.0, "w1": 2.0}, STEMS)
    assert [f"{name} = {f:g}" if isinstance(f, float) else str(f) for name, f in parsed.items()] == expected


@hs.declare(
    parameters={"m0": (-3.0, 1.5), "m1": (-3.0, 1.5), "s0": (0.1, 1.5), "s1": (0.1, 1.5), "t0": (0.0, 1.0)},
    outcomes={"rt": "positive", "response": (0, 1)},
    symmetries=hs.Symmetries(per_choice=("m", "s")),
    vectorised=True,
)
def horses(m0, m1, s0, s1, t0, rng):
    """A race of two lognormal finishing times."""
    times = np.exp(np.stack([m0, m1]) + np.stack([s0, s1]) * rng.standard_normal((2, len(m0))))
    return t0 + times.min(0), times.argmin(0)


class Horses(Likelihood):
    """Its closed form."""

    kind = "exact"

    def __init__(self):
        super().__init__(horses, horses.box)

    def log_prob_rows(self, values, theta):
        log_t = torch.log(values[:, :1] - theta[:, 4:])
        e = (log_t - theta[:, :2]) / theta[:, 2:4]
        won = -0.5 * e**2 - torch.log(theta[:, 2:4]) - log_t - 0.5 * np.log(2 * np.pi)
        lost, choice = torch.special.log_ndtr(-e), values[:, 1].long()
        return torch.where(choice == 0, won[:, 0] + lost[:, 1], won[:, 1] + lost[:, 0])


def test_a_race_of_ones_own_with_two_stems():
    """Its density is that of scipy's lognormal law, its mode where the table was simulated, to 5 posterior sds."""
    stimulus = np.arange(800) % 2
    m = [np.where(stimulus == i, -1.0, -0.5) for i in (0, 1)]
    rt, response = horses.simulate(
        np.stack([*m, *(np.where(stimulus == i, 0.3, 0.5) for i in (0, 1)), 0.2 + 0 * m[0]], 1), 1
    )
    table = pd.DataFrame({"rt": rt, "response": response, "S": stimulus})
    made = model(["m ~ match", "s ~ 0 + C(match)", "t0 = 0.2"], table, None, likelihood=Horses(), choices=None)
    assert [p.parameters for p in made._uncentred.predictors] == [("m0", "m1"), ("s0", "s1")]
    at = {"m_Intercept": -0.4, "m_match": -0.7, "s_C(match)": [-0.5, -1.5]}
    theta = made.hierarchy.theta({name: torch.tensor(x, dtype=torch.float64) for name, x in at.items()})
    log_p = made.likelihood.log_prob_rows(torch.as_tensor(made.trials.values), theta[torch.as_tensor(made.cell)])
    asked = lognorm(np.exp(-1.5), scale=np.exp(-1.1)), lognorm(np.exp(-0.5), scale=np.exp(-0.4))
    right = response == stimulus
    expected = np.where(right, asked[0].logpdf(rt - 0.2) + asked[1].logsf(rt - 0.2),
                        asked[1].logpdf(rt - 0.2) + asked[0].logsf(rt - 0.2))  # fmt: skip
    # Links map onto the box softly.
    np.testing.assert_allclose(log_p, expected, rtol=1e-4, atol=1e-4)
    found = fit(made)["posterior"]
    for name, true in (("m_match", -0.5), ("s_C(match)", np.log([0.5, 0.3]))):
        draws = found[name].to_numpy().reshape(-1, np.size(true))
        assert (np.abs(draws.mean(0) - true) < 5 * draws.std(0)).all(), name

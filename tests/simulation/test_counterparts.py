"""The parameters of other packages: each mapping against the law that its package documents, and there and back."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import levy_stable, norm, truncnorm

import hddm_sbi as hs
from hddm_sbi.likelihoods.conversion import packages

MODELS = {name: hs.load_simulator(name) for name in hs.models().index}
PAIRS = [(name, package) for name, simulator in MODELS.items() for package in simulator.counterparts]
#: in standard errors: 2e-5 false alarms of each comparison below.
LIMIT = 4.3


def inside(simulator, rng, n=50):
    """Parameters in the box, away from its ends, where what counterparts lack has the value that they need."""
    edges = {p.name: (p.low + 0.1 * (p.high - p.low), p.high - 0.1 * (p.high - p.low)) for p in simulator.parameters}
    return {name: rng.uniform(*ends, n) for name, ends in edges.items()}


def test_there_are_counterparts():
    assert len(PAIRS) > 50
    assert set(packages()) > {"HSSM", "HDDM", "rtdists", "fast-dm", "EMC2", "PyDDM", "DMCfun", "dRiftDM", "SSM.jl"}


@pytest.mark.parametrize(("name", "package"), PAIRS)
def test_there_and_back(name, package):
    simulator, there = MODELS[name], MODELS[name].counterparts[package]
    conditions = {p.name for p in simulator.parameters if p.from_data}
    assert there.ours | conditions == set(simulator.names)
    ours = inside(simulator, np.random.default_rng(1))
    ours |= {k: ours[x] if isinstance(x, str) else np.full(50, x) for k, x in there.without.items()}
    theirs = hs.convert(ours, name, target=package)
    assert set(theirs) - conditions == set(there.parameters)
    again = hs.convert(theirs, name, source=package)
    assert list(again) == list(simulator.names)
    for parameter, values in ours.items():
        np.testing.assert_allclose(again[parameter], values, rtol=1e-12, atol=1e-12)


#: package -> its process by its documentation: noise, drift, its sd, bounds, interval of starts, interval of delays.
#: HDDM (Wiecki et al. 2013); rtdists::Diffusion; fast-dm (Voss & Voss 2007); Ratcliff & Tuerlinckx (2002); EMC2::DDM;
#: PyDDM's ICPointRatio; ssm-simulators' full_ddm (uniform in +-sz, +-st); HSSM's full_ddm, which is HDDM's with bounds
#: at -a and a; SequentialSamplingModels.DDM; Stan's wiener(alpha, tau, beta, delta).
PROCESSES = {
    "HSSM": lambda v, a, z, t, sv=0, sz=0, st=0: (
        1, v, sv, -a, a, np.array([z - sz / 2, z + sz / 2]) * 2 * a - a, (t - st / 2, t + st / 2),
    ),
    "ssm-simulators": lambda v, a, z, t, sv=0, sz=0, st=0: (
        1, v, sv, -a, a, np.array([-sz, sz]) + 2 * a * z - a, (t - st, t + st),
    ),
    "HDDM": lambda v, a, z, t, sv=0, sz=0, st=0: (
        1, v, sv, 0, a, np.array([z - sz / 2, z + sz / 2]) * a, (t - st / 2, t + st / 2),
    ),
    "rtdists": lambda v, a, z, t0, sv=0, sz=0, st0=0: (
        1, v, sv, 0, a, np.array([z - sz / 2, z + sz / 2]), (t0, t0 + st0),
    ),
    "fast-dm": lambda v, a, zr, t0, sv=0, szr=0, st0=0: (
        1, v, sv, 0, a, np.array([zr - szr / 2, zr + szr / 2]) * a, (t0 - st0 / 2, t0 + st0 / 2),
    ),
    "Ratcliff": lambda v, a, z, Ter, eta=0, sz=0, st=0: (
        0.1, v, eta, 0, a, np.array([z - sz / 2, z + sz / 2]), (Ter - st / 2, Ter + st / 2),
    ),
    "EMC2": lambda v, a, Z, t0, sv=0, SZ=0, st0=0: (
        1, v, sv, 0, a, Z * a + np.array([-1, 1]) * SZ * min(a * Z, a * (1 - Z)), (t0, t0 + st0),
    ),
    "PyDDM": lambda drift, B, x0, nondectime: (1, drift, 0, -B, B, np.array([x0, x0]) * B, (nondectime, nondectime)),
    "SSM.jl": lambda ν, α, z, τ: (1, ν, 0, 0, α, np.array([z, z]) * α, (τ, τ)),
    "Stan": lambda alpha, tau, beta, delta: (1, delta, 0, 0, alpha, np.array([beta, beta]) * alpha, (tau, tau)),
    "dRiftDM": lambda muc, b, non_dec: (1, muc, 0, -b, b, np.array([0.0, 0.0]), (non_dec, non_dec)),
}  # fmt: skip
OURS = {"v": 1.1, "a": 0.8, "z": 0.42, "t0": 0.25, "sv": 0.9, "sz": 0.3, "st0": 0.2}


def exit_upwards(drift, noise, lower, upper, start):
    """P(upper) and mean time of a Wiener process that leaves an interval (Karlin & Taylor 1981)."""
    k = 2 * drift / noise**2
    share = (np.exp(-k * lower) - np.exp(-k * start)) / (np.exp(-k * lower) - np.exp(-k * upper))
    return share, (lower + share * (upper - lower) - start) / drift


@pytest.mark.parametrize(("name", "package"), [pair for pair in PAIRS if pair[0] in ("ddm", "ddm_sdv", "full_ddm")])
def test_diffusions_are_the_processes_that_packages_document(name, package):
    """Intervals of starts and delays exactly; shares and mean times of 40 000 trials against closed forms."""
    ours = {parameter: OURS[parameter] for parameter in MODELS[name].names}
    ours |= MODELS[name].counterparts[package].without
    theirs = hs.convert(ours, name, target=package)
    noise, drift, sd, lower, upper, starts, delays = PROCESSES[package](**theirs)
    width, delay = ours.get("sz", 0), ours.get("st0", 0)
    relative = (starts - lower) / (upper - lower)
    np.testing.assert_allclose(relative, [ours["z"] - width / 2, ours["z"] + width / 2], rtol=1e-12)
    np.testing.assert_allclose(delays, [ours["t0"], ours["t0"] + delay], rtol=1e-12)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    fractions = (np.arange(200) + 0.5) / 200
    share, time = exit_upwards(
        drift + sd * nodes[:, None], noise, lower, upper, starts[0] + (starts[1] - starts[0]) * fractions
    )
    share, time = (weights / weights.sum() @ value.mean(1) for value in (share, time))
    trials = hs.simulate(name, ours, 40_000, seed=1)
    assert abs((trials["response"] == 1).mean() - share) < LIMIT * math.sqrt(share * (1 - share) / len(trials))
    assert abs(trials["rt"].mean() - time - np.mean(delays)) < LIMIT * trials["rt"].std() / math.sqrt(len(trials))


def race(starts, thresholds, rates):
    """Winner and time of ballistic accumulators, (n, choices) each."""
    times = (thresholds - starts) / rates
    return times.argmin(1), times.min(1)


def each(**by_accumulator):
    """Parameters of two accumulators, counted from 1."""
    return {f"{name}[{i}]": value for name, values in by_accumulator.items() for i, value in enumerate(values, 1)}


def test_races_are_those_that_packages_document():
    """20 000 trials by the generative law of each package against 20 000 of ours at the converted parameters."""
    rng, n = np.random.default_rng(1), 20_000
    shape = (n, 2)
    uniform = rng.uniform(size=shape)
    mean, sd = np.array([2.5, 1.5]), np.array([1.2, 0.8])
    positive = truncnorm.rvs(-mean / sd, np.inf, loc=mean, scale=sd, size=shape, random_state=rng)
    ballistic, alike = race([0.4, 0.3] * uniform, [1.3, 1.1], positive), race(0.4 * uniform, 1.3, positive)
    narrow = rng.normal([0.6, 0.5], 0.1, size=shape)
    distance = 1.3 - 0.4 * uniform
    wald = rng.wald(distance / [2.0, 1.5], distance**2)
    log_normal = np.exp(rng.normal([-0.8, -0.5], [0.4, 0.6], size=shape))
    races = [
        ("lba", "rtdists", each(mean_v=(2.5, 1.5), sd_v=(1.2, 0.8), A=(0.4, 0.3), b=(1.3, 1.1)), ballistic),
        ("lba", "EMC2", each(v=(2.5, 1.5), sv=(1.2, 0.8), A=(0.4, 0.3), B=(0.9, 0.8)), ballistic),
        ("lba", "SSM.jl", {"A": 0.4, "k": 0.9} | each(ν=(2.5, 1.5), σ=(1.2, 0.8)), alike),
        ("lba", "HSSM", {"A": 0.04, "b": 0.13, "v0": 0.6, "v1": 0.5}, race(0.04 * uniform, 0.13, narrow)),
        ("rdm", "EMC2", each(v=(2.0, 1.5), A=(0.4, 0.4), B=(0.9, 0.9)), (wald.argmin(1), wald.min(1))),
        ("rdm", "SSM.jl", {"A": 0.4, "k": 0.9, "ν[1]": 2.0, "ν[2]": 1.5}, (wald.argmin(1), wald.min(1))),
        (
            "lnr",
            "ssm-simulators",
            {"mu0": -0.8, "mu1": -0.5, "sigma0": 0.4, "sigma1": 0.6},
            (log_normal.argmin(1), log_normal.min(1)),
        ),
        ("lnr", "EMC2", each(m=(-0.8, -0.5), s=(0.4, 0.6)), (log_normal.argmin(1), log_normal.min(1))),
        ("lnr", "SSM.jl", each(ν=(-0.8, -0.5), σ=(0.4, 0.6)), (log_normal.argmin(1), log_normal.min(1))),
    ]
    for name, package, theirs, (winner, time) in races:
        delay = {"SSM.jl": {"τ": 0.2}, "HSSM": {}, "ssm-simulators": {"t": 0.2}}.get(package, {"t0": 0.2})
        trials = hs.simulate(name, hs.convert(theirs | delay, name, source=package), n, seed=2)
        later, share = (0.2 if delay else 0.0), (winner == 0).mean()
        assert abs((trials["response"] == 0).mean() - share) < LIMIT * math.sqrt(2 * share * (1 - share) / n), package
        # Medians, as times of ballistic accumulators have no variance: their standard error by the quartiles.
        spread = np.subtract(*np.quantile(time, [0.52, 0.48])) / 0.04 * math.sqrt(2 * 0.25 / n)
        assert abs(trials["rt"].median() - later - np.median(time)) < LIMIT * spread, package


@pytest.mark.parametrize("name", ["race3", "lca3"])
def test_racing_diffusions_of_ssm_simulators(name):
    """Euler steps of its equation, kept above 0, thresholds moved by their overshoot, in 4 000 trials."""
    ours = {"v0": 2.0, "v1": 1.5, "v2": 1.0, "a": 1.2, "z": 0.4, "t0": 0.2}
    ours |= {"theta": 0.4} if name == "race3" else {"g": 1.0, "b": 0.8}
    p = hs.convert(ours, name, target="ssm-simulators")
    rng, n, dt = np.random.default_rng(1), 4_000, 5e-4
    x, time, winner = np.full((n, 3), p["z"] * p["a"]), np.zeros(n), np.zeros(n, dtype=int)
    going, t = np.arange(n), 0.0
    while going.size:
        now = x[going]
        pull = p.get("g", 0.0) * now + p.get("b", 0.0) * (now.sum(1, keepdims=True) - now)
        step = ([p["v0"], p["v1"], p["v2"]] - pull) * dt + math.sqrt(dt) * rng.standard_normal(now.shape)
        x[going] = now = np.maximum(now + step, 0.0)
        t += dt
        out = now.max(1) >= p["a"] - t * math.tan(p.get("theta", 0.0)) - 0.5826 * math.sqrt(dt)
        time[going[out]], winner[going[out]] = t - dt / 2, now[out].argmax(1)
        going = going[~out]
    trials = hs.simulate(name, ours, 20_000, seed=1)
    both = 1 / n + 1 / len(trials)
    for choice in range(3):
        share = (winner == choice).mean()
        assert (
            abs((trials["response"] == choice).mean() - share) < LIMIT * math.sqrt(share * (1 - share) * both) + 0.003
        )
    assert abs(trials["rt"].mean() - p["t"] - time.mean()) < LIMIT * math.sqrt(time.var() * both) + 0.005


def test_noise_of_the_levy_model():
    """Euler steps of ssm-simulators' equation, dx = v dt + dt^(1/alpha) S(alpha), in 4 000 trials."""
    theirs, n, dt = {"v": 1.2, "a": 1.5, "z": 0.4, "t": 0.3, "alpha": 1.4}, 4_000, 2e-3
    rng = np.random.default_rng(1)
    x, time, up = np.full(n, (2 * 0.4 - 1) * 1.5), np.zeros(n), np.zeros(n, dtype=bool)
    inside_ = np.arange(n)
    while inside_.size:
        steps = levy_stable.rvs(1.4, 0.0, size=inside_.size, random_state=rng)
        x[inside_] += 1.2 * dt + dt ** (1 / 1.4) * steps
        time[inside_] += dt
        left = inside_[np.abs(x[inside_]) >= 1.5]
        up[left] = x[left] > 0
        inside_ = inside_[np.abs(x[inside_]) < 1.5]
    trials = hs.simulate("levy", hs.convert(theirs, "levy", source="ssm-simulators"), n, seed=1)
    assert abs((trials["response"] == 1).mean() - up.mean()) < LIMIT * math.sqrt(2 * up.var() / n)
    assert abs(trials["rt"].mean() - 0.3 - time.mean()) < LIMIT * math.sqrt(2 * time.var() / n) + dt


def test_dmc_in_the_units_of_its_paper():
    """Values of dRiftDM's vignette on units, and 6 000 trials of DMCfun's Euler steps of 1 ms with noise 4."""
    stored = {"muc": 4.0, "b": 0.6, "non_dec": 0.3, "sd_non_dec": 0.02, "tau": 0.04, "A": 0.1, "a": 2.0, "alpha": 3.0}
    theirs = hs.convert(stored, "dmc", source="dRiftDM", target="DMCfun")
    expected = {"drc": 0.5059644, "bnds": 75.8946638 - 4 * 0.5826, "resMean": 300, "amp": 12.6491106, "tau": 40}
    others = {"aaShape": 2.0, "spShape": 3.0, "resSD": 20.0}
    assert theirs == pytest.approx(expected | others, rel=1e-7)
    rng, n, t = np.random.default_rng(1), 6_000, np.arange(1, 3_001.0)
    for code in (1, -1):
        pulse = code * theirs["amp"] * np.exp(-t / 40) * t * math.e / 40 * (1 / t - 1 / 40)
        steps = (theirs["drc"] + pulse)[:, None] + 4 * rng.standard_normal((len(t), n))
        x = np.cumsum(steps, 0) + theirs["bnds"] * (2 * rng.beta(3.0, 3.0, n) - 1)
        first = (np.abs(x) >= theirs["bnds"]).argmax(0)
        delay = 300 + 20 * math.sqrt(12) * (rng.random(n) - 0.5)
        correct, rt = x[first, np.arange(n)] > 0, (t[first] - 0.5 + delay) / 1000
        ours = hs.convert(theirs | {"congruency": code}, "dmc", source="DMCfun")
        trials = hs.simulate("dmc", ours, 20_000, seed=3)
        share, se = correct.mean(), math.sqrt(correct.var() * (1 / n + 1 / len(trials)))
        assert abs((trials["response"] == 1).mean() - share) < LIMIT * se + 0.002
        assert abs(trials["rt"].mean() - rt.mean()) < LIMIT * math.sqrt(rt.var() * (1 / n + 1 / len(trials))) + 0.0005


def spotlight(target, flanker, width):
    """Drift where attention is normal over the items, of which the target takes -0.5 to 0.5."""
    return target * (norm.cdf(0.5 / width) - norm.cdf(-0.5 / width)) + 2 * flanker * norm.sf(0.5 / width)


def process(drift, bound, start, delay, noise=1.0):
    """A diffusion by numbers: drift at some times and places, upper bound at these times, start and delay."""
    at = [(t, x) for t in (0.01, 0.03, 0.3) for x in (-0.2, 0.1)]
    return [*(drift(t, x * noise) / noise for t, x in at), *(bound(t) / noise for t, _ in at), start / noise, delay]


#: by the comments in `simulators/`, which the tests of the simulators prove.
OUR_EQUATIONS = {
    "angle": lambda p: process(
        lambda t, x: p["v"], lambda t: p["a"] - t * math.tan(p["theta"]), (2 * p["z"] - 1) * p["a"], p["t0"]
    ),
    "ddm_exp": lambda p: process(
        lambda t, x: p["v"], lambda t: p["a"] * math.exp(-t / p["tau"]), (2 * p["z"] - 1) * p["a"], p["t0"]
    ),
    "weibull": lambda p: process(
        lambda t, x: p["v"],
        lambda t: p["a"] * math.exp(-((t / p["beta"]) ** p["alpha"])),
        (2 * p["z"] - 1) * p["a"],
        p["t0"],
    ),
    "ornstein": lambda p: process(
        lambda t, x: p["v"] - p["g"] * x, lambda t: p["a"], (2 * p["z"] - 1) * p["a"], p["t0"]
    ),
    "ssp": lambda p: process(
        lambda t, x: (
            p["p"]
            * (
                p["congruency"]
                + (1 - p["congruency"]) * math.erf(math.sqrt(0.125) / max(p["sda"] * (1 - t / p["ti"]), 1e-3))
            )
        ),
        lambda t: p["a"],
        0.0,
        p["t0"] + p["st0"] / 2,
    ),
}
#: by the code of PyDDM (BoundCollapsingLinear and -Exponential, DriftLinear, ICPointRatio) and ssm-simulators (boundary
#: and drift functions), by the documentation of dRiftDM (mu_ssp), and by White et al. (2011), whose noise is 0.1.
EQUATIONS = {
    ("angle", "PyDDM"): lambda p: process(
        lambda t, x: p["drift"], lambda t: max(p["B"] - p["t"] * t, 0.0), p["x0"] * p["B"], p["nondectime"]
    ),
    ("ddm_exp", "PyDDM"): lambda p: process(
        lambda t, x: p["drift"], lambda t: p["B"] * math.exp(-p["tau"] * t), p["x0"] * p["B"], p["nondectime"]
    ),
    ("ornstein", "PyDDM"): lambda p: process(
        lambda t, x: p["drift"] + p["x"] * x + p["t"] * t, lambda t: p["B"], p["x0"] * p["B"], p["nondectime"]
    ),
    ("angle", "ssm-simulators"): lambda p: process(
        lambda t, x: p["v"], lambda t: p["a"] + t * -math.sin(p["theta"]) / math.cos(p["theta"]),
        -p["a"] + p["z"] * 2 * p["a"], p["t"],
    ),
    ("weibull", "ssm-simulators"): lambda p: process(
        lambda t, x: p["v"], lambda t: p["a"] * math.exp(-((t / p["beta"]) ** p["alpha"])),
        -p["a"] + p["z"] * 2 * p["a"], p["t"],
    ),
    ("ornstein", "ssm-simulators"): lambda p: process(
        lambda t, x: p["v"] - p["g"] * x, lambda t: p["a"], -p["a"] + p["z"] * 2 * p["a"], p["t"],
    ),
    ("ssp", "ssm-simulators"): lambda p: process(
        lambda t, x: p["v"] + spotlight(p["ptarget"], p["pouter"], max(p["sda"] - p["r"] * t, 1e-3)),
        lambda t: p["a"], -p["a"] + p["z"] * 2 * p["a"], p["t"],
    ),
    ("ssp", "dRiftDM"): lambda p: process(
        lambda t, x: spotlight(p["p"], p["congruency"] * p["p"], max(p["sd_0"] - p["r"] * t, 1e-3)),
        lambda t: p["b"], 0.0, p["non_dec"],
    ),
    ("ssp", "Ratcliff"): lambda p: process(
        lambda t, x: spotlight(p["p"], p["congruency"] * p["p"], max(p["sda"] - p["rd"] * 1000 * t, 1e-3)),
        lambda t: p["a"] / 2, 0.0, p["Ter"], noise=0.1,
    ),
}  # fmt: skip
EQUATIONS |= {(name, "HSSM"): EQUATIONS[name, "ssm-simulators"] for name in ("angle", "weibull", "ornstein")}


@pytest.mark.parametrize(("name", "package"), EQUATIONS)
def test_equations_are_those_that_packages_document(name, package):
    for index in range(10):
        ours = {key: values[index] for key, values in inside(MODELS[name], np.random.default_rng(2)).items()}
        ours |= MODELS[name].counterparts[package].without
        theirs = hs.convert(ours, name, target=package)
        np.testing.assert_allclose(EQUATIONS[name, package](theirs), OUR_EQUATIONS[name](ours), rtol=1e-9, atol=1e-12)


def test_tables_and_arrays():
    theirs = pd.DataFrame({"v": [0.5, 1.0], "a": [1.4, 2.0], "z": 0.5, "t": [0.3, 0.2]}, index=["s1", "s2"])
    ours = hs.convert(theirs, source="HDDM")
    assert list(ours) == ["v", "a", "z", "t0"]
    assert ours.index.tolist() == ["s1", "s2"]
    assert ours["a"].tolist() == [0.7, 1.0]
    pd.testing.assert_frame_equal(hs.convert(ours, target="HDDM"), theirs, check_dtype=False)
    arrays = hs.convert({**dict.fromkeys(("v", "z", "t"), 0.5), "a": np.array([1.0, 2.0])}, source="HDDM")
    assert (arrays["a"].tolist(), arrays["z"]) == ([0.5, 1.0], 0.5)


HDDM = {"v": 0.5, "a": 1.4, "z": 0.5, "t": 0.3}


@pytest.mark.parametrize(
    ("parameters", "options", "expected"),
    [
        (HDDM, {}, "say whose parameters they are, source=, or become, target=: DMCfun, dRiftDM, EMC2"),
        (HDDM, {"source": "HDM"}, "no package 'HDM' is known here; did you mean 'HDDM'? Packages: DMCfun"),
        (HDDM, {"source": "hddm"}, "did you mean 'HDDM'?"),
        (
            HDDM,
            {"model": "dmc", "source": "HDDM"},
            "HDDM has no counterpart of 'dmc' that is known here; these",
        ),
        (
            HDDM,
            {"model": "lca", "target": "HDDM"},
            "no counterpart of 'lca' that is known here; no package has.",
        ),
        (HDDM, {"model": "dmd", "source": "HDDM"}, "there is no model called 'dmd'"),
        ({**HDDM, "tt": 1.0}, {"source": "HDDM"}, "unknown parameter 'tt'; did you mean 't'? 'HDDM' of HDDM has the"),
        (
            {"v": 0.5, "a": 1.4},
            {"source": "HDDM"},
            "the parameters lack z, t; 'HDDM' of HDDM has the parameters v,",
        ),
        (
            {"v": 0.5, "a": 1.4},
            {"target": "HDDM"},
            "the parameters lack z, t0; 'ddm' here has the parameters v,",
        ),
        ({**HDDM, "a": "wide"}, {"source": "HDDM"}, "a must be a finite number, or an array of them; got 'wide'"),
        ({**HDDM, "a": np.nan}, {"source": "HDDM"}, "a must be a finite number"),
        ({"v": 1.0, "a": 1.0, "z": 0.6, "t0": 0.3}, {"target": "dRiftDM"}, "has no 'z': it can be 0.5 only; got 0.6"),
        (
            {"v": 0.1, "a": 1.0, "z": 0.5, "t": 0.3, "ptarget": 3.0, "pouter": -3.0, "r": 18.0, "sda": 1.8},
            {"model": "ssp", "source": "ssm-simulators"},
            "v = 0.1 of 'shrink_spot_simple' has no counterpart here, where it is 0 = 0.0.",
        ),
    ],
)
def test_bad_conversions(parameters, options, expected):
    with pytest.raises(hs.InputError) as caught:
        hs.convert(parameters, **options)
    assert expected in str(caught.value)

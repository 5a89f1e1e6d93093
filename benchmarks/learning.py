"""Sequences: what a rule costs per trial, whether its parameters come back, and HDDM's learning example.

`python -m benchmarks.learning`: 600 trials of one person in each table, in six blocks; 20 tables of each rule.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs
from benchmarks.timing import best_seconds
from hddm_sbi.hierarchy import AlongTrials
from hddm_sbi.inference.compiler.recorder import compile_function
from hddm_sbi.numerics.recurrence import recur

BLOCKS, LONG, TABLES = 6, 100, 20
DATA = Path(__file__).parents[2] / "shared" / "data"
#: responses with a threshold and a delay as people have them.
ELSEWHERE = {"a_Intercept": 0.0, "t0_Intercept": math.log(0.3)}


def _logit(share: float) -> float:
    return math.log(share / (1.0 - share))


@dataclass(frozen=True)
class Preset:
    """A shipped rule in a model of its covariate x, and the coefficients at which tables are simulated."""

    make: Callable[[], hs.Sequence]
    formulas: tuple[str, ...]
    true: dict[str, float]


def _fed(rule: Callable[..., hs.Sequence]) -> Callable[[], hs.Sequence]:
    return lambda: rule("feedback", "response", "block", paid=("lower pays", "upper pays"))


PRESETS = {
    "delta_rule": Preset(
        _fed(hs.delta_rule), ("v ~ 0 + x", "alpha ~ 1"), {"v_x": 3.0, "alpha_Intercept": _logit(0.15)}
    ),
    "dual_rate_rule": Preset(
        _fed(hs.dual_rate_rule),
        ("v ~ 0 + x",),
        {"v_x": 3.0, "alpha_gain_Intercept": _logit(0.3), "alpha_loss_Intercept": _logit(0.1)},
    ),
    "forgetting_rule": Preset(
        _fed(hs.forgetting_rule),
        ("v ~ 0 + x",),
        {"v_x": 3.0, "alpha_Intercept": _logit(0.3), "forgetting_Intercept": _logit(0.1)},
    ),
    "kalman_rule": Preset(_fed(hs.kalman_rule), ("v ~ 0 + x",), {"v_x": 4.0, "noise_Intercept": math.log(4.0)}),
    "practice": Preset(
        lambda: hs.practice("block"),
        ("v ~ 1 + x",),
        {"v_Intercept": 2.0, "v_x": -2.0, "practice_rate_Intercept": math.log(0.05)},
    ),
    "fatigue": Preset(
        lambda: hs.fatigue("block"),
        ("v ~ 1 + x",),
        {"v_Intercept": 2.0, "v_x": -1.5, "fatigue_rate_Intercept": math.log(0.03)},
    ),
    "post_error_slowing": Preset(
        lambda: hs.post_error_slowing("response", "block"),
        ("v ~ 1", "a ~ 1 + x", "decay ~ 1"),
        {"v_Intercept": 0.7, "a_x": 0.3, "decay_Intercept": _logit(0.5)},
    ),
    "sticky_choice": Preset(
        lambda: hs.sticky_choice("response", "block"),
        ("v ~ 1", "z ~ 0 + x"),
        {"v_Intercept": 0.2, "z_x": 1.5, "habit_rate_Intercept": _logit(0.3)},
    ),
}


def design(seed: int, blocks: int = BLOCKS) -> pd.DataFrame:
    """Trials in blocks, and what each choice would pay there: the upper one 1 in 7 of 10, the lower one in 3."""
    rng, n = np.random.default_rng(seed), blocks * LONG
    table = hs.simulate("ddm", {"v": 0.5, "a": 1.0, "z": 0.5, "t0": 0.3}, n, seed=seed)
    lower, upper = rng.random((2, n)) < np.array([[0.3], [0.7]])
    feedback = np.where(table["response"] == 1, upper, lower).astype(float)
    counted = {"block": np.repeat(np.arange(blocks), LONG), "trial": np.arange(n), "feedback": feedback}
    return table.assign(**counted, **{"lower pays": lower, "upper pays": upper})


def model(preset: Preset, blocks: int = BLOCKS) -> hs.HierarchicalModel:
    """The model of a preset's covariate x, by the closed form."""
    bias = () if any(f.startswith("z") for f in preset.formulas) else ("z = 0.5",)
    said = {"likelihood": "exact", "lapse": 0.0, "sequences": {"x": preset.make()}}
    return hs.HierarchicalModel([*preset.formulas, *bias], design(1, blocks), **said)


def recovery(name: str) -> pd.DataFrame:
    """Mean error in posterior sds, share of 90 % intervals that hold the truth, and where the estimates lie."""
    preset = PRESETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ReplicaWarning)
        found = hs.recover_parameters(model(preset), {**ELSEWHERE, **preset.true}, TABLES, progress=False)
    return hs.report.recovery_summary(found).assign(rule=name)


def cost(name: str, blocks: int = 1_000) -> tuple[float, float, float]:
    """Nanoseconds per trial: of a rule's covariate; of it with its gradient; of the whole density with its gradient."""
    own = model(PRESETS[name], blocks)
    along = own.uncentred.parameter_map
    assert isinstance(along, AlongTrials)
    (rule,) = along.rules
    begin = rule.begin, rule.begin_of, *rule.order, rule.width, rule.step.address, rule.pull.address
    at = torch.full((1, len(along.of_rules)), 0.3, dtype=torch.float64)

    def covariate(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return recur(x.reshape(at.shape), *begin)[0].sum(), x

    def with_gradient(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = x.detach().requires_grad_(True)
        total = recur(given.reshape(at.shape), *begin)[0].sum()
        return total.detach(), torch.autograd.grad(total, given)[0]

    # As in the density of a model, where memory is there before.
    flat = at.reshape(-1)
    alone, sweeps = compile_function(covariate, flat), compile_function(with_gradient, flat)
    runs = lambda: alone(flat.numpy()), lambda: sweeps(flat.numpy()), lambda: own.density(own.density.start)
    once, both, whole = (1e9 / len(own.trials) * best_seconds(run, 60, time.process_time) for run in runs)
    return once, both, whole


def beside_hddm(seed: int = 1) -> pd.DataFrame:
    """HDDM's example: 28 people, three pairs of stimuli; its printed intervals, and ours in its units."""
    rows = pd.read_csv(DATA / "rlddm.csv")
    learned = hs.HierarchicalModel(
        ["v ~ 0 + dq + (0 + dq|subj_idx)", *(f"{name} ~ 1 + (1|subj_idx)" for name in ("alpha", "a", "t0")), "z = 0.5"],
        rows,
        likelihood="exact",
        upper=1.0,
        sequences={"dq": hs.delta_rule("feedback", "response", ["subj_idx", "split_by"])},
    )
    posterior = learned.fit(seed=seed, progress=False)
    draws = posterior["posterior"]
    ours = {
        "v": draws["v_dq"],
        "v_std": draws["v_dq|subj_idx_sigma"],
        "a": 2.0 * np.exp(draws["a_Intercept"]),
        "t": np.exp(draws["t0_Intercept"]),
        "alpha": draws["alpha_Intercept"],
        "alpha_std": draws["alpha_1|subj_idx_sigma"],
    }
    theirs = pd.read_csv(DATA / "ref_rlddm.csv").set_index("param").loc[list(ours)]
    mean = {name: float(x.mean()) for name, x in ours.items()}
    sd = {name: float(x.std()) for name, x in ours.items()}
    beside = theirs.assign(mean_here=pd.Series(mean), sd_here=pd.Series(sd))
    inside = beside["mean_here"].between(beside["q2.5"], beside["q97.5"])
    print(f"{posterior['posterior'].attrs['sampling_seconds']:.0f} s of sampling")
    return beside.assign(inside=inside)


def main(argv: list[str]) -> None:
    """Print all three, or those that are named: cost, recovery, hddm."""
    asked = argv or ["cost", "recovery", "hddm"]
    if "cost" in asked:
        print("ns per trial: covariate, with gradient, whole density with gradient")
        for name in PRESETS:
            print(f"  {name:20} {'{:6.1f} {:6.1f} {:6.0f}'.format(*cost(name))}")
    if "recovery" in asked:
        print(pd.concat([recovery(name) for name in PRESETS]).round(2).to_string())
    if "hddm" in asked:
        print(beside_hddm().round(3).to_string())


if __name__ == "__main__":
    main(sys.argv[1:])

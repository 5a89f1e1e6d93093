"""Our likelihoods beside HSSM's published networks, on the same trials and against the same reference.

Run as `python -m benchmarks.published FOLDER [N_THETAS [N_SETS]]`, with the .onnx files of HSSM in it (its repository
has had them under src/hssm/onnx_models, tests/fixtures and docs/tutorials/data), and `pip install onnx`. What is
missing, a file or our weights, is skipped with a line that says so.
"""

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from typing_extensions import override

import hddm_sbi as hs
from hddm_sbi.likelihoods import catalogue
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.training import accuracy

N_THETAS, N_PER_THETA, N_SETS, TRIALS_PER_SET, SEED = 200, 1_000, 8, 10_000, 5
#: seconds after which ssm-simulators gives a trial up (max_t), so that HSSM's networks are of another model where that
#: is frequent: thetas of which more than this share of the trials are slower are left out.
GIVEN_UP, FREQUENT = 20.0, 0.01
#: seconds of decision within which the mass is counted.
LONGEST = 40.0

Region = Mapping[str, tuple[float, float]]
Inputs = Callable[[Mapping[str, Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Published:
    """A network of HSSM whose model is ours.

    model: ours. file: theirs. inputs: our parameters by name -> theirs, in the order of the network's inputs. box:
    HSSM's, in our parameters; one held at a number has both ends there.
    """

    model: str
    file: str
    inputs: Inputs
    box: Region


def same(*names: str) -> Inputs:
    """Parameters that mean the same in both, in HSSM's order."""
    return lambda at: tuple(at[name] for name in names)


# Boxes and orders: hssm/modelconfig. Models: the simulators of ssm-simulators (cssm), from which HSSM's are trained.

#: HSSM's stable noise has E exp(i k L(t)) = exp(-t |k|^alpha) (cssm: levy_flexbound, random_stable), so that it is the
#: Wiener process of variance 2 t at alpha = 2; ours is smaller by 2^1/2 (simulators/levy.py).
_NOISE = math.sqrt(2.0)

#: race_model of cssm: reflected at 0 (fmax), started at z a, to a - t tan(theta): ours.
_RACE = {"a": (1.0, 3.0), "z": (0.0, 0.9), "t0": (0.0, 2.0)}
_FASTER = (0.0, 2.5)

NETWORKS = (
    Published(
        "ddm", "ddm.onnx", same("v", "a", "z", "t0"), {"v": (-3, 3), "a": (0.3, 2.5), "z": (0.1, 0.9), "t0": (0, 2)}
    ),
    Published(
        "angle",
        "angle.onnx",
        same("v", "a", "z", "t0", "theta"),
        {"v": (-3, 3), "a": (0.3, 3), "z": (0.1, 0.9), "t0": (0.001, 2), "theta": (-0.1, 1.3)},
    ),
    Published(
        "weibull",
        "weibull.onnx",
        same("v", "a", "z", "t0", "alpha", "beta"),
        {
            "v": (-2.5, 2.5),
            "a": (0.3, 2.5),
            "z": (0.2, 0.8),
            "t0": (0.001, 2),
            "alpha": (0.31, 4.99),
            "beta": (0.31, 6.99),
        },
    ),
    Published(
        "ornstein",
        "ornstein.onnx",
        same("v", "a", "z", "g", "t0"),
        {"v": (-2, 2), "a": (0.3, 3), "z": (0.1, 0.9), "g": (-1, 1), "t0": (0.001, 2)},
    ),
    Published(
        "levy",
        "levy.onnx",
        lambda at: (_NOISE * at["v"], _NOISE * at["a"], at["z"], at["alpha"], at["t0"]),
        {
            "v": (-3 / _NOISE, 3 / _NOISE),
            "a": (0.3 / _NOISE, 3 / _NOISE),
            "z": (0.1, 0.9),
            "alpha": (1, 2),
            "t0": (0.001, 2),
        },
    ),
    # race_no_bias_3 of ssm-simulators: without an angle. HSSM ships it with its tutorials only.
    Published(
        "race3",
        "race_3_no_bias_lan_batch.onnx",
        same("v0", "v1", "v2", "a", "z", "t0"),
        {"v0": _FASTER, "v1": _FASTER, "v2": _FASTER, **_RACE, "theta": (0.0, 0.0)},
    ),
    Published(
        "race4",
        "race_no_bias_angle_4.onnx",
        same("v0", "v1", "v2", "v3", "a", "z", "t0", "theta"),
        {"v0": _FASTER, "v1": _FASTER, "v2": _FASTER, "v3": _FASTER, **_RACE, "theta": (-0.1, 1.45)},
    ),
    # lca of cssm: drifts v_i - g x_i - b sum_{j != i} x_j, reflected at 0, started at z a. Left out by HSSM today.
    Published(
        "lca4",
        "lca_no_bias_4.onnx",
        same("v0", "v1", "v2", "v3", "a", "z", "g", "b", "t0"),
        {"v0": _FASTER, "v1": _FASTER, "v2": _FASTER, "v3": _FASTER, **_RACE, "g": (-1.0, 1.0), "b": (-1.0, 1.0)},
    ),
)

NOT_COMPARED = """Not compared, because the models differ:
  lba, lba3, lba4: HSSM has closed forms for these and no networks. Its one LBA network, a test fixture
    (dev_lba_angle_3_v2.onnx, thresholds that collapse), was trained on drifts |N(v, 0.1)| where ours are N(v, 0.1)
    given that they are positive (lba_angle of ssm-simulators). Only where v is 4 sds or more above 0 are these the
    same, and of that our box holds what is one part in 8 000 of the network's.
  ssp: HSSM's network (shrink_spot_simple_extended, attached to a bug report) has no stated box but ssm-simulators',
    where the spotlight shrinks by at most 1 item/s; ours begins at 2 items/s."""


class PublishedLikelihood(hs.DecisionLikelihood):
    """A perceptron with tanh: (parameters, rt, response) -> log density."""

    kind = "HSSM"

    def __init__(self, simulator: hs.Simulator, folder: Path, published: Published) -> None:
        import onnx
        from onnx import numpy_helper

        super().__init__(simulator, published.box)
        self.inputs = published.inputs
        stored = onnx.load(folder / published.file).graph.initializer
        values = [torch.tensor(numpy_helper.to_array(x)).double() for x in stored]
        self.layers = list(zip(values[::2], values[1::2], strict=True))

    @override
    def log_prob_rows(self, values: Tensor, theta: Tensor) -> Tensor:
        response = torch.tensor(self.simulator.choices, dtype=torch.float64)[values[:, 1].long()]
        at = dict(zip(self.simulator.names, theta.unbind(-1), strict=True))
        x = torch.stack([*self.inputs(at), values[:, 0], response], 1)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            x = torch.tanh(x) if i + 1 < len(self.layers) else x
        return x[:, 0]


def mass(likelihood: hs.DecisionLikelihood, theta: np.ndarray, later: np.ndarray) -> np.ndarray:
    """Total mass of every row of theta: trapezoids over 4 000 decision times up to LONGEST, and `later` (n,) beyond."""
    t = torch.tensor(np.geomspace(1e-4, LONGEST, 4_000))
    shift = likelihood.simulator.names.index("t0")
    total = later.copy()
    for i, row in enumerate(theta):
        rows = torch.tensor(row).expand(len(t), -1)
        for choice in range(len(likelihood.simulator.choices)):
            log_p = likelihood.log_prob_rows(outcome_rows(t + row[shift], torch.full((len(t),), choice)), rows)
            total[i] += float(torch.trapezoid(torch.exp(log_p), t))
    return total


def missing(published: Published, folder: Path) -> str | None:
    """Why a network cannot be compared here, or None."""
    if not (folder / published.file).is_file():
        return f"{published.file} is not in the folder"
    if catalogue.weights_of(published.model) is None:
        return f"no learned likelihood of {published.model!r} is in the package"
    return None


def thetas(ours: hs.DecisionLikelihood, box: Region, n: int) -> np.ndarray:
    """Up to n rows, uniform in that part of the box whose trials are seldom given up, by our likelihood."""
    several = accuracy.uniform_thetas(ours.simulator, box, 4 * n, SEED)
    return several[later_than(GIVEN_UP, ours, several) < FREQUENT][:n]


def later_than(seconds: float, ours: hs.DecisionLikelihood, theta: np.ndarray) -> np.ndarray:
    """P(decision time > seconds) of every row of theta, by our likelihood."""
    at = torch.tensor(theta)
    with torch.no_grad():
        return ours.log_survival_rows(at[:, ours.simulator.names.index("t0")] + seconds, at).exp().numpy()


def log_prob(likelihood: hs.DecisionLikelihood, trials: tuple[Tensor, Tensor]) -> np.ndarray:
    with torch.no_grad():
        return likelihood.log_prob_rows(*trials).numpy()


def with_se(of_trials: np.ndarray, n_thetas: int) -> tuple[float, float]:
    """Mean over trials, and the standard error that comes from the thetas."""
    of_thetas = of_trials.reshape(n_thetas, -1).mean(1)
    return float(of_thetas.mean()), float(of_thetas.std() / math.sqrt(n_thetas))


def bias(likelihood: hs.DecisionLikelihood, reference: hs.DecisionLikelihood, n_sets: int) -> dict[str, float]:
    """Posterior bias by parameter; none where a parameter is held at a number."""
    if not n_sets or any(low == high for low, high in likelihood.box.values()):
        return {}
    found, _ = accuracy.posterior_bias(likelihood, reference, TRIALS_PER_SET, n_sets, SEED)
    return {f"bias of {p}": b for p, b in found.items()}


def compare(published: Published, folder: Path, n_thetas: int, n_sets: int) -> list[dict[str, float | str]]:
    """A row of scores for our likelihood, and one for theirs, over the box that both have.

    KL of a density q whose mass m is not 1 is the mean of log p - log q + m - 1, and q/p - 1 stands for m - 1 where
    there is a reference p. The KL of theirs above ours needs none.
    """
    ours = hs.load_likelihood(published.model)
    theirs = PublishedLikelihood(ours.simulator, folder, published)
    reference = catalogue.reference(hs.load_simulator(published.model))
    box = {p: (max(low, published.box[p][0]), min(high, published.box[p][1])) for p, (low, high) in ours.box.items()}
    each = thetas(ours, box, n_thetas)
    theta = np.repeat(each, N_PER_THETA, axis=0)
    rt, choice = ours.simulator.simulate(theta, SEED)
    trials = outcome_rows(rt, choice), torch.as_tensor(theta)
    log_ours, log_p = log_prob(ours, trials), None if reference is None else log_prob(reference, trials)
    beyond = later_than(LONGEST, ours, each)
    rows: list[dict[str, float | str]] = []
    for who, likelihood in (("hddm_sbi", ours), ("HSSM", theirs)):
        likelihood.box = box
        log_q, masses = log_prob(likelihood, trials), mass(likelihood, each, beyond)
        row: dict[str, float | str] = {"model": published.model, "network": who}
        if reference is not None:
            error = log_p - log_q
            row["KL"], row["se"] = with_se(error + np.expm1(-error), len(each))
            row["mean |error|"] = float(np.abs(error).mean())
        if likelihood is theirs:
            above = log_ours - log_q + np.repeat(masses, N_PER_THETA) - 1.0
            row["KL above ours"], row["its se"] = with_se(above, len(each))
        row |= {"least mass": masses.min(), "largest mass": masses.max()}
        if reference is not None:
            row |= bias(likelihood, reference, n_sets)
        rows.append(row)
        print(pd.DataFrame([row]).to_string(index=False), flush=True)
    return rows


def main(folder: Path, n_thetas: int = N_THETAS, n_sets: int = N_SETS) -> None:
    rows = []
    for published in NETWORKS:
        reason = missing(published, folder)
        if reason is None:
            rows += compare(published, folder, n_thetas, n_sets)
        else:
            print(f"skipped {published.model}: {reason}", flush=True)
    if not rows:
        return
    table = pd.DataFrame(rows).set_index(["model", "network"])
    table["largest mean bias"] = table.filter(like="bias of").max(axis=1)
    shown = ["KL", "se", "KL above ours", "its se", "mean |error|", "least mass", "largest mass", "largest mean bias"]
    print(
        f"\n{n_thetas} thetas x {N_PER_THETA} trials, uniform in the box that both have, where at most "
        f"{FREQUENT:.0%} of the trials\nlast longer than {GIVEN_UP:g} s. Bias: {n_sets} sets of {TRIALS_PER_SET} "
        "trials, in posterior sds. KL: against the closed form\nor the equation of the model, '-' where it has none. "
        "KL above ours: by the trials alone, without a reference.\n"
        f"Mass: within {LONGEST:g} s, and what our likelihood puts later.\n"
    )
    print(table.reindex(columns=shown).to_string(float_format="{:.2g}".format, na_rep="-"))
    print(f"\n{NOT_COMPARED}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))

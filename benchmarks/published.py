"""Our likelihoods beside HSSM's published networks, on the same trials and against the same reference.

Run as `python -m benchmarks.published FOLDER`, with the .onnx files of HSSM in it (its repository has had them under
src/hssm/onnx_models and tests/fixtures), and `pip install onnx`.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import hddm_sbi as hs
from hddm_sbi import calibration
from hddm_sbi.likelihood import Likelihood
from hddm_sbi.simulator import Simulator

N_THETAS, N_PER_THETA, N_SETS, TRIALS_PER_SET, SEED = 200, 1_000, 8, 10_000, 5


@dataclass(frozen=True)
class Published:
    """A network of HSSM: its parameters in the order of its inputs, by our names, and the box HSSM states for it."""

    parameters: tuple[str, ...]
    box: dict[str, tuple[float, float]]


NETWORKS = {
    "ddm": Published(("v", "a", "z", "t0"), {"v": (-3, 3), "a": (0.3, 2.5), "z": (0.1, 0.9), "t0": (0, 2)}),
    "angle": Published(
        ("v", "a", "z", "t0", "theta"),
        {"v": (-3, 3), "a": (0.3, 3), "z": (0.1, 0.9), "t0": (0.001, 2), "theta": (-0.1, 1.3)},
    ),
    "weibull": Published(
        ("v", "a", "z", "t0", "alpha", "beta"),
        {
            "v": (-2.5, 2.5),
            "a": (0.3, 2.5),
            "z": (0.2, 0.8),
            "t0": (0.001, 2),
            "alpha": (0.31, 4.99),
            "beta": (0.31, 6.99),
        },
    ),
    "ornstein": Published(
        ("v", "a", "z", "g", "t0"),
        {"v": (-2, 2), "a": (0.3, 3), "z": (0.1, 0.9), "g": (-1, 1), "t0": (0.001, 2)},
    ),
}


class PublishedLikelihood(Likelihood):
    """A perceptron with tanh: (parameters, rt, response) -> log density."""

    kind = "HSSM"

    def __init__(self, simulator: Simulator, path: Path, published: Published) -> None:
        import onnx
        from onnx import numpy_helper

        super().__init__(simulator, published.box)
        self.columns = [simulator.names.index(name) for name in published.parameters]
        values = [torch.tensor(numpy_helper.to_array(x)).double() for x in onnx.load(path).graph.initializer]
        self.layers = list(zip(values[::2], values[1::2], strict=True))

    def trial_log_prob(self, rt: Tensor, choice: Tensor, theta: Tensor) -> Tensor:
        response = torch.tensor(self.simulator.choices, dtype=torch.float64)[choice]
        x = torch.cat([theta[:, self.columns], rt[:, None], response[:, None]], 1)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            x = torch.tanh(x) if i + 1 < len(self.layers) else x
        return x[:, 0]


def mass(likelihood: Likelihood, theta: np.ndarray) -> np.ndarray:
    """Total mass of every row of theta, trapezoids over 4 000 decision times up to 40 s."""
    t = torch.tensor(np.geomspace(1e-4, 40.0, 4_000))
    shift = likelihood.simulator.names.index("t0")
    total = np.zeros(len(theta))
    for i, row in enumerate(theta):
        rows = torch.tensor(row).expand(len(t), -1)
        for choice in range(len(likelihood.simulator.choices)):
            log_p = likelihood.trial_log_prob(t + row[shift], torch.full((len(t),), choice), rows)
            total[i] += float(torch.trapezoid(torch.exp(log_p), t))
    return total


def main(folder: Path) -> None:
    rows = []
    for name, published in NETWORKS.items():
        ours = hs.load_likelihood(name)
        simulator = ours.simulator
        theirs = PublishedLikelihood(simulator, folder / f"{name}.onnx", published)
        kind = "exact" if simulator.log_density is not None else "numerical"
        reference = hs.load_likelihood(name, kind=kind)
        box = {
            p: (max(low, published.box[p][0]), min(high, published.box[p][1])) for p, (low, high) in ours.box.items()
        }
        for who, likelihood in (("hddm_sbi", ours), ("HSSM", theirs)):
            likelihood.box = box
            scores = calibration.accuracy(likelihood, reference, box, N_THETAS * N_PER_THETA, SEED, n_thetas=N_THETAS)
            bias, _ = calibration.posterior_bias(likelihood, reference, TRIALS_PER_SET, N_SETS, SEED)
            masses = mass(likelihood, calibration._uniform(simulator, box, 50, SEED))
            rows.append(
                {
                    "model": name,
                    "network": who,
                    "KL": scores.kl,
                    "mean |error|": scores.mean_abs_error,
                    "least mass": masses.min(),
                    "largest mass": masses.max(),
                    **{f"bias of {p}": b for p, b in bias.items()},
                }
            )
            print(pd.DataFrame(rows[-1:]).to_string(header=len(rows) == 1), flush=True)
    table = pd.DataFrame(rows).set_index(["model", "network"])
    bias = table.filter(like="bias of").max(axis=1).rename("largest mean bias")
    print(
        f"\n{N_THETAS} thetas x {N_PER_THETA} trials; bias: {N_SETS} sets of {TRIALS_PER_SET} trials, in posterior sds"
    )
    print(
        table[["KL", "mean |error|", "least mass", "largest mass"]].join(bias).to_string(float_format="{:.2g}".format)
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

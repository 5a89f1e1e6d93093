"""Training: steps of the fit per second on the CPU and, where torch finds one, on a GPU.

The network and the batches of the shipped `ddm`, and the wider network of models with many parameters.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import hddm_sbi as hs
from hddm_sbi.likelihoods.mixture import Architecture
from hddm_sbi.training.histograms import simulate_histograms
from hddm_sbi.training.mixture import fit_network, new_network
from hddm_sbi.training.recipe import Machine, Recipe

RECIPE = Recipe(n_thetas=2_000, n_trials=1_000, shard=2_000)
SIZES = {"64 x 2, 8 components": Architecture(), "96 x 2, 16 components": Architecture(components=16, hidden=96)}
WARM, STEPS = 50, 200


def steps_per_second(architecture: Architecture, batch: int, device: str) -> float:
    """Of a fit of so many steps, less a short one."""
    ddm, seconds = hs.load_simulator("ddm"), []
    for steps in (WARM, WARM, WARM + STEPS):
        with tempfile.TemporaryDirectory() as folder:
            recipe = replace(RECIPE, steps=steps, batch=batch)
            data = simulate_histograms(ddm, recipe, Path(folder), Machine(progress=False))
            network = new_network(ddm, recipe, architecture)
            began = time.perf_counter()
            fit_network(network, recipe, data, Path(folder), Machine(device=device, progress=False))
            seconds.append(time.perf_counter() - began)
    return STEPS / (seconds[2] - seconds[1])


def main() -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for name, architecture in SIZES.items():
        for batch in (256, 2_048):
            found = {device: steps_per_second(architecture, batch, device) for device in devices}
            rates = ", ".join(f"{device} {rate:.0f} steps/s" for device, rate in found.items())
            print(f"{name}, {batch:5d} thetas per batch: {rates}")
    if "cuda" in devices:
        print(torch.cuda.get_device_name())
    else:
        print("skipped cuda: torch finds no GPU")


if __name__ == "__main__":
    main()

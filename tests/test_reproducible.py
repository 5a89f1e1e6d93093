"""The first process after an install compiles, later ones load all that was compiled: both give the same bytes."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, sys
import numpy as np, torch
import hddm_sbi as hs
from numba.core import event
from hddm_sbi.likelihoods.decision import SortedTrials
class Compilations(event.Listener):
    names = []
    def on_start(self, e): self.names.append(e.data["dispatcher"].py_func.__qualname__)
    def on_end(self, e): pass
event.register("numba:compile", Compilations())
rng = np.random.default_rng(0)
rt, choice, cell = rng.random(3000) * 2 + 0.35, rng.integers(0, 2, 3000), rng.integers(0, 7, 3000)
trials = SortedTrials.sort(rt, choice, cell, 7, 2)
digest = hashlib.sha256()
for kind in sys.argv[1:]:
    theta = torch.tensor([[1.0 - 0.3 * k, 1.0 + 0.1 * k, 0.5, 0.3] for k in range(7)]).double().requires_grad_()
    total = hs.load_likelihood("ddm", kind=kind).log_prob_by_cell(trials, theta, torch.tensor(0.05).double())
    total.sum().backward()
    digest.update(total.detach().numpy().tobytes() + theta.grad.numpy().tobytes())
data = hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.4, "t0": 0.3}, 1000, seed=1)
digest.update(data["rt"].to_numpy().tobytes())
density = hs.HierarchicalModel("v ~ 1", data[:20], likelihood="exact").density
assert density.path == "compiled"
digest.update(density(density.start + 0.3)[1].tobytes())
print(digest.hexdigest())
print(*Compilations.names)
print(*{"torch._dynamo", "sympy"} & set(sys.modules))
"""


@pytest.mark.parametrize("kinds", [["exact"], pytest.param(["exact", "neural"], marks=pytest.mark.slow)])
def test_compiling_and_loading_give_the_same_bytes(tmp_path, kinds):
    """Likelihoods, simulations, and the compiled density of a model."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, *kinds]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(2)
    )
    assert first[0] == second[0]
    names = first[1].split()
    assert "run" in names
    assert any(name.startswith("enter_") for name in names)
    assert not second[1], "another process compiles nothing"
    assert not first[2], "torch's own compiler takes longer to import than all of ours to run"

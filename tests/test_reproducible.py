"""The first process after an install compiles, later ones load what was compiled: both give the same bytes."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import hashlib, sys
import numpy as np, torch
import hddm_sbi as hs
from hddm_sbi.likelihoods.decision import SortedTrials
rng = np.random.default_rng(0)
rt, choice, cell = rng.random(3000) * 2 + 0.35, rng.integers(0, 2, 3000), rng.integers(0, 7, 3000)
trials = SortedTrials.sort(rt, choice, cell, 7, 2)
digest = hashlib.sha256()
for kind in sys.argv[1:]:
    theta = torch.tensor([[1.0 - 0.3 * k, 1.0 + 0.1 * k, 0.5, 0.3] for k in range(7)]).double().requires_grad_()
    total = hs.load_likelihood("ddm", kind=kind).log_prob_by_cell(trials, theta, torch.tensor(0.05).double())
    total.sum().backward()
    digest.update(total.detach().numpy().tobytes() + theta.grad.numpy().tobytes())
digest.update(hs.simulate("ddm", {"v": 1.0, "a": 1.0, "z": 0.4, "t0": 0.3}, 1000, seed=1)["rt"].to_numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("kinds", [["exact"], pytest.param(["exact", "neural"], marks=pytest.mark.slow)])
def test_compiling_and_loading_give_the_same_bytes(tmp_path, kinds):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, *kinds]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbc"))
    assert first == second

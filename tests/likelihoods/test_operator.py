"""The kernel of learned likelihoods against its definition in torch, however trials fall into cells."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from hddm_sbi.likelihoods.catalogue import load_likelihood
from hddm_sbi.likelihoods.decision import SortedTrials
from hddm_sbi.likelihoods.mixture import MixtureLikelihood
from hddm_sbi.likelihoods.mixture import likelihood as likelihood_module
from hddm_sbi.likelihoods.mixture.operator import neural_cells

#: plain, collapsing, delayed, with an early heavy tail; three choices that see each other; that race, with a late one.
NAMES = ("ddm", "weibull", "full_ddm", "levy", "lca3", "race3", "lba3")
#: trials of every choice in cells, repeated over more cells than the kernel takes at a time.
SIZES = {"one trial each": (0, 1), "few": (0, 1, 2, 3, 0, 5), "many": (0, 1, 150, 0, 40)}


def table(likelihood, sizes, n_cells, seed=1):
    """Sorted trials and theta: rt from below the onset to twice what is drawn."""
    rng = np.random.default_rng(seed)
    low, high = np.array(list(likelihood.box.values())).T
    theta = torch.as_tensor(low + (high - low) * rng.uniform(0.05, 0.95, (n_cells, len(low))))
    n_choices = len(likelihood.simulator.choices)
    if sizes == SIZES["one trial each"]:
        run = np.arange(n_cells) * n_choices + rng.integers(0, n_choices, n_cells)
    else:
        run = np.repeat(np.arange(n_cells * n_choices), np.resize(sizes, n_cells * n_choices))
    cell, choice = run // n_choices, run % n_choices
    rt = likelihood.sample_rows(theta[cell], seed)[:, 0] * rng.uniform(0.6, 2.0, len(cell))
    return SortedTrials.sort(rt, choice, cell, n_cells, n_choices), theta


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_cells_are_the_definition_with_the_same_gradient(name, sizes):
    likelihood = load_likelihood(name)
    trials, theta = table(likelihood, SIZES[sizes], 37)
    weight, results = torch.linspace(0.5, 2.0, 37, dtype=torch.float64), []
    for total in (likelihood.log_prob_by_cell, super(MixtureLikelihood, likelihood).complete_by_cell):
        at, lapse = theta.clone().requires_grad_(), torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
        value = total(trials, at, lapse.expand(37))
        results.append([value.detach(), *torch.autograd.grad((weight * value).sum(), (at, lapse))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_operator_is_registered_as_torch_expects(name, monkeypatch):
    likelihood = load_likelihood(name)
    trials, theta = table(likelihood, SIZES["few"], 20)
    given = []
    monkeypatch.setattr(
        likelihood_module, "neural_cells", lambda **arguments: given.append(arguments) or neural_cells(**arguments)
    )
    likelihood.log_prob_by_cell(trials, theta, torch.tensor(0.05, dtype=torch.float64))
    leaves = {
        name: x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, torch.Tensor) and x.ndim else x
        for name, x in given[0].items()
    }
    leaves["rt"] = leaves["rt"].detach()
    torch.library.opcheck(
        neural_cells, (), leaves, test_utils=("test_schema", "test_faketensor", "test_autograd_registration")
    )


SCRIPT = """
import numpy as np, torch
import hddm_sbi as hs
from hddm_sbi.likelihoods import exact_events_kernel, exact_kernel
from hddm_sbi.likelihoods.decision import SortedTrials
from hddm_sbi.likelihoods.mixture import operator
likelihood, lapse = hs.load_likelihood("ddm", kind="neural"), torch.tensor(0.05).double()
def compiled(): return [name for name, way in operator._WAYS.items() if way.overloads]
for n_cells in (1, 60):
    theta = torch.tensor([[1.0, 1.0, 0.5, 0.3]]).double().repeat(n_cells, 1)
    rt, choice, cell = np.linspace(0.4, 1.5, 60), np.arange(60) % 2, np.arange(60) % n_cells
    likelihood.log_prob_by_cell(SortedTrials.sort(rt, choice, cell, n_cells, 2), theta, lapse)
    print(*compiled(), len(exact_kernel._cells.overloads) + len(exact_events_kernel._events.overloads))
"""


def test_only_what_a_table_needs_is_compiled():
    """60 trials of one cell, then one of each of 60 cells; the closed form is not needed."""
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["cells 0", "cells rows 0"]

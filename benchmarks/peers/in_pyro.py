"""Contender: Pyro's NUTS on our Pyro model, plain and jit_compile, and with the likelihood of sbi's MNLE instead."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pyro
import pyro.ops.integrator
import torch
from pyro.infer import MCMC, NUTS

import hddm_sbi as hs
from benchmarks.peers.in_sbi import observed_by
from benchmarks.peers.task import LAPSES, Task, cpu, least_bulk_ess, say
from hddm_sbi.data import read_table
from hddm_sbi.hierarchy.fits.posterior import variables
from hddm_sbi.inference.nuts import starting_point


@contextmanager
def gradients_counted() -> Iterator[list[int]]:
    """How often Pyro's integrator asks for a gradient."""
    counted, gradient = [0], pyro.ops.integrator.potential_grad

    def count(*arguments: object) -> object:
        counted[0] += 1
        return gradient(*arguments)

    pyro.ops.integrator.potential_grad = count
    try:
        yield counted
    finally:
        pyro.ops.integrator.potential_grad = gradient


def run(task: Task, model: Callable[[], None], start: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Unconstrained draws, tuning left out; those so far where time is up."""
    kept: list[dict[str, torch.Tensor]] = []

    def keep(kernel: NUTS, params: dict[str, torch.Tensor], stage: str, i: int) -> None:
        if stage == "Sample":
            kept.append({name: value.detach().clone() for name, value in params.items()})
        if task.spent:
            raise KeyboardInterrupt

    kernel = NUTS(model, jit_compile=task.sampler == "jit", ignore_jit_warnings=True)
    mcmc = MCMC(kernel, task.draws, warmup_steps=task.tune, initial_params=start, disable_progbar=True, hook_fn=keep)
    with pyro.validation_enabled(False):
        try:
            mcmc.run()
        except KeyboardInterrupt:
            say(stopped=1)
    return kept


def main(task: Task) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(task.seed)
    likelihood = "exact" if task.file else task.likelihood
    described = hs.HierarchicalModel(list(task.formulas), read_table(task.table), likelihood=likelihood, **LAPSES)
    hierarchy = described.hierarchy
    model = observed_by(task.file, hierarchy) if task.file else hierarchy
    density = hs.flatten(model, described.start, "eager")
    first = density.unflatten(torch.as_tensor(starting_point(density, np.random.default_rng(task.seed))))
    with gradients_counted() as counted:
        began = cpu()
        kept = run(task, model, {name: value.clone() for name, value in first.items()})
        sampling = cpu() - began
    say(sampling=sampling, total=cpu(), draws=len(kept), ms=1e3 * sampling / max(1, counted[0]))
    if kept:
        x = torch.stack([torch.cat([draw[name].reshape(-1) for name in density.names]) for draw in kept])
        say(ess=least_bulk_ess(variables(hierarchy, density.constrain(x.numpy()[np.newaxis]))))


if __name__ == "__main__":
    main(Task.told())

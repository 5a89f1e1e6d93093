"""Contender: hddm_sbi, as a user has it; its seconds of sampling contain its diagnostics."""

import warnings

import torch

import hddm_sbi as hs
from benchmarks.peers.task import LAPSES, Task, cpu, least_bulk_ess, milliseconds, say
from hddm_sbi.data import read_table
from hddm_sbi.inference import inference_data


def main(task: Task) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = hs.HierarchicalModel(list(task.formulas), read_table(task.table), likelihood=task.likelihood, **LAPSES)
    density = model.density
    began = cpu()
    posterior = model.fit(task.draws, task.tune, chains=1, seed=task.seed, progress=False)
    say(sampling=cpu() - began, total=cpu(), draws=task.draws)
    variables = {str(name): array.to_numpy() for name, array in inference_data.dataset(posterior).data_vars.items()}
    say(ess=least_bulk_ess(variables))
    x = density.start + 0.05
    say(ms=milliseconds(lambda: density(x)))


if __name__ == "__main__":
    main(Task.told())

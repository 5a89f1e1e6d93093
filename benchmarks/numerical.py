"""kind="numerical" over the whole box: refusals, milliseconds per theta, and the largest distance from a finer grid.

1 000 trials, with the response given and with another one, at 40 thetas uniform in the box, seed 7. Finer: 4 000 points
for a diffusion and 2 000 for others, of the log densities of 5 thetas.
"""

import sys
import time
from dataclasses import replace

import numpy as np
import torch

import hddm_sbi as hs
from hddm_sbi.errors import InputError
from hddm_sbi.likelihoods.catalogue import names
from hddm_sbi.likelihoods.decision import outcome_rows
from hddm_sbi.likelihoods.likelihood import shift_of
from hddm_sbi.likelihoods.numerical import NumericalLikelihood
from hddm_sbi.training.accuracy import uniform_thetas

_THETAS, _TRIALS, _CHECKED = 40, 1_000, 5


def main(models: list[str]) -> None:
    for name in models:
        simulator = hs.load_simulator(name)
        likelihood, n_choices = NumericalLikelihood(simulator), len(simulator.choices)
        theta = uniform_thetas(simulator, simulator.box, _THETAS * _TRIALS, 7, _THETAS)
        rt, choice = simulator.simulate(theta, 7)
        refused, seconds, gap = 0, np.zeros(2), 0.0
        for i in range(_THETAS):
            rows = slice(i * _TRIALS, (i + 1) * _TRIALS)
            at = torch.tensor(theta[rows])
            try:
                began = time.process_time()
                likelihood.log_prob_rows(outcome_rows(rt[rows], (choice[rows] + 1) % n_choices), at)
                seconds[0] += time.process_time() - began
                began = time.process_time()
                found = likelihood.log_prob_rows(outcome_rows(rt[rows], choice[rows]), at.requires_grad_())
                seconds[1] += time.process_time() - began
            except InputError as reason:
                refused += 1
                print(f"  {reason}")
                continue
            if i < _CHECKED:
                assert simulator.passage is not None
                t = rt[rows] - shift_of(simulator, at.detach()).numpy()
                passage = simulator.passage(*theta[rows.start], t_max=1.1 * t.max())
                fine = replace(passage, grids=(2_000 if simulator.races else 4_000,)).log_density(t)
                gap = max(gap, np.abs(fine[choice[rows], np.arange(_TRIALS)] - found.detach().numpy()).max())
        each = 1e3 * seconds / (_THETAS - refused)
        print(f"{name}: {refused} of {_THETAS} refused; {each[0]:.0f} ms, {each[1]:.0f} ms with gradient; {gap:.1g}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:] or [name for name in names() if hs.load_simulator(name).passage is not None])

"""Contender: HSSM, run by its own Python: closed form or its network from a local file; PyMC, NumPyro or nutpie."""

import ctypes
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.peers.task import TIMED, Task, cpu, least_bulk_ess, milliseconds, say


class Clock:
    """What PyMC says of every step, tuning included; stops it when time is up."""

    def __init__(self, task: Task) -> None:
        self.task, self.seconds, self.gradients = task, 0.0, 0.0

    def __call__(self, trace: Any, draw: Any) -> None:
        for stats in draw.stats:
            self.seconds += stats["process_time_diff"]
            self.gradients += stats["tree_size"]
        if draw.draw_idx % TIMED == 0:
            say(ms=1e3 * self.seconds / self.gradients)
        if self.task.spent:
            say(stopped=1)
            raise KeyboardInterrupt


def time_numpyro(model: Any) -> None:
    """A gradient compiled as NumPyro's: its own count leaves out tuning."""
    import jax
    from pymc.sampling.jax import get_jaxified_logp

    jax.config.update("jax_enable_x64", True)
    start = model.initial_point()
    gradient = jax.jit(jax.value_and_grad(get_jaxified_logp(model)))
    x = [np.asarray(start[variable.name]) for variable in model.value_vars]
    say(ms=milliseconds(lambda: jax.block_until_ready(gradient(x))))


def time_nutpie(compiled: Any) -> None:
    """A gradient by the C function that nutpie is about to call."""
    x = np.asarray(compiled.initial_point_func(1), dtype=np.float64)
    slope, value = np.empty_like(x), np.empty(1)
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, *[ctypes.c_void_p] * 4)(
        compiled.compiled_logp_func.address
    )
    places = [array.ctypes.data for array in (x, slope, value, compiled.user_data)]
    say(ms=milliseconds(lambda: function(len(x), *places)))


class Timed:
    """A gradient is timed first, in `aside` seconds that do not count; sampling begins at `began`."""

    def __init__(self, task: Task, model: Any) -> None:
        self.aside = 0.0
        if task.sampler == "numpyro":
            self._time(time_numpyro, model)
        elif task.sampler == "nutpie":
            import nutpie

            nutpie.sample = partial(self._nutpie, nutpie.sample)
        self.began = cpu()

    def _time(self, measure: Any, of: Any) -> None:
        began = cpu()
        measure(of)
        self.aside += cpu() - began

    def _nutpie(self, sample: Any, compiled: Any, **options: Any) -> Any:
        self._time(time_nutpie, compiled)
        self.began = cpu()
        return sample(compiled, **options)


def described(task: Task) -> Any:
    """The model in HSSM's words: t for t0. Everything that is not said is HSSM's default, priors and lapses too."""
    import hssm

    include = []
    for formula in task.formulas:
        name, _, rest = formula.partition(" ~ ")
        name = {"t0": "t"}.get(name, name)
        include.append({"name": name, "formula": f"{name} ~ {rest}"})
    network = {"loglik": task.file, "loglik_kind": "approx_differentiable", "model_config": {"backend": "jax"}}
    likelihood = network if task.file else {"loglik_kind": "analytical"}
    return hssm.HSSM(data=pd.read_csv(task.table), model="ddm", include=include, **likelihood)


def main(task: Task) -> None:
    warnings.simplefilter("ignore")
    model = described(task)
    timed, clock = Timed(task, model.pymc_model), Clock(task)
    options = {"callback": clock} if task.sampler == "pymc" else {}
    posterior = model.sample(
        sampler=task.sampler,
        draws=task.draws,
        tune=task.tune,
        chains=1,
        cores=1,
        random_seed=task.seed,
        progressbar=False,
        idata_kwargs={"log_likelihood": False},
        **options,
    ).posterior
    total, draws = cpu() - timed.aside, posterior.sizes["draw"]
    if task.sampler == "pymc":
        say(ms=1e3 * clock.seconds / clock.gradients)
    # NumPyro compiles while it samples.
    say(sampling=clock.seconds or cpu() - timed.began, total=total, draws=draws)
    if draws > 3:
        kept = {str(k): v.to_numpy() for k, v in posterior.data_vars.items() if not str(k).endswith("_offset")}
        say(ess=least_bulk_ess(kept))


if __name__ == "__main__":
    main(Task.told())

"""Arguments of other samplers that users try, each with the words for it here."""

from collections.abc import Mapping, Sequence

from hddm_sbi.errors import InputError, did_you_mean

_THREADS = "every chain has a thread of its own; leave it out"
_START = "sampling starts from a quick fit of the model; leave it out"
#: argument of PyMC, Stan, HDDM, HSSM, bambi or NumPyro -> what stands for it.
_HABITS = {
    **dict.fromkeys(("adapt_delta", "target_accept_prob", "control"), "write target_accept="),
    **dict.fromkeys(("cores", "n_jobs", "njobs", "parallel_chains", "dbname"), _THREADS),
    **dict.fromkeys(("init", "inits", "initvals", "initial_params", "start"), _START),
    **dict.fromkeys(("samples", "n_samples", "num_samples", "iter", "iter_sampling", "niter"), "write draws="),
    **dict.fromkeys(("burn", "burnin", "warmup", "n_burn", "num_warmup", "iter_warmup"), "write tune="),
    **dict.fromkeys(("random_seed", "rng", "rng_key", "random_state"), "write seed="),
    **dict.fromkeys(("num_chains", "nchains", "n_chains"), "write chains="),
    **dict.fromkeys(("sampler", "step", "inference_method", "nuts_sampler"), "write method="),
    "progressbar": "write progress=",
    "progress_bar": "write progress=",
    "thin": "draws of NUTS are all worth keeping; leave it out",
    "idata_kwargs": "write log_likelihood=True",
}


def check_no_others(others: Mapping[str, object], known: Sequence[str]) -> None:
    """Refuse arguments that there are not. Raises InputError with what stands for the first of them."""
    for name in others:
        said = f": {_HABITS[name]}." if name in _HABITS else f"{did_you_mean(name, known)} Known: {', '.join(known)}."
        raise InputError(f"fit takes no argument {name!r}{said}")

"""Effects of two parameters that are correlated: the same model in plain Pyro, the correlation found again, real data.

python -m benchmarks.correlations --data FOLDER     # with cavanagh.csv; without it, simulated trials alone
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide.initialization import init_to_value

import hddm_sbi as hs
from hddm_sbi.inference import inference_data

N_SUBJECTS, N_TRIALS = 60, 100
#: of drift and log threshold between subjects.
MEAN, SD, CORRELATION = np.array([1.0, 0.0]), np.array([0.5, 0.2]), 0.6
FORMULAS = ["v ~ 1 + (1|p|subject)", "a ~ 1 + (1|p|subject)", "z = 0.5"]
CAVANAGH = {
    "without tag": ["v ~ stim + (stim|subj_idx)", "a ~ 1 + (1|subj_idx)"],
    "tag": ["v ~ stim + (stim|p|subj_idx)", "a ~ 1 + (1|p|subj_idx)"],
}


def simulated(seed: int = 1, n_subjects: int = N_SUBJECTS, n_trials: int = N_TRIALS) -> pd.DataFrame:
    """Trials of subjects whose drift and log threshold are correlated."""
    rng = np.random.default_rng(seed)
    covariance = np.outer(SD, SD) * np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    v, log_a = rng.multivariate_normal(MEAN, covariance, n_subjects).T
    subject = np.repeat(np.arange(n_subjects), n_trials)
    theta = {"v": v[subject], "a": np.exp(log_a[subject]), "z": 0.5, "t0": 0.3}
    return hs.simulate("ddm", theta, seed=seed).assign(subject=subject)


def in_pyro(data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Draws of the model written line by line: levels of subjects from one normal, sampled by Pyro's own NUTS."""
    likelihood = hs.load_likelihood("ddm", kind="exact")
    subject = torch.tensor(data["subject"].tolist())
    n = int(subject.max()) + 1
    trials = torch.tensor(data[["rt", "response"]].to_numpy(dtype=float))

    def number(x: float) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float64)

    def model() -> None:
        v = pyro.sample("v_Intercept", dist.Normal(number(0.0), 3.0))
        a = pyro.sample("a_Intercept", dist.Normal(number(0.0), 0.6))
        t0 = pyro.sample("t0_Intercept", dist.Normal(number(-1.2), 0.6))
        sd_v = pyro.sample("v_1|subject_sigma", dist.HalfNormal(number(1.0)))
        sd_a = pyro.sample("a_1|subject_sigma", dist.HalfNormal(number(0.4)))
        factor = pyro.sample("factor", dist.LKJCholesky(2, number(2.0)))
        with pyro.plate("subject", n):
            factor_of_both = torch.stack([sd_v, sd_a]).unsqueeze(-1) * factor
            level = pyro.sample("level", dist.MultivariateNormal(torch.stack([v, a]), scale_tril=factor_of_both))
        half, onset = number(0.5).expand(n), t0.exp().expand(n)
        theta = torch.stack([level[:, 0], level[:, 1].exp(), half, onset], -1)
        pyro.sample("trials", likelihood.distribution(theta, index=subject), obs=trials)

    start = {"v_Intercept": number(1.0), "a_Intercept": number(0.0), "t0_Intercept": number(np.log(0.25))}
    start |= {"v_1|subject_sigma": number(0.5), "a_1|subject_sigma": number(0.2)}
    start |= {"factor": torch.eye(2).double(), "level": torch.tensor([1.0, 0.0]).double().repeat(n, 1)}
    pyro.set_rng_seed(1)
    kernel = NUTS(model, init_strategy=init_to_value(values=start), jit_compile=False)
    chain = MCMC(kernel, num_samples=500, warmup_steps=300, disable_progbar=True)
    chain.run()
    draws = {name: value.numpy() for name, value in chain.get_samples().items()}
    return {**draws, "correlation": draws["factor"][:, 1, 0]}


def in_hddm_sbi(data: pd.DataFrame) -> dict[str, np.ndarray]:
    """Draws of the same model by formulas."""
    posterior = hs.HierarchicalModel(FORMULAS, data, likelihood="exact", lapse=0).fit(seed=1, progress=False)
    draws = inference_data.draws(inference_data.dataset(posterior))
    found = {str(name): value.to_numpy() for name, value in draws.items()}
    return {**found, "correlation": found["p|subject_corr"][:, 1, 0]}


def compare(data: pd.DataFrame) -> None:
    """Means and sds of both, and how far apart they are."""
    results = []
    for run in (in_hddm_sbi, in_pyro):
        began = time.perf_counter()
        results.append(run(data))
        print(f"{run.__name__}: {time.perf_counter() - began:.0f} s")
    ours, theirs = results
    names = ["v_Intercept", "a_Intercept", "t0_Intercept", "v_1|subject_sigma", "a_1|subject_sigma", "correlation"]
    for name in names:
        x, y = ours[name], theirs[name]
        shift, ratio = (x.mean() - y.mean()) / y.std(), x.std() / y.std()
        print(
            f"{name}: {x.mean():.3f} (sd {x.std():.3f}), in plain Pyro {y.mean():.3f} ({y.std():.3f}): "
            f"{shift:+.2f} sd apart, sd x {ratio:.2f}"
        )
    low, high = np.quantile(ours["correlation"], [0.025, 0.975])
    effects = [ours[f"{parameter}_1|subject"].mean(0) for parameter in ("v", "a")]
    print(
        f"correlation of v and log a of {N_SUBJECTS} subjects: simulated at {CORRELATION}, 95 % interval "
        f"{low:.2f} to {high:.2f}; of the means of their effects {np.corrcoef(effects)[0, 1]:.2f}"
    )


def real(folder: Path) -> None:
    """Fits of Cavanagh's data at the defaults, with and without a tag."""
    data = pd.read_csv(folder / "cavanagh.csv")
    for name, formulas in CAVANAGH.items():
        model = hs.HierarchicalModel(formulas, data, upper=1)
        began, cpu = time.perf_counter(), time.process_time()
        posterior = model.fit(seed=1, progress=False)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        known: Any = model.matched(posterior)
        stats = inference_data.dataset(posterior, "sample_stats")
        (_, rhat), (place, ess) = inference_data.worst_rhat(known), inference_data.worst_ess(known)
        print(
            f"cavanagh, {name}: {seconds:.0f} s ({cpu:.0f} CPU s), Rhat at most {rhat:.3f}, effective samples at least "
            f"{ess:.0f} ({place}), {int(stats['diverging'].sum())} divergences"
        )
        if "p|subj_idx_corr" in known:
            matrix = known["p|subj_idx_corr"]
            for other in matrix["p|subj_idx_corr_dim_bis"].to_numpy()[:-1]:
                draws = matrix.sel({"p|subj_idx_corr_dim": "a_1", "p|subj_idx_corr_dim_bis": other}).to_numpy()
                low, high = np.quantile(draws, [0.025, 0.975])
                print(f"  a_1 with {other}: {draws.mean():+.2f}, 95 % interval {low:+.2f} to {high:+.2f}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, help="folder of cavanagh.csv")
    folder = arguments.parse_args().data
    warnings.simplefilter("ignore", hs.ConvergenceWarning)
    compare(simulated())
    if folder is not None:
        real(folder)


if __name__ == "__main__":
    main()

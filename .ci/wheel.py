"""A wheel that brings machine code along, so that a first fit need not compile its kernels.

    python .ci/wheel.py FOLDER [MODEL ...]

Simulates and fits every model, or those named, compiles what that asks for, for any x86-64 processor with AVX2, and
puts it into a wheel for this Python, this system and the Numba that is installed. With another Numba, or on another
processor, the same wheel compiles on the user's machine, as a wheel without machine code does.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from pathlib import Path

from hddm_sbi.numerics import kernel_cache

ROOT = Path(__file__).parents[1]
#: few trials of two subjects are enough to compile for.
N_TRIALS = 40


def compile_for(name: str) -> None:
    """Simulate, evaluate, fit, predict and certify by each likelihood of a model: what is compiled is kept."""
    kernel_cache.keep_with_package()
    import numpy as np

    import hddm_sbi as hs

    simulator = hs.load_simulator(name)
    theta = {p.name: p.fixed if p.fixed is not None else float(np.mean(p.typical)) for p in simulator.parameters}
    conditions = {p.name: np.resize(p.codes, N_TRIALS) for p in simulator.parameters if p.from_data}
    theta |= conditions
    table = hs.simulate(name, theta, N_TRIALS, seed=1).assign(**conditions)
    table["subject"] = np.repeat(["one", "other"], N_TRIALS // 2)
    first = next(p.name for p in simulator.parameters if not p.from_data and p.fixed is None)
    for kind in ("exact", "neural"):
        try:
            likelihood = hs.load_likelihood(name, kind=kind)
        except hs.InputError:
            continue
        for function in (likelihood.log_prob, likelihood.cdf):
            function(table["rt"].to_numpy(), table["response"].to_numpy(), theta)
        model = hs.HierarchicalModel([f"{first} ~ 1 + (1|subject)"], table, likelihood=likelihood)
        posterior = model.fit(draws=100, tune=100, chains=1, seed=1, progress=False)
        hs.posterior_predictive(model, posterior)
        if kind == "neural" and simulator.log_density is not None:
            # By an equation or by simulations it would take minutes, and compile little else.
            hs.certify(model, posterior)


def run(*models: str) -> None:
    """Compile for these models, each in a process of its own, all at once."""
    environment = {
        "NUMBA_CPU_NAME": kernel_cache.PROCESSOR,
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_DISABLE_INTEL_SVML": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as cache:
        environment["NUMBA_CACHE_DIR"] = cache
        command = [sys.executable, "-W", "ignore", __file__, "--compile-for"]
        processes = [subprocess.Popen([*command, name], env={**os.environ, **environment}) for name in models]
        for name, process in zip(models, processes, strict=True):
            if process.wait():
                raise SystemExit(f"compiling for {name} failed")


def main(folder: str, *models: str) -> None:
    """Compile, and make the wheel."""
    import hddm_sbi as hs

    names = list(models) or list(hs.models().index)
    shutil.rmtree(kernel_cache.COMPILED, ignore_errors=True)
    # The first one compiles what all share.
    run(names[0])
    for at in range(1, len(names), 2):
        run(*names[at : at + 2])
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tags = f"--build-option=--python-tag={python} --plat-name={platform}"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--config-settings", tags]
    subprocess.run([*command, "--wheel-dir", folder, str(ROOT)], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compile-for"]:
        warnings.simplefilter("ignore")
        compile_for(sys.argv[2])
    else:
        main(*sys.argv[1:])

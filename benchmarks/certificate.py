"""Certificates: what weights of a learned likelihood are like, by size of the table, and planted errors; 5 minutes.

`python -m benchmarks.certificate errors` asks whether stated errors are right, `leaky` certifies models that only their
simulators judge, `by_simulations` says what such a certificate costs; 15, 5 and 1 minutes more.
"""

import argparse
import time
import warnings
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

import hddm_sbi as hs

FIT = {"draws": 1_000, "tune": 500, "chains": 4, "seed": 1, "progress": False}
SUBJECTS = (20, 60)
FACTORS = (1.02, 1.05)
#: of a model without a closed form.
WEIBULL = {"v": 1.5, "a": 1.3, "z": 0.5, "t0": 0.3, "alpha": 2.0, "beta": 1.5}
#: of one person, 400 trials.
DDM = {"v": 1.2, "a": 1.0, "z": 0.5, "t0": 0.3}
#: tables by which stated errors are judged, and simulations that judge each.
TABLES, SIMULATIONS = 24, 100_000
#: of leaky accumulators; what the formulas do not name is held.
LEAKY = {"a": 1.0, "z": 0.3, "t0": 0.2, "g": 0.5, "b": 0.5}


class Planted(hs.DecisionLikelihood):
    """Another likelihood with one parameter multiplied: normalised as that is, and wrong in a known way."""

    kind = "planted"

    def __init__(self, parameter="v", factor=1.0, inner=None):
        self.inner = hs.load_likelihood("ddm", kind="exact") if inner is None else inner
        super().__init__(self.inner.simulator, self.inner.box)
        self.factors = torch.tensor([factor if name == parameter else 1.0 for name in self.simulator.names]).double()

    def group_by_cell(self, *arguments, **options):
        return self.inner.group_by_cell(*arguments, **options)

    def log_prob_rows(self, values, theta):
        return self.inner.log_prob_rows(values, theta * self.factors)

    def log_prob_at(self, values, theta, row):
        return self.inner.log_prob_at(values, theta * self.factors, row)

    def cdf_rows(self, values, theta):
        return self.inner.cdf_rows(values, theta * self.factors)

    def complete_by_cell(self, trials, theta, lapse):
        return self.inner.complete_by_cell(trials, theta * self.factors, lapse)

    def events_by_cell(self, events, theta, lapse, lapses):
        return self.inner.events_by_cell(events, theta * self.factors, lapse, lapses)


def certified(name, model, posterior, **options):
    began = time.perf_counter()
    found = hs.certify(model, posterior, **options)
    took, worst = time.perf_counter() - began, found.shifts["shift"].abs().idxmax()
    shift, error = found.shifts.loc[worst, ["shift", "error"]]
    print(
        f"{name}: {found.n_draws} draws in {took:.1f} s, Pareto k {found.pareto_k:.2f}, {found.effective_draws:.0f} "
        f"effective; largest shift {shift:+.3f} +- {error:.3f} ({worst}), "
        f"{'passed' if found.passed else 'not passed'}",
        flush=True,
    )
    return found


def honest() -> None:
    """The shipped likelihood of the ddm, on the demo's experiment."""
    for n in SUBJECTS:
        experiment = hs.simulate_experiment(n_subjects=n, seed=1)
        model = hs.HierarchicalModel(experiment.formulas, experiment.trials)
        began = time.perf_counter()
        posterior = model.fit(**FIT)
        took = time.perf_counter() - began
        certified(f"ddm, {n} subjects, {len(experiment.trials)} trials, fit in {took:.0f} s", model, posterior)


def planted() -> None:
    """Drifts off by 2 and 5 %: corrected means beside those of a fit with the closed form, in posterior sds."""
    experiment = hs.simulate_experiment(n_subjects=SUBJECTS[0], seed=1)
    tables = {
        "20 subjects": (experiment.formulas, experiment.trials),
        "400 trials": (
            ["v ~ 1", "z = 0.5"],
            hs.simulate("ddm", DDM, 400, seed=1),
        ),
    }
    for name, (formulas, trials) in tables.items():
        exact = hs.HierarchicalModel(formulas, trials, likelihood="exact").fit(**FIT)["posterior"]
        for factor in FACTORS:
            model = hs.HierarchicalModel(formulas, trials, likelihood=Planted(factor=factor))
            found = certified(f"drifts times {factor}, {name}", model, model.fit(**FIT), draws=4_000)
            row = found.shifts.loc["v_Intercept"]
            true = (float(exact["v_Intercept"].mean()) - row["mean"]) / row["sd"]
            print(
                f"    v_Intercept: {row['shift']:+.2f} +- {row['error']:.2f}, by a fit with the closed form {true:+.2f}"
            )


def by_equation() -> None:
    """A model without a closed form: four subjects of 100 trials."""
    trials = hs.simulate("weibull", WEIBULL, 400, seed=1)
    trials["subject"] = [f"s{i // 100}" for i in range(400)]
    model = hs.HierarchicalModel(["v ~ 1 + (1|subject)", "z = 0.5"], trials, simulator="weibull")
    began = time.perf_counter()
    posterior = model.fit(**FIT)
    took = time.perf_counter() - began
    certified(f"weibull, 4 subjects, 400 trials, fit in {took:.0f} s", model, posterior)


def errors() -> None:
    """Shifts where drifts are off by 5 % and by nothing, beside the true ones: how often stated errors cover these."""
    for factor in (1.05, 1.0):
        found = pd.concat([_errors(factor, seed) for seed in range(TABLES)])
        for reference, rows in found.groupby("reference"):
            off = rows["shift"] - rows["true"]
            z = off / np.hypot(rows["error"], rows["error_of_true"])
            print(
                f"drifts times {factor}, by {reference}: {len(rows)} shifts of {TABLES} tables, true ones up to "
                f"{rows['true'].abs().max():.2f}, median stated error {rows['error'].median():.3f}; off / error: root "
                f"mean square {(z**2).mean() ** 0.5:.2f}, mean {z.mean():+.2f}, {(z.abs() < 1).mean():.0%} within 1, "
                f"{(z.abs() < 2).mean():.0%} within 2, largest {z.abs().max():.1f}",
                flush=True,
            )


def _errors(factor: float, seed: int) -> pd.DataFrame:
    """Shifts of one table by the closed form and by simulations, from one chain; true ones from the other three."""
    learned = Planted(factor=factor, inner=hs.load_likelihood("ddm"))
    trials = hs.simulate("ddm", DDM, 200, seed=seed)
    model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], trials, likelihood=learned)
    posterior = model.fit(draws=1_000, tune=500, chains=4, seed=seed, progress=False)["posterior"]
    true = hs.certify(model, posterior.sel(chain=[0, 1, 2]), 3_000).shifts
    told = [hs.certify(model, posterior.sel(chain=[3]), 500)]
    with patch.object(hs.HierarchicalModel, "reference", None):
        told.append(hs.certify(model, posterior.sel(chain=[3]), 250, n_simulations=SIMULATIONS, seed=seed))
    more = {"true": true["shift"], "error_of_true": true["error"]}
    return pd.concat([each.shifts.assign(reference=each.reference, **more) for each in told])


def leaky() -> None:
    """Leaky accumulators of three and four choices, which only their simulators judge: 200 trials of one person."""
    for n in (3, 4):
        drifts = {f"v{i}": 3.0 - i for i in range(n)}
        trials = hs.simulate(f"lca{n}", {**drifts, **LEAKY}, 200, seed=1)
        held = [f"{name} = {LEAKY[name]}" for name in ("z", "t0", "g", "b")]
        model = hs.HierarchicalModel([f"{name} ~ 1" for name in drifts] + held, trials, f"lca{n}")
        began = time.process_time()
        posterior = model.fit(**FIT)
        fitted, began = time.process_time() - began, time.process_time()
        certified(f"lca{n}, 200 trials, fit in {fitted:.0f} CPU s", model, posterior)
        print(f"    {time.process_time() - began:.0f} CPU s")


def by_simulations() -> None:
    """Processor seconds of a certificate by simulations: the ddm, 200 trials, 100 000 simulations."""
    model = hs.HierarchicalModel(["v ~ 1", "z = 0.5"], hs.simulate("ddm", DDM, 200, seed=1))
    posterior = model.fit(**FIT)
    with patch.object(hs.HierarchicalModel, "reference", None):
        began = time.process_time()
        certified("ddm, 200 trials", model, posterior, n_simulations=SIMULATIONS)
    print(f"    {time.process_time() - began:.1f} CPU s")


PARTS = {part.__name__: part for part in (honest, planted, by_equation, errors, leaky, by_simulations)}


def main() -> None:
    """The first three parts, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["honest", "planted", "by_equation"], help=f"of {', '.join(PARTS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        for name in parser.parse_args().parts:
            print(f"-- {PARTS[name].__doc__}")
            PARTS[name]()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

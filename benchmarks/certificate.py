"""Certificates: what weights of a learned likelihood are like, by size of the table, and planted errors; 5 minutes."""

import time
import warnings

import torch

import hddm_sbi as hs
from hddm_sbi.likelihoods.exact import ExactLikelihood

FIT = {"draws": 1_000, "tune": 500, "chains": 4, "seed": 1, "progress": False}
SUBJECTS = (20, 60)
FACTORS = (1.02, 1.05)
#: of a model without a closed form.
WEIBULL = {"v": 1.5, "a": 1.3, "z": 0.5, "t0": 0.3, "alpha": 2.0, "beta": 1.5}


class Planted(ExactLikelihood):
    """The closed form of the ddm with drifts multiplied."""

    kind = "planted"

    def __init__(self, factor: float) -> None:
        super().__init__(hs.load_simulator("ddm"))
        self.factors = torch.tensor([factor, 1.0, 1.0, 1.0]).double()

    def complete_by_cell(self, trials, theta, lapse):
        return super().complete_by_cell(trials, theta * self.factors, lapse)


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
            hs.simulate("ddm", {"v": 1.2, "a": 1.0, "z": 0.5, "t0": 0.3}, 400, seed=1),
        ),
    }
    for name, (formulas, trials) in tables.items():
        exact = hs.HierarchicalModel(formulas, trials, likelihood="exact").fit(**FIT)["posterior"]
        for factor in FACTORS:
            model = hs.HierarchicalModel(formulas, trials, likelihood=Planted(factor))
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


def main() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", hs.ConvergenceWarning)
        for part in (honest, planted, by_equation):
            print(f"-- {part.__doc__}")
            part()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

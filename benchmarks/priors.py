"""Default priors of every model (of races, those of two choices), and its sets from the literature, as tables."""

import pandas as pd
import torch
from scipy import stats

import hddm_sbi as hs
from hddm_sbi.hierarchy.priors.choice import PriorRecord, parameter_priors, to_pyro
from hddm_sbi.hierarchy.terms.link import from_link


def main() -> None:
    for name in hs.models().index:
        simulator = hs.load_simulator(name)
        if len(simulator.choices) > 2:
            continue
        for chosen in (None, *simulator.literature_priors):
            table = default_priors(simulator, chosen).reset_index()
            print(f"\n`{name}`, {'defaults' if chosen is None else f'priors={chosen!r}'}\n")
            print("| " + " | ".join(table.columns) + " |")
            print("|" + "---|" * len(table.columns))
            for row in table.itertuples(index=False):
                print("| " + " | ".join(map(str, row)) + " |")


def default_priors(simulator: hs.Simulator, priors: str | None) -> pd.DataFrame:
    """Default priors of a model on the scale of each parameter's link, one row per parameter.

    Columns: link, intercept, where 95 % of the parameter lie a priori (on its own scale), slope (per standard deviation
    of a numeric predictor), group_sd, and how groups spread around their mean.
    """
    rows = {}
    for name, p in parameter_priors(simulator, priors).items():
        low, high = (from_link(torch.tensor(q), p.link).item() for q in _central_95(p.intercept))
        rows[name] = {
            "link": p.link,
            "intercept": str(PriorRecord.of(to_pyro(p.intercept))),
            "95 % of the parameter": f"{low:.2f} to {high:.2f}",
            "slope": str(PriorRecord.of(to_pyro(p.slope))),
            "group_sd": str(PriorRecord.of(to_pyro(p.group_sd))),
            "groups are": p.population,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")


def _central_95(prior: hs.Prior) -> tuple[float, float]:
    if prior.family == "gamma":
        shape = (prior.location / prior.scale) ** 2
        return tuple(stats.gamma.ppf([0.025, 0.975], shape, scale=prior.location / shape))
    return tuple(stats.norm.ppf([0.025, 0.975], prior.location, prior.scale))


if __name__ == "__main__":
    main()

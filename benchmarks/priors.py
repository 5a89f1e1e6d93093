"""Default priors of every model (of races, those of two choices), and its sets from the literature, as tables."""

import hddm_sbi as hs
from hddm_sbi.hierarchy.priors import prior_table
from hddm_sbi.likelihoods import catalogue


def main() -> None:
    for name in catalogue.names():
        simulator = hs.load_simulator(name)
        if len(simulator.choices) > 2:
            continue
        for chosen in (None, *simulator.literature_priors):
            table = prior_table(simulator, chosen).reset_index()
            print(f"\n`{name}`, {'defaults' if chosen is None else f'priors={chosen!r}'}\n")
            print("| " + " | ".join(table.columns) + " |")
            print("|" + "---|" * len(table.columns))
            for row in table.itertuples(index=False):
                print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()

"""Every model: trials per second over its box on one thread, and the scores on its card."""

import time

import numpy as np

import hddm_sbi as hs

N = 200_000


def main() -> None:
    table = hs.models()
    for name in hs.models().index:
        simulator = hs.load_simulator(name)
        rng = np.random.default_rng(1)
        theta = np.column_stack(
            [rng.choice(p.codes, N) if p.from_data else rng.uniform(p.low, p.high, N) for p in simulator.parameters]
        )
        simulator.simulate(theta[:10], 1)
        began = time.perf_counter()
        simulator.simulate(theta, 1)
        table.loc[name, "trials/s"] = N / (time.perf_counter() - began)
    shown = ["choices", "exact", "pretrained", "KL", "mean_abs_error", "posterior_bias", "trials/s"]
    print(table[shown].to_string(float_format="{:.2g}".format, na_rep="-"))


if __name__ == "__main__":
    main()

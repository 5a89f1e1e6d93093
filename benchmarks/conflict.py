"""The model of conflict tasks at published parameters: errors and their times."""

import numpy as np
import pandas as pd

import hddm_sbi as hs

N = 400_000
#: Ulrich et al. (2015), flanker task, in our units; the mean and sd of the non-decision time are .325 and .028 s.
MEAN, SD = 0.325, 0.028
PUBLISHED = {"v": 4.69, "a": 0.441, "amp": 0.153, "tau": 0.099, "shape": 2.26, "alpha": 2.84}
OBSERVED = {"congruent": (0.024, 370), "incongruent": (0.088, 366)}
CODES = {"congruent": 1.0, "neutral": 0.0, "incongruent": -1.0}


def main() -> None:
    width = SD * np.sqrt(12.0)
    rows = []
    for name, code in CODES.items():
        theta = PUBLISHED | {"t0": MEAN - width / 2, "st0": width, "congruency": code}
        trials = hs.simulate("dmc", theta, N, seed=1)
        error = trials["response"] == -1
        observed = OBSERVED.get(name, (np.nan, np.nan))
        rows.append(
            {
                "trials": name,
                "errors": error.mean(),
                "error rt (ms)": 1000 * trials["rt"][error].mean(),
                "correct rt (ms)": 1000 * trials["rt"][~error].mean(),
                "errors observed": observed[0],
                "error rt observed": observed[1],
            }
        )
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()

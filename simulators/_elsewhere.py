"""What other packages call the parameters that models share, as formulas of ours.

Where a name is a vector there, its elements are written as that package counts them: `mean_v[1]`, `v0`.
"""

from collections.abc import Mapping

from hddm_sbi.simulation import Counterpart

#: the Wiener process between two constant bounds, by package. Ratcliff: his papers and programs, with noise s = 0.1.
_WIENER = {
    "HSSM": {"v": "v", "a": "a", "z": "z", "t": "t0"},
    "ssm-simulators": {"v": "v", "a": "a", "z": "z", "t": "t0"},
    "HDDM": {"v": "v", "a": "2*a", "z": "z", "t": "t0"},
    "rtdists": {"v": "v", "a": "2*a", "z": "2*a*z", "t0": "t0"},
    "fast-dm": {"v": "v", "a": "2*a", "zr": "z", "t0": "t0"},
    "Ratcliff": {"v": "v/10", "a": "a/5", "z": "a*z/5", "Ter": "t0"},
    "EMC2": {"v": "v", "a": "2*a", "Z": "z", "t0": "t0"},
    "PyDDM": {"drift": "v", "B": "a", "x0": "2*z - 1", "nondectime": "t0"},
    "SSM.jl": {"ν": "v", "α": "2*a", "z": "z", "τ": "t0"},
    "Stan": {"delta": "v", "alpha": "2*a", "beta": "z", "tau": "t0"},
}


def diffusions(models: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, Counterpart]:
    """Counterparts of a diffusion: package -> its name of the model, and what differs from the Wiener process."""
    return {package: Counterpart(name, {**_WIENER[package], **more}) for package, (name, more) in models.items()}


def each(name: str, ours: str, n: int, first: int = 1) -> dict[str, str]:
    """The parameter that every one of n choices has: its name there says {}, and so do our stems."""
    return {name.format(choice + first): ours.format(choice, choice) for choice in range(n)}


def shared(n: int, *stems: str) -> dict[str, str]:
    """Parameters that n choices have one of there: those of the others are that of the first."""
    return {f"{stem}{choice}": f"{stem}0" for stem in stems for choice in range(1, n)}

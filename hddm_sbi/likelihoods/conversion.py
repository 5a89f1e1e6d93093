"""Parameters of a model in the convention of another package, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hddm_sbi.errors import InputError, did_you_mean
from hddm_sbi.likelihoods.catalogue import load_simulator, names

if TYPE_CHECKING:
    import pandas as pd


def convert(
    parameters: Mapping[str, Any] | pd.DataFrame,
    model: str = "ddm",
    *,
    source: str | None = None,
    target: str | None = None,
) -> Any:
    """Parameters from the convention of another package, or into it.

    The page of models lists what every package calls the parameters of a model, as formulas of the names here.

    Parameters
    ----------
    parameters
        Name -> a number, or an array or a column (n,); or a table with a column for each parameter.
    model
        Name of the model here; `hs.models()` lists them.
    source
        The package whose parameters they are, "HDDM", "rtdists" or "EMC2" for instance; by default they are ours.
    target
        The package whose parameters are wanted; by default ours.

    Returns
    -------
    dict or DataFrame
        The parameters there; a table where a table was given. A condition such as `congruency` is passed on.

    Raises
    ------
    InputError
        Where a package does not have the model, where a parameter is unknown, missing or no number, or where they are
        the parameters of a law that the other model does not have.

    Examples
    --------
    >>> convert({"v": 0.5, "a": 1.4, "z": 0.5, "t": 0.3}, source="HDDM")
    {'v': 0.5, 'a': 0.7, 'z': 0.5, 't0': 0.3}
    >>> convert({"v": 0.5, "a": 0.7, "z": 0.5, "t0": 0.3}, target="rtdists")
    {'v': 0.5, 'a': 1.4, 'z': 0.7, 't0': 0.3}
    """
    import pandas as pd

    if source is None and target is None:
        raise InputError(f"say whose parameters they are, source=, or become, target=: {', '.join(packages())}.")
    values = {str(name): _numbers(str(name), value) for name, value in parameters.items()}
    if source is not None:
        values = _ours(model, source, values)
    if target is not None:
        values = _theirs(model, target, values)
    return pd.DataFrame(values) if isinstance(parameters, pd.DataFrame) else values


def packages() -> tuple[str, ...]:
    """The packages that share a model with this one.

    >>> packages()[:3]
    ('DMCfun', 'dRiftDM', 'EMC2')
    """
    found = {package for name in names() for package in load_simulator(name).counterparts}
    return tuple(sorted(found, key=str.lower))


def _ours(model: str, source: str, values: dict[str, Any]) -> dict[str, Any]:
    """Parameters of a package as ours, in our order."""
    there, passed = _counterpart(model, source)
    _check_names(values, there.parameters, passed, f"{there.model!r} of {source}")
    found = there.back(values) | {name: values[name] for name in passed & values.keys()}
    return {name: found[name] for name in load_simulator(model).names if name in found}


def _theirs(model: str, target: str, values: dict[str, Any]) -> dict[str, Any]:
    """Parameters of ours as those of a package."""
    there, passed = _counterpart(model, target)
    values = load_simulator(model).spelled_out(values)
    expected = [name for name in load_simulator(model).names if name not in passed]
    _check_names(values, expected, passed, f"{model!r} here")
    return there.to(values) | {name: values[name] for name in passed & values.keys()}


def _counterpart(model: str, package: str) -> tuple[Any, set[str]]:
    """The model in a package, and the conditions that it has as columns of the table, as we have."""
    simulator = load_simulator(model)
    known = simulator.counterparts
    if package not in known:
        if package in packages():
            others = f"these have: {', '.join(known)}" if known else "no package has"
            raise InputError(f"{package} has no counterpart of {model!r} that is known here; {others}.")
        raise InputError(
            f"no package {package!r} is known here{did_you_mean(str(package), packages())} Packages: "
            f"{', '.join(packages())}."
        )
    there = known[package]
    return there, {p.name for p in simulator.parameters if p.from_data} - there.ours


def _check_names(given: Collection[str], expected: Collection[str], passed: set[str], whose: str) -> None:
    """Refuse parameters that are unknown, or missing."""
    listed = f"{whose} has the parameters {', '.join(expected)}."
    for name in given:
        if name not in {*expected, *passed}:
            raise InputError(f"unknown parameter {name!r}{did_you_mean(name, [*expected, *passed])} {listed}")
    missing = [name for name in expected if name not in given]
    if missing:
        raise InputError(f"the parameters lack {', '.join(missing)}; {listed}")


def _numbers(name: str, value: Any) -> Any:
    """A number, an array, or a column of a table as it is."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if not np.isfinite(numbers).all():
        raise InputError(f"{name} must be a finite number, or an array of them; got {value!r}.")
    if numbers.ndim == 0:
        return float(numbers)
    return value.astype(np.float64) if hasattr(value, "index") and hasattr(value, "astype") else numbers

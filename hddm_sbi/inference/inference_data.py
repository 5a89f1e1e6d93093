"""ArviZ's posterior object from arrays; the one module that knows how ArviZ 0.x and 1.x differ."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from hddm_sbi.errors import InputError

#: ends of the central 94 %, ArviZ's default.
CENTRAL = (0.03, 0.97)
Groups = Mapping[str, Mapping[str, NDArray[Any]]]


@cache
def _arviz() -> Any:
    """ArviZ: it takes as long to import as all else together, and only a finished fit needs it."""
    with warnings.catch_warnings():
        # ArviZ 0.23 announces 1.0 on import; that is not news for a person who fits a model.
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def build(
    groups: Groups,
    coords: Mapping[str, Sequence[Any] | ArrayLike],
    dims: Mapping[str, Mapping[str, Sequence[str]]],
    attrs: Mapping[str, Any],
) -> Any:
    """InferenceData (ArviZ 0.x) or DataTree (1.x) with these groups; attrs also go to the posterior, or prior.

    groups: group name -> variable name -> array, of a posterior or a prior; all but observed_data and constant_data are
    (chain, draw, ...).
    dims: of every group, variable name -> its other dimensions; columns of a table may be called as coefficients are.
    """
    content = {name: _group(name, variables, coords, dims.get(name, {})) for name, variables in groups.items()}
    content["posterior" if "posterior" in content else "prior"].attrs.update(attrs)
    return _together(content, attrs)


def _group(
    group: str,
    variables: Mapping[str, NDArray[Any]],
    coords: Mapping[str, Sequence[Any] | ArrayLike],
    dims: Mapping[str, Sequence[str]],
) -> xr.Dataset:
    """One group; a dimension without a name is called after its variable, one without labels is numbered."""
    first = () if group in ("observed_data", "constant_data") else ("chain", "draw")
    arrays = {}
    for name, array in variables.items():
        named = [*first, *dims.get(name, ())]
        arrays[name] = ([*named, *(f"{name}_dim_{i}" for i in range(np.ndim(array) - len(named)))], np.asarray(array))
    sizes = {dim: size for of, array in arrays.values() for dim, size in zip(of, array.shape, strict=True)}
    made = {"created_at": datetime.now(UTC).isoformat(), "arviz_version": _arviz().__version__}
    return xr.Dataset(arrays, {dim: coords.get(dim, np.arange(size)) for dim, size in sizes.items()}, made)


def _together(content: Mapping[str, xr.Dataset], attrs: Mapping[Any, Any]) -> Any:
    if int(_arviz().__version__.split(".")[0]) >= 1:
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **content})
    combined: Any = _arviz().InferenceData
    return combined(**content, attrs=dict(attrs))


def dataset(idata: Any, group: str = "posterior") -> xr.Dataset:
    """One group as an xarray Dataset; a Dataset is its own."""
    content = idata if isinstance(idata, xr.Dataset) else idata[group]
    return content if isinstance(content, xr.Dataset) else content.to_dataset()


def groups(idata: Any) -> tuple[str, ...]:
    """Names of the groups; a Dataset is a posterior."""
    if isinstance(idata, xr.Dataset):
        return ("posterior",)
    return tuple(idata.children) if isinstance(idata, xr.DataTree) else tuple(idata.groups())


def draws(idata: Any, positions: NDArray[np.int64] | None = None) -> xr.Dataset:
    """Posterior draws of all chains end to end, along a first dimension `sample`; positions: some of them."""
    flat = dataset(idata).stack(sample=("chain", "draw")).transpose("sample", ...)
    return flat if positions is None else flat.isel(sample=positions)


def evenly_spaced(total: int, n: int) -> NDArray[np.int64]:
    """n positions among `total` draws, from the first to the last."""
    return np.linspace(0, total - 1, n).astype(int)


def with_groups(idata: Any, new: Mapping[str, xr.Dataset], kept: Sequence[str] | None = None) -> Any:
    """A copy with these groups, new or instead of those of the same name; arrays are shared. kept: of the others."""
    others = [name for name in groups(idata) if kept is None or name in kept]
    return _together({name: dataset(idata, name) for name in others} | dict(new), idata.attrs)


def table_group(
    group: str, variables: Mapping[str, NDArray[Any]], trial: str, coords: Mapping[str, Sequence[Any] | ArrayLike]
) -> xr.Dataset:
    """A group of variables whose last dimension is that of trials."""
    return _group(group, variables, coords, {name: [trial] for name in variables})


def add_group(idata: Any, group: str, variables: Mapping[str, NDArray[Any]], dims: Sequence[str]) -> Any:
    """The same with a group of (chain, draw, *dims) variables, new or instead of the one of that name."""
    posterior = dataset(idata)
    coords = {"chain": posterior["chain"].to_numpy(), "draw": posterior["draw"].to_numpy()}
    extra = xr.Dataset({name: (("chain", "draw", *dims), array) for name, array in variables.items()}, coords)
    return with_groups(idata, {group: extra})


def content(idata: Any) -> bytes:
    """The netCDF file of it, made in memory: the library crashes where it cannot write the end of a file on disk."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.attrs.update(idata.attrs)
        for name in groups(idata):
            group = dataset(idata, name)
            compressed = {variable: {"zlib": True} for variable, x in group.data_vars.items() if x.dtype.kind in "iuf"}
            group.dump_to_store(xr.backends.H5NetCDFStore(file, group=name, mode="a"), encoding=compressed)
    return buffer.getvalue()


def write(idata: Any, path: Path) -> None:
    """Write it as netCDF: a whole file or, where that fails with OSError, none."""
    write_whole(content(idata), path)


def write_whole(written: bytes, path: Path) -> None:
    """Replace a file by this content at once, or raise OSError and leave it as it was."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path) -> Any:
    """What was written, in memory, and the file closed. Raises InputError where it cannot be read."""
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}; expected a fit, as posterior.to_netcdf writes it.")
    try:
        # h5netcdf complains once more, at its end, of a file that h5py could not open.
        h5py.File(path).close()
        data = _arviz().from_netcdf(str(path))
        data.load()
        data.close()
    except Exception as reason:
        first_line = str(reason).strip().partition("\n")[0]
        raise InputError(
            f"{str(path)!r} cannot be read as a fit ({first_line or type(reason).__name__}); it is damaged, or no "
            "netCDF file: copy it again, or fit again."
        ) from reason
    if "posterior" not in groups(data):
        raise InputError(f"{str(path)!r} holds no posterior; expected a fit, as posterior.to_netcdf writes it.")
    return data


def summary(idata: Any, names: Sequence[str]) -> pd.DataFrame:
    """ArviZ's summary of some variables."""
    with _constants_allowed():
        table: Any = _arviz().summary(idata, var_names=list(names))
    return pd.DataFrame(table)


def loo(idata: Any) -> Any:
    """ArviZ's PSIS-LOO of a posterior with a pointwise log likelihood: its numbers, and Pareto k of each of them."""
    with warnings.catch_warnings():
        # That some k are high is for the caller to say, who knows what they are of.
        warnings.simplefilter("ignore", UserWarning)
        return _arviz().loo(idata, pointwise=True)


def with_exact(found: Any, exact: Mapping[int, float]) -> Any:
    """What `loo` found, with log densities that are known without weights in the place of some; their k is then 0."""
    if not exact:
        return found
    # ArviZ 1.x calls what is expected `elpd`, and 0.x after how it is found.
    new, old = copy(found), "elpd_loo" in dir(found)
    each = found.loo_i if old else found.elpd_i
    values, k = each.to_numpy().reshape(-1).copy(), np.asarray(found.pareto_k).reshape(-1).copy()
    before = values.sum()
    values[list(exact)], k[list(exact)] = list(exact.values()), 0.0
    new.pareto_k, new.se = (
        found.pareto_k.copy(data=k.reshape(found.pareto_k.shape)),
        (len(values) * values.var()) ** 0.5,
    )
    if old:
        new.loo_i, new.elpd_loo, new.p_loo = each.copy(data=values), values.sum(), found.p_loo + before - values.sum()
    else:
        new.elpd_i, new.elpd, new.p = each.copy(data=values), values.sum(), found.p + before - values.sum()
    return new


def compare(found: Mapping[str, Any]) -> pd.DataFrame:
    """ArviZ's comparison of what `loo` found, by name."""
    with warnings.catch_warnings():
        # ArviZ 0.23 sorts tables in a way that pandas 3.1 will not allow for ever.
        warnings.filterwarnings("ignore", "The inplace keyword", DeprecationWarning)
        table: Any = _arviz().compare(dict(found))
    return pd.DataFrame(table)


def _constants_allowed() -> np.errstate:
    """The diagonal of a correlation matrix is constant, so its diagnostics are 0 / 0; they come out as nan, unsaid."""
    return np.errstate(invalid="ignore", divide="ignore")


def worst_rhat(posterior: xr.Dataset) -> tuple[str, float]:
    """Name and value of the largest Rhat; ("", nan) for a single chain or too few draws."""
    with _constants_allowed():
        return _extreme(_arviz().rhat(posterior), np.nanargmax)


def worst_ess(posterior: xr.Dataset) -> tuple[str, float]:
    """Name and value of the smallest effective sample size, bulk or tail."""
    with _constants_allowed():
        pairs = [_extreme(_arviz().ess(posterior, method=method), np.nanargmin) for method in ("bulk", "tail")]
    return min(pairs, key=lambda pair: pair[1])


def effective_draws(x: NDArray[np.float64]) -> float:
    """Effective number of draws (chains, draws) for their mean."""
    # Where all are alike, their mean is known.
    return float(x.size) if np.ptp(x) == 0.0 else float(_arviz().ess(x, method="mean"))


def standard_errors(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Monte Carlo standard errors of the means of columns (n, q) of successive draws, (q,); nan of a constant."""
    with _constants_allowed():
        found = _arviz().mcse(xr.Dataset({"x": (("chain", "draw", "column"), x[None])}), method="mean")
    return np.asarray(found["x"], dtype=np.float64)


def _extreme(values: xr.Dataset, where: Any) -> tuple[str, float]:
    named = {
        f"{name}{_position(array, index)}": float(array.to_numpy()[index])
        for name, array in values.data_vars.items()
        for index in np.ndindex(array.shape)
        if np.isfinite(array.to_numpy()[index])
    }
    if not named:
        return "", float("nan")
    names, numbers = list(named), np.array(list(named.values()))
    best = int(where(numbers))
    return names[best], float(numbers[best])


def _position(array: xr.DataArray, index: tuple[int, ...]) -> str:
    labels = [str(array[dim].to_numpy()[i]) for dim, i in zip(array.dims, index, strict=True)]
    return f"[{', '.join(labels)}]" if labels else ""

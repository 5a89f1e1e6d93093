"""Whether a posterior belongs to a model: to its likelihood of its trials, or to all of it, priors and table too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import xarray as xr

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.fits.posterior import PosteriorWriter, table_of
from hddm_sbi.hierarchy.fits.record import FitRecord
from hddm_sbi.hierarchy.model import HierarchicalModel
from hddm_sbi.hierarchy.priors.choice import PriorRecord

#: letters of a fact that differs.
_SHOWN = 80


@dataclass(frozen=True)
class Promise:
    """What a model has in common with the one that made a posterior.

    but: facts that may differ; see `FitRecord`. table: whether the posterior must have its table, or may be draws only.
    """

    but: tuple[str, ...] = ("likelihood_path",)
    table: bool = True


#: the draws are those of this model's density.
SAME_MODEL = Promise()
#: at every draw, the likelihood of the trials is this model's; names of columns and levels say nothing of that.
SAME_LIKELIHOOD = Promise((*SAME_MODEL.but, "priors", "prior_set", "outcome_columns", "columns", "levels"), table=False)


def check_fit_of(
    model: HierarchicalModel, posterior: Any, promise: Promise = SAME_MODEL
) -> tuple[FitRecord, xr.Dataset]:
    """The record of a posterior, and its draws by the model's own labels.

    Raises InputError where the two have less in common than what is promised.
    """
    check_model(model)
    known = model.matched(posterior)
    record = FitRecord.read(known.attrs)
    # Of another table, default priors are others as well.
    for name in _columns_that_differ(model, posterior, promise):
        raise InputError(
            f"the posterior is not that of the trials of this model: column {name!r} of the table that was "
            "fitted differs. hs.load_model(posterior) is the model that was fitted; or fit this one."
        )
    for name, ours, theirs in differences(model, record, promise):
        raise InputError(
            f"the posterior is of another model: its {name} is {theirs}, and that of this model {ours}. "
            "hs.load_model(posterior) is the model that was fitted."
        )
    return record, known


def check_model(model: object) -> None:
    """Raises InputError for what is no model, such as a posterior in its place."""
    if not isinstance(model, HierarchicalModel):
        raise InputError(
            f"model must be a HierarchicalModel; got {type(model).__name__}. The model comes first, then the "
            "posterior; hs.load_model(posterior) makes the model of a fit again."
        )


def differences(
    model: HierarchicalModel, record: FitRecord, promise: Promise = SAME_MODEL
) -> Iterator[tuple[str, str, str]]:
    """What a model is otherwise than a record says: its name, and how it is here and there, in short."""
    other = record.with_facts(model.facts)
    ours, theirs = other.attributes(), record.attributes()
    for name in ours | theirs:
        if name in promise.but or ours.get(name) == theirs.get(name):
            continue
        here, there = getattr(other, name), getattr(record, name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            for key in (key for key in {**here, **there} if repr(here.get(key)) != repr(there.get(key))):
                one, two = (str(x.get(key, "none"))[:_SHOWN] for x in (here, there))
                yield f"{name.replace('_', ' ')}[{key!r}]", one, two
        both = ((ours, here), (theirs, there))
        one, two = (str(x if isinstance(x, PriorRecord) else said.get(name, x))[:_SHOWN] for said, x in both)
        yield name.replace("_", " "), one, two


def _columns_that_differ(model: HierarchicalModel, posterior: Any, promise: Promise) -> Iterator[str]:
    """Columns of the model's table that are others in that of a posterior, or that it lacks."""
    for group, columns in PosteriorWriter(model.uncentred, model.trials).data().items():
        table = table_of(posterior, group)
        if table is None and not promise.table:
            continue
        there = {} if table is None else {str(name): x.to_numpy() for name, x in table.data_vars.items()}
        for name, column in columns.items():
            if name not in there or not xr.Variable("trial", column).equals(xr.Variable("trial", there[name])):
                yield name

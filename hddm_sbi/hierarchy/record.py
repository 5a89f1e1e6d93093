"""What made a posterior, as plain data: enough to build its model again, and what its attributes carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.priors import PriorRecord
from hddm_sbi.inference.sampling import SAMPLERS, find_sampler
from hddm_sbi.likelihoods.card import versions_of

#: draws, tuning steps and chains of a first look.
_QUICK = 300, 200, 2
_VERSIONS = ("hddm_sbi", "torch", "pyro-ppl", "nutpie", "numba", "arviz")


@dataclass(frozen=True)
class Sampling:
    """How a posterior is sampled; arguments as in `HierarchicalModel.fit`, which refuses any other."""

    draws: int
    tune: int
    chains: int
    seed: int
    method: str
    quick: bool

    @classmethod
    def checked(cls, draws: int, tune: int, chains: int, seed: int | None, method: str, quick: bool) -> Sampling:
        """Arguments as a caller gives them: a seed by chance where there is none, fewer steps where it is quick."""
        if not isinstance(quick, bool):
            raise InputError(f"quick must be True or False; got {quick!r}.")
        for name, value in (("draws", draws), ("tune", tune), ("chains", chains)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name} must be a whole number of at least 1; got {value!r}.")
        find_sampler(method)
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer)):
            raise InputError(f"seed must be a whole number or None; got {seed!r}.")
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
        if quick:
            draws, tune, chains = _QUICK
        return cls(int(draws), int(tune), int(chains), seed, method, quick)


@dataclass(frozen=True)
class FitRecord:
    """What made a posterior: the model, as its constructor takes it, and how it was sampled.

    model, declaration: name of the simulator; of one of the user's own also its declaration, without its function.
    formulas: right-hand side, or fixed number, by parameter. likelihood: its kind; likelihood_path: of its file, where
    the model was given one; weights_sha256: of its weights. prior_set: name of a set from the literature, or "".
    priors: of every coefficient. links: by parameter. lapse: probability, or its prior; lapse_seconds: they are uniform
    over these. outcome_columns: names of the outcomes in the table. upper: the response at the upper bound, where it
    was said. levels: of every column that is not a number, in order. centred: by group term.
    draws, tune, chains, seed, method, quick: as `fit` takes them. density: how it ran. stopped: why sampling ended
    early, or ""; interrupted: whether it did. versions: of the libraries in use.
    """

    model: str
    declaration: Mapping[str, Any]
    formulas: Mapping[str, str | float]
    likelihood: str
    likelihood_path: str
    weights_sha256: str
    prior_set: str
    priors: Mapping[str, PriorRecord]
    links: Mapping[str, str]
    lapse: float | PriorRecord
    lapse_seconds: float
    outcome_columns: tuple[str, ...]
    upper: str
    levels: Mapping[str, tuple[str, ...]]
    centred: Mapping[str, bool]
    draws: int
    tune: int
    chains: int
    seed: int
    method: str
    quick: bool
    density: str
    stopped: str
    interrupted: bool
    sampling_seconds: float
    versions: Mapping[str, str] = field(default_factory=lambda: versions_of(*_VERSIONS))

    @property
    def approximate(self) -> bool:
        """Whether the draws come from an approximation of the posterior."""
        return not SAMPLERS[self.method].exact

    def attributes(self) -> dict[str, str | int | float]:
        """As attributes of a posterior: numbers and text as they are, all else as JSON."""
        return {f.name: _as_attribute(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> FitRecord:
        """The record in the attributes of a posterior, be it as `fit` returned it or read from a file.

        Raises InputError where the attributes lack a part of it.
        """
        missing = [f.name for f in fields(cls) if f.name not in attrs]
        if missing:
            raise InputError(f"the posterior does not say what made it: its attributes lack {', '.join(missing)}.")
        return cls(**{f.name: _READERS.get(str(f.type), json.loads)(attrs[f.name]) for f in fields(cls)})


def _as_attribute(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else json.dumps(value, default=vars)


def _prior(raw: Any) -> PriorRecord:
    return PriorRecord(**(json.loads(raw) if isinstance(raw, str) else raw))


#: type of an entry of the record, as it is written there -> what reads it from an attribute; JSON where there is none.
_READERS: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": float,
    "float | PriorRecord": lambda raw: _prior(raw) if isinstance(raw, str) else float(raw),
    "tuple[str, ...]": lambda raw: tuple(json.loads(raw)),
    "Mapping[str, PriorRecord]": lambda raw: {name: _prior(prior) for name, prior in json.loads(raw).items()},
    "Mapping[str, tuple[str, ...]]": lambda raw: {name: tuple(levels) for name, levels in json.loads(raw).items()},
}

"""What made a posterior, as plain data: enough to build its model again, and what its attributes carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from hddm_sbi.errors import InputError, whole_number
from hddm_sbi.hierarchy.priors.choice import PriorRecord
from hddm_sbi.inference import SAMPLERS, find_sampler
from hddm_sbi.likelihoods import versions_of

#: draws, tuning steps and chains of a first look.
_QUICK = 300, 200, 2
#: draws of each chain, where neither draws nor ess is given: those that are looked at first, and the most of them.
_LEAST, _MOST = 1_000, 3_000
#: the most draws of each chain, where only ess is given.
_MOST_FOR_ESS = 10_000
#: of the record; a file says the format that it has.
FORMAT = 3
#: entries that only some records have, and what they are elsewhere.
_OPTIONAL: dict[str, Any] = {"stimulus": "", "missing": {}, "sequences": {}, "lapse_mean": 0.0, "lapse_choices": ()}
#: how a posterior was sampled, of which older records say nothing.
_LATER = ("target_accept", "least_draws")
_VERSIONS = ("hddm_sbi", "torch", "pyro-ppl", "nutpie", "numba", "arviz")


def versions() -> dict[str, str]:
    """Of the libraries that decide numbers."""
    return versions_of(*_VERSIONS)


@dataclass(frozen=True)
class Sampling:
    """How a posterior is sampled; arguments as in `HierarchicalModel.fit`, which refuses any other.

    least_draws: draws of each chain when Rhat is first looked at, where it decides how many of `draws` are taken; or 0.
    """

    draws: int
    tune: int
    chains: int
    seed: int
    method: str
    quick: bool
    ess: int = 0
    minutes: float = 0.0
    target_accept: float = 0.0
    least_draws: int = 0

    @classmethod
    def checked(
        cls,
        draws: int | None,
        tune: int,
        chains: int,
        seed: int | None,
        method: str,
        quick: bool,
        ess: int | None = None,
        minutes: float | None = None,
        target_accept: float | None = None,
    ) -> Sampling:
        """Arguments as a caller gives them: a seed by chance where there is none, fewer steps where it is quick.

        The record has 0 for an `ess`, `minutes` or `target_accept` that is not asked for.
        """
        if not isinstance(quick, bool | np.bool_):
            raise InputError(f"quick must be True or False; got {quick!r}.")
        counts = {"draws": draws, "tune": tune, "chains": chains, "ess": ess}
        for name, value in counts.items():
            if value is not None or name not in ("draws", "ess"):
                whole_number(name, value)
        number = isinstance(minutes, int | float | np.number) and not isinstance(minutes, bool)
        if minutes is not None and not (number and 0 < minutes < np.inf):
            raise InputError(f"minutes must be a positive number or None; got {minutes!r}.")
        if not find_sampler(method).open_ended and (ess is not None or minutes is not None):
            raise InputError(
                f"method={method!r} takes a fixed number of draws: leave out ess= and minutes=, or use method='nuts'."
            )
        share = isinstance(target_accept, float | np.floating) and 0.0 < target_accept < 1.0
        if target_accept is not None and not share:
            raise InputError(f"target_accept must be a number between 0 and 1, as 0.95; got {target_accept!r}.")
        if target_accept is not None and not find_sampler(method).exact:
            raise InputError(f"method={method!r} takes no steps: leave out target_accept=, or use method='nuts'.")
        if quick and ess is not None:
            raise InputError("quick=True is a first look of fixed length: leave out quick=, or ess=.")
        chance = np.random.SeedSequence().generate_state(1)[0]
        seed = whole_number("seed", chance if seed is None else seed, least=0)
        least = 0
        if quick:
            draws, tune, chains = _QUICK
        elif draws is None and ess is None:
            least, draws = (_LEAST, _MOST) if find_sampler(method).open_ended else (0, _LEAST)
        elif draws is None:
            draws = _MOST_FOR_ESS
        length, most = (int(draws), int(tune), int(chains)), (int(ess or 0), float(minutes or 0.0))
        return cls(*length, seed, method, bool(quick), *most, float(target_accept or 0.0), least)


@dataclass(frozen=True)
class FitRecord:
    """What made a posterior: the model, as its constructor takes it, and how it was sampled.

    model, declaration: name of the simulator; of one of the user's own also its declaration, without its function.
    formulas: right-hand side, or fixed number, by parameter. likelihood: its kind; likelihood_path: of its file, where
    the model was given one; weights_sha256: of its weights. prior_set: name of a set from the literature, or "".
    priors: of every coefficient. links: by parameter. lapse: probability, or its prior, None where a formula says it;
    lapse_seconds: they are uniform over these; lapse_mean: or exponential with this mean; lapse_choices: probability of
    each response among them, in the order of the model's choices, where they are not alike. outcome_columns: names of
    the outcomes in the table; columns: of all that is used of it. responses: the names of the choices there, where they
    are not the model's codes. stimulus: name of the column of right responses, where a formula has `match`, or "".
    missing: why an rt or response may be. sequences: rule and arguments of each, by covariate. levels: of every column
    that is not a number, in order. box: of the likelihood, by parameter. centred: by group term, where the caller
    forced it. draws, tune, chains, seed, method, quick, ess, minutes, target_accept: as `fit` takes them, 0 for none;
    where least_draws says when Rhat was first looked at, `draws` is the most that it could ask for.
    density: how it ran. stopped: why sampling ended early, or ""; interrupted: whether by a person, or a failure.
    versions: of the libraries in use. format: of this record.
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
    lapse: float | PriorRecord | None
    lapse_seconds: float
    outcome_columns: tuple[str, ...]
    columns: tuple[str, ...]
    responses: tuple[Any, ...]
    levels: Mapping[str, tuple[Any, ...]]
    box: Mapping[str, tuple[float, float]]
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
    ess: int = 0
    minutes: float = 0.0
    target_accept: float = 0.0
    least_draws: int = 0
    stimulus: str = ""
    missing: Mapping[str, Any] = field(default_factory=dict)
    sequences: Mapping[str, Any] = field(default_factory=dict)
    lapse_mean: float = 0.0
    lapse_choices: tuple[float, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)
    format: int = FORMAT

    @property
    def approximate(self) -> bool:
        """Whether the draws come from an approximation of the posterior."""
        return bool(approximation({"method": self.method}))

    def with_facts(self, facts: Mapping[str, Any]) -> FitRecord:
        """The same of another model; what that does not say is as in records that do not have it."""
        return replace(self, **{**_OPTIONAL, **facts})

    def attributes(self) -> dict[str, str | int | float]:
        """As attributes of a posterior: numbers and text as they are, all else as JSON."""
        written = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            name: _as_attribute(value) for name, value in written.items() if value or name not in (*_OPTIONAL, *_LATER)
        }

    @classmethod
    def read(cls, attrs: Mapping[str, Any]) -> FitRecord:
        """The record in the attributes of a posterior, be it as `fit` returned it or read from a file.

        Raises InputError where the attributes lack a part of it, or have it in a format that is newer or older.
        """
        if "format" in attrs and int(attrs["format"]) != FORMAT:
            age = "a newer" if int(attrs["format"]) > FORMAT else "an older"
            raise InputError(
                f"this fit was written by {age} version of hddm_sbi ({_version(attrs)}; format {attrs['format']}, this "
                f"version reads {FORMAT}): use that version, or fit again."
            )
        missing = [f.name for f in fields(cls) if f.name not in attrs and f.name not in (*_OPTIONAL, *_LATER)]
        if missing:
            raise InputError(
                f"the posterior does not say what made it: its attributes lack {', '.join(missing)}. It was written by "
                "an older version of hddm_sbi, by another program, or edited: fit again."
            )
        try:
            present = [f for f in fields(cls) if f.name in attrs]
            return cls(**{f.name: _READERS.get(str(f.type), json.loads)(attrs[f.name]) for f in present})
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as reason:
            raise InputError(
                f"the attributes of the posterior cannot be read ({reason}): they were edited."
            ) from reason


def approximation(attrs: Mapping[Any, Any]) -> str:
    """The method by which draws with these attributes approximate a posterior, "" where they are drawn from it."""
    method = attrs.get("method")
    return str(method) if method in SAMPLERS and not SAMPLERS[method].exact else ""


def _version(attrs: Mapping[str, Any]) -> str:
    try:
        return str(json.loads(attrs["versions"])["hddm_sbi"])
    except (KeyError, TypeError, ValueError):
        return "of an unknown number"


def _as_attribute(value: Any) -> str | int | float:
    if isinstance(value, bool):
        return int(value)
    return value if isinstance(value, str | int | float) else json.dumps(value, default=vars)


def _prior(raw: Any) -> PriorRecord:
    return PriorRecord(**(json.loads(raw) if isinstance(raw, str) else raw))


def _lapse(raw: Any) -> PriorRecord | None:
    return None if raw is None else _prior(raw)


#: type of an entry of the record, as it is written there -> what reads it from an attribute; JSON where there is none.
_READERS: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": float,
    "float | PriorRecord | None": lambda raw: _lapse(json.loads(raw)) if isinstance(raw, str) else float(raw),
    **dict.fromkeys(("tuple[str, ...]", "tuple[float, ...]"), lambda raw: tuple(json.loads(raw))),
    "tuple[Any, ...]": lambda raw: tuple(json.loads(raw)),
    "Mapping[str, PriorRecord]": lambda raw: {name: _prior(prior) for name, prior in json.loads(raw).items()},
    "Mapping[str, tuple[Any, ...]]": lambda raw: {name: tuple(levels) for name, levels in json.loads(raw).items()},
    "Mapping[str, tuple[float, float]]": lambda raw: {name: tuple(ends) for name, ends in json.loads(raw).items()},
}

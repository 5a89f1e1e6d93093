"""Seals of a fit: hashes of the model that it says it is of, and of its draws, so that an edited file is noticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from hddm_sbi.errors import InputError
from hddm_sbi.hierarchy.record import FitRecord
from hddm_sbi.inference import inference_data

_MODEL, _DRAWS = "model_sha256", "draws_sha256"


def seals(posterior: Any) -> dict[str, str]:
    """Hash of the record and the table, and hash of the draws, as attributes."""
    attrs = dict(inference_data.dataset(posterior).attrs)
    record = FitRecord.read(attrs).attributes()
    return {
        _MODEL: _hash(posterior, ("observed_data", "constant_data"), json.dumps(record, sort_keys=True)),
        _DRAWS: _hash(posterior, ("posterior",)),
    }


def check_seals(posterior: Any) -> str:
    """What to warn about draws that are not those of the fit, or "". Raises InputError where the model was edited.

    A seal tells an accident or a careless edit, not a forgery: who edits a file can seal it again.
    """
    attrs, found = inference_data.dataset(posterior).attrs, seals(posterior)
    if attrs.get(_MODEL) != found[_MODEL]:
        raise InputError(
            "the record or the table of this fit was edited after it was written (its sha256 is another): take the "
            "file as fit wrote it, or fit again."
        )
    if attrs.get(_DRAWS) != found[_DRAWS]:
        return "the draws in this fit are not those that the sampler wrote: they were selected or edited"
    return ""


def _hash(posterior: Any, groups: tuple[str, ...], text: str = "") -> str:
    hashed = hashlib.sha256(text.encode())
    for group in (group for group in groups if group in inference_data.groups(posterior)):
        content = inference_data.dataset(posterior, group)
        for name in sorted(map(str, content.variables)):
            array = content[name].to_numpy()
            plain = array.astype(np.float64) if array.dtype.kind in "iufb" else np.array(array.astype(str).tolist())
            hashed.update(f"{group} {name} {plain.shape}".encode())
            hashed.update(plain.tobytes() if plain.dtype.kind == "f" else "\0".join(plain.reshape(-1)).encode())
    return hashed.hexdigest()

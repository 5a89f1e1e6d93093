"""The state of a fit in a file: networks and optimizer as named tensors."""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hddm_sbi.errors import FitFileWarning

#: entry of the file that vouches for its tensors.
_HASH = "sha256"


@dataclass(frozen=True)
class FitState:
    """What a fit changes: the network, the mean of its late weights, and the optimizer."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer

    def save(self, path: Path, step: int) -> None:
        """Write the state after so many steps."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": v for k, v in _flat(state).items()}
        tensors, partial = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path.with_suffix(".part")
        try:
            partial.write_bytes(save(tensors, {"step": str(step), _HASH: _hash(tensors, step)}))
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)

    def resume(self, path: Path) -> int:
        """Load a saved state, and return the step to go on from: 0 where there is no file, or a damaged one."""
        if not path.exists():
            return 0
        try:
            with safe_open(path, "pt") as file:
                said = file.metadata() or {}
            tensors = load_file(path)
        except (SafetensorError, OSError) as reason:
            said, tensors = {"reason": str(reason)}, {}
        step = said.get("step", "")
        if said.get(_HASH) != _hash(tensors, step):
            damaged = path.with_name(f"{path.name}.damaged")
            path.replace(damaged)
            why = said.get("reason", "it is not what was written")
            message = f"{str(path)!r} is moved to {damaged.name}, and the fit begins again: {why}"
            warnings.warn(message, FitFileWarning, stacklevel=3)
            return 0
        self.network.load_state_dict(_under("network.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        saved = self.optimizer.state_dict()
        for index in range(len(list(self.network.parameters()))):
            saved["state"][index] = _nested(_under(f"optimizer.{index}.", tensors))
        for group in saved["param_groups"]:
            group["step"] = int(step)
        self.optimizer.load_state_dict(saved)
        return int(step)


def _hash(tensors: dict[str, Tensor], step: int | str) -> str:
    return hashlib.sha256(save(tensors) + str(step).encode()).hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _flat(state: dict[str, Any]) -> dict[str, Tensor]:
    """An optimizer's state of one parameter as tensors: numbers have no dimensions, lists become key.0, key.1."""
    flat = {}
    for key, value in state.items():
        for i, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
            number = torch.float64 if isinstance(part, float) else None
            flat[key if i is None else f"{key}.{i}"] = torch.as_tensor(part, dtype=number)
    return flat


def _nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    state: dict[str, Any] = {}
    for key in sorted(flat):
        name, *position = key.split(".")
        value = flat[key].item() if flat[key].ndim == 0 else flat[key]
        if position:
            state.setdefault(name, []).append(value)
        else:
            state[name] = value
    return state

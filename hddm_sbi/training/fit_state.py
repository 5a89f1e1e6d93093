"""The state of a fit in a file: networks and optimizer as named tensors."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


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
        partial = path.with_suffix(".part")
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, {"step": str(step)})
        partial.rename(path)

    def resume(self, path: Path) -> int:
        """Load a saved state, and return the step to go on from: 0 where there is no file."""
        if not path.exists():
            return 0
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        tensors = load_file(path)
        self.network.load_state_dict(_under("network.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        saved = self.optimizer.state_dict()
        for index in range(len(list(self.network.parameters()))):
            saved["state"][index] = _nested(_under(f"optimizer.{index}.", tensors))
        for group in saved["param_groups"]:
            group["step"] = step
        self.optimizer.load_state_dict(saved)
        return step


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

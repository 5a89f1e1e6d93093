"""Watches torch evaluate a density and its gradient once, and writes every operation on the vector into a program.

All private parts of torch that the package uses to record are imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from hddm_sbi.inference.compiler.operations import OPERATIONS, UnknownOperationError
from hddm_sbi.inference.compiler.program import Compiled, Program
from hddm_sbi.numerics import KERNELS


def compile_function(function: Callable[[Tensor], tuple[Tensor, Tensor]], example: Tensor) -> Compiled:
    """The program of a function from a vector to a number and its gradient, as it evaluates `example`.

    Raises UnknownOperationError where the function does what programs cannot.
    """
    program, (x, value, gradient) = record(function, example)
    return program.finish(x, value, gradient)


def record(function: Callable[[Tensor], tuple[Tensor, ...]], example: Tensor) -> tuple[Program, list[Tensor]]:
    """A function of a vector as instructions, and the tensors there of its argument and of its results.

    Raises UnknownOperationError where the function does what programs cannot.
    """
    recorder = _Recorder(example)
    with recorder:
        results = function(example)
    return recorder.program, [recorder.place(tensor) for tensor in (example, *results)]


#: operations whose result depends only on the shape of their argument.
_SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}


class _Recorder(TorchDispatchMode):
    """Knows, for every tensor that depends on the vector, the tensor of the program that has its elements."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Or torch imports its own compiler to keep it away from here: 1.2 s.
        return False

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.program = Program()
        self._places = WeakTensorKeyDictionary()
        self._places[x] = self.program.allocate(x.shape)
        #: storage that was written into -> itself, and all its elements in the program.
        self._written: dict[int, tuple[Any, Tensor]] = {}

    def place(self, tensor: Tensor) -> Tensor:
        """A tensor's elements in the program; of one that does not depend on the vector, as a constant."""
        return self.program.tensor(self._seen(tensor))

    def _seen(self, tensor: Tensor) -> Tensor:
        """The tensor of the program, or the tensor itself where it does not depend on the vector."""
        if tensor in self._places:
            place: Tensor = self._places[tensor]
            return place
        _, whole = self._written.get(_storage(tensor), (None, None))
        if whole is None:
            return tensor
        return _view_of(whole, tensor)

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        arguments, options = tree_map_only(Tensor, self._seen, (args, named))
        depends = any(isinstance(t, Tensor) and t.is_meta for t in tree_leaves((arguments, options)))
        if not depends or func.overloadpacket.__name__ in _SHAPE_ONLY:
            return func(*args, **named)
        rule = self._rule(func)
        if rule is None:
            with self:
                return _taken_apart(func)(*args, **named)
        if func.overloadpacket.__name__.startswith("index"):
            _refuse_masks(args, arguments)
        mutable = func._schema.is_mutable
        # What is written into is read first.
        result = None if mutable else func(*args, **named)
        try:
            lowered = rule(result, *arguments, **options)
        except TypeError as reason:
            raise UnknownOperationError(f"{func} with {named}") from reason
        if mutable:
            before = _whole(args[0]).clone()
            result = func(*args, **named)
            self._rewrite(args[0], before, lowered)
            return result
        for tensor, place in zip(tree_leaves(result), tree_leaves(lowered), strict=True):
            self._places[tensor] = place
        return result

    def _rule(self, func: OpOverload) -> Callable[..., Any] | None:
        """What makes an operation's result in the program, given the real one; None for a compound operation."""
        if func.name() in KERNELS:
            return lambda result, *arguments: self._kernel(func.name(), arguments, result)
        # "aten::max.dim" -> "max.dim", "max". "aten::add_.Tensor" -> "add", whose result is written to the argument.
        name, _, overload = func.name().partition("::")[2].partition(".")
        if func._schema.is_mutable:
            name = name.removesuffix("_")
            func = getattr(getattr(torch.ops.aten, name, None), overload or "default", func)
        if func.is_view:
            return lambda result, *arguments, **options: self._view(func, arguments, options)
        rule = OPERATIONS.get(f"{name}.{overload}", OPERATIONS.get(name))
        return None if rule is None else lambda result, *arguments, **options: rule(self.program, *arguments, **options)

    def _kernel(self, name: str, arguments: Sequence[Any], result: Any) -> list[Tensor]:
        # torch would make a list of Python's numbers single precision.
        given = [torch.from_numpy(np.array(a)) if isinstance(a, list) else a for a in arguments]
        return self.program.call(KERNELS[name], given, [tuple(r.shape) for r in tree_leaves(result)])

    def _view(self, func: OpOverload, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Other places of the same elements, which torch finds; of a copy where there is no such view."""
        tensor, *rest = arguments
        try:
            found = func(tensor, *rest, **options)
        except RuntimeError:
            found = None
        # `contiguous` and `reshape` make a new tensor where they have to, which has no place in the program.
        if found is None or (isinstance(found, Tensor) and _storage(found) != _storage(tensor)):
            found = func(self.program.copy(tensor), *rest, **options)
        return found

    def _rewrite(self, tensor: Tensor, before: Tensor, new: Tensor) -> None:
        """A tensor has new elements: so have all that share its storage. before: all elements of the storage."""
        sharing = [t for t in self._places if _storage(t) == _storage(tensor)]
        if len(sharing) == 1 and sharing[0] is tensor:
            self._places[tensor] = new.expand(tensor.shape)
            return
        key = _storage(tensor)
        whole = self.program.copy(self._written[key][1] if key in self._written else before)
        for other in sharing:
            self.program.write(_view_of(whole, other), self._places.pop(other))
        self.program.write(_view_of(whole, tensor), new)
        self._written[key] = tensor.untyped_storage(), whole


def _refuse_masks(args: Sequence[Any], arguments: Sequence[Any]) -> None:
    for tensor, seen in zip(tree_leaves(args), tree_leaves(arguments), strict=True):
        if isinstance(tensor, Tensor) and tensor.dtype == torch.bool and seen.is_meta:
            raise UnknownOperationError("indexing by a mask that depends on the parameters")


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _whole(tensor: Tensor) -> Tensor:
    """All elements of a tensor's storage."""
    n = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.detach().as_strided((n,), (1,), 0)


def _view_of(whole: Tensor, tensor: Tensor) -> Tensor:
    """The elements that a tensor has of all those of its storage."""
    return whole.as_strided(tensor.shape, tensor.stride(), whole.storage_offset() + tensor.storage_offset())


def _taken_apart(func: OpOverload) -> Callable[..., Any]:
    """A compound operation as a function that applies simpler ones."""
    # Half a second that most models do without.
    from torch._decomp import get_decompositions

    function = get_decompositions([func]).get(func)
    if function is None and func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        function = func.decompose
    if function is None:
        raise UnknownOperationError(f"{func} is not in the table of operations")
    return function

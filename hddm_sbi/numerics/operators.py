"""Numba kernels behind torch operators: which function computes an operator, and how compiled code finds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@dataclass(frozen=True)
class Kernel:
    """The compiled function behind a torch operator.

    function: takes the operator's arguments in its order, tensors as C-contiguous arrays (those without dimensions as
    numbers), then one array of zeros for every result, which it fills. A string stands for the function of that name
    in `named`. signature: its types. It is compiled at its first call and not at import, as are the named functions.
    """

    function: Any
    signature: Any
    named: Mapping[str, Callable[..., None]] = field(default_factory=dict)

    @cached_property
    def compiled(self) -> Callable[..., None]:
        """The function, for calls from Python; it takes functions by their type, which Numba would not guess."""
        self.function.compile(self.signature)
        self.function.disable_compile()
        return self.function

    @cached_property
    def named_type(self) -> types.FunctionType:
        """The type of the functions in `named`."""
        return next(kind for kind in self.signature.args if isinstance(kind, types.FunctionType))


#: torch operator, "namespace::name" -> its kernel.
KERNELS: dict[str, Kernel] = {}


def operator(
    name: str,
    kernel: Kernel,
    forward: Callable[..., Any],
    shapes: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
) -> Any:
    """Define a torch operator, which autograd and the compiler know, and return it.

    name: "namespace::name". forward: computes the results by the kernel; its annotations are the operator's. The first
    result is differentiable, the others are what backward needs. shapes: results without values, for torch's device
    "meta". backward: from a context whose `saved_tensors` are the others, and the gradient of the first result.
    """
    # `torch.library.custom_op` does the same, but its operators import torch's own compiler at their first call: 1.2 s.
    torch.library.define(name, torch.library.infer_schema(forward, mutates_args=()))
    torch.library.impl(name, "default", forward)
    torch.library.impl(name, "Meta", shapes)
    if backward is not None:
        torch.library.register_autograd(name, backward, setup_context=_save)
    KERNELS[name] = kernel
    namespace, _, short = name.partition("::")
    return getattr(getattr(torch.ops, namespace), short).default


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:])
    # Those that have a gradient would keep their graph alive.
    ctx.given = tuple(None if isinstance(x, torch.Tensor) and x.requires_grad else x for x in inputs)  # type: ignore[attr-defined]


def address(function: Any, signature: Any) -> int:
    """Where the machine code of a Numba function lies, compiled (or read from Numba's cache) for this signature."""
    compiled = function.get_compile_result(signature)
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))


@intrinsic
def pointer_to(typing_context, where, kind):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """A pointer of that type to an address."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return kind.instance_type(types.int64, kind), codegen


@intrinsic
def plus(typing_context, pointer, places):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The pointer some places further on."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


@intrinsic
def function_at(typing_context, where, function_type):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """The function of that type whose machine code lies at an address."""
    kind = function_type.instance_type

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        # A function value is a record of addresses: first that of its C entry; the others may be null.
        function = cgutils.create_struct_proxy(kind)(context, builder)
        function[0] = builder.inttoptr(args[0], cgutils.voidptr_t)
        return function._getvalue()

    return kind(types.int64, function_type), codegen

"""Numba kernels behind torch operators: which function computes an operator, and how compiled code finds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


@dataclass(frozen=True)
class Kernel:
    """The compiled function behind a torch operator.

    function: takes the operator's arguments in its order, tensors as C-contiguous arrays (those without dimensions as
    numbers), then one array of zeros for every result, which it fills. A string stands for the function of that name in
    `named`, passed as `named_type`.
    """

    function: Any
    named: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    named_type: types.FunctionType | None = None


#: torch operator, "namespace::name" -> its kernel. A kernel registers itself where its operator is defined.
KERNELS: dict[str, Kernel] = {}


def address(function: Any, signature: Any) -> int:
    """Where the machine code of a Numba function lies, compiled (or read from Numba's cache) for this signature."""
    compiled = function.get_compile_result(signature)
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_cfunc_wrapper_name))


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

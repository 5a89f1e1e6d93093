"""A perceptron with fixed weights, forwards and backwards, for a block of rows at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from hddm_sbi.numerics.vecmath import FAST, exp_negative, inner
from hddm_sbi.types import Array, Index

#: rows that go through the layers together, in vectors of so many lanes; their activations fit the first cache.
BLOCK = 16
_LANES = 8

# h_0 = x, h_l = silu(W_l h_{l-1} + b_l), y = W_L h_{L-1} + b_L; silu(u) = u s, s = 1 / (1 + exp(-u)).
# Activations of a block are (units, rows).


_VECTOR = ir.VectorType(ir.DoubleType(), _LANES)


def _word(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(64), value)


def _repeated(builder, array, position):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A vector of one element of an array, again and again."""
    undefined, first = (
        ir.Constant(_VECTOR, ir.Undefined),
        ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES),
    )
    value = builder.load(builder.gep(array.data, [position]))
    return builder.shuffle_vector(builder.insert_element(undefined, value, _word(0)), undefined, first)


def _row(builder, array, position):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Where the vectors of a row (BLOCK,) of an array lie."""
    start = builder.gep(array.data, [builder.mul(position, _word(BLOCK))])
    start = builder.bitcast(start, _VECTOR.as_pointer())
    return [builder.gep(start, [_word(v)]) for v in range(BLOCK // _LANES)]


def _tile(n_outputs: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """A function (weight, bias, x, y, j) that computes outputs j, j + 1, ... of a block, y = weight x + bias.

    Written in LLVM's own terms: all n_outputs x 16 sums stay in vector registers while the inputs pass by. Loops in
    Numba write them to memory after every input and are three times slower.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        weights, biases, inputs, outputs = (
            context.make_array(kind)(context, builder, array)
            for kind, array in zip(signature.args, args[:4], strict=False)
        )
        at = [builder.add(args[4], _word(o)) for o in range(n_outputs)]
        n_in = builder.extract_value(weights.shape, 1)
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        starts = [_repeated(builder, biases, position) for position in at]
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_word(0).type)
        sums = [[builder.phi(_VECTOR) for _ in range(BLOCK // _LANES)] for _ in at]
        values = [builder.load(place, align=8) for place in _row(builder, inputs, i)]
        following, added = builder.add(i, _word(1)), []
        for position, total in zip(at, sums, strict=True):
            w = _repeated(builder, weights, builder.add(builder.mul(position, n_in), i))
            products = [builder.fmul(w, value, flags=("contract",)) for value in values]
            added.append([builder.fadd(p, t, flags=("contract",)) for p, t in zip(products, total, strict=True)])
        builder.cbranch(builder.icmp_signed("<", following, n_in), loop, after)
        i.add_incoming(_word(0), before)
        i.add_incoming(following, loop)
        for start, total, new in zip(starts, sums, added, strict=True):
            for phi, value in zip(total, new, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
        builder.position_at_end(after)
        for position, new in zip(at, added, strict=True):
            for place, value in zip(_row(builder, outputs, position), new, strict=True):
                builder.store(value, place, align=8)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing_context, weight, bias, x, y, j):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return types.void(weight, bias, x, y, types.int64), codegen

    return tile


_four_outputs, _one_output = _tile(4), _tile(1)


@inner(forceinline=True)
def _layer(weight: Array, bias: Array, x: Array, y: Array) -> None:
    """y = weight x + bias of a block."""
    whole = len(weight) - len(weight) % 4
    for j in range(0, whole, 4):
        _four_outputs(weight, bias, x, y, j)
    for j in range(whole, len(weight)):
        _one_output(weight, bias, x, y, j)


@inner(fastmath=FAST, forceinline=True)
def _activate(u: Array, slope: Array, n: int) -> None:
    """silu(u) in place, and its derivative s (1 + u (1 - s))."""
    for j in range(n):
        for b in range(BLOCK):
            x = u[j, b]
            e = exp_negative(-abs(x))
            s = (1.0 if x >= 0.0 else e) / (1.0 + e)
            u[j, b] = x * s
            slope[j, b] = s * (1.0 + x * (1.0 - s))


class Perceptron(NamedTuple):
    """Fixed weights: of every layer the matrix (out, in) and the bias, laid end to end; sizes (layers + 1,).

    turned: the same with matrices (in, out). zeros: (units,).
    """

    weights: Array
    sizes: Index
    turned: Array
    zeros: Array


class Activations(NamedTuple):
    """A block's inputs and outputs of every layer, h (layers + 1, units, BLOCK), and the slopes of hidden layers."""

    h: Array
    slope: Array


@inner()
def forward(net: Perceptron, at: Activations) -> None:
    """All layers of a block, from the first part of h, which is filled, to the last."""
    begin, last, (h, slope) = 0, len(net.sizes) - 2, at
    for layer in range(last + 1):
        n_in, n_out = net.sizes[layer], net.sizes[layer + 1]
        weight = net.weights[begin : begin + n_in * n_out].reshape((n_out, n_in))
        begin += n_in * n_out
        _layer(weight, net.weights[begin : begin + n_out], h[layer], h[layer + 1])
        begin += n_out
        if layer < last:
            _activate(h[layer + 1], slope[layer], n_out)


@inner()
def backward(net: Perceptron, at: Activations) -> None:
    """Gradient by outputs, in the last part of h, to that by inputs, in the first; `forward` has filled the others."""
    end, (h, slope) = len(net.turned), at
    for layer in range(len(net.sizes) - 2, -1, -1):
        n_in, n_out = net.sizes[layer], net.sizes[layer + 1]
        end -= (n_in + 1) * n_out
        _layer(net.turned[end : end + n_in * n_out].reshape((n_in, n_out)), net.zeros, h[layer + 1], h[layer])
        if layer > 0:
            for j in range(n_in):
                for b in range(BLOCK):
                    h[layer, j, b] *= slope[layer - 1, j, b]


@inner(forceinline=True)
def _widest(sizes: Index) -> int:
    """Units of the widest layer."""
    most = 0
    for size in sizes:
        most = max(most, size)
    return most


@inner()
def perceptron(weights: Array, sizes: Index) -> Perceptron:
    """A perceptron with these weights."""
    turned, at = np.empty(len(weights)), 0
    for layer in range(len(sizes) - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        for i in range(n_in):
            for j in range(n_out):
                turned[at + i * n_out + j] = weights[at + j * n_in + i]
        at += (n_in + 1) * n_out
    return Perceptron(weights, sizes, turned, np.zeros(_widest(sizes)))


@inner()
def activations(n: int, sizes: Index) -> Activations:
    """Room for the activations of n blocks."""
    shape = (n, len(sizes), _widest(sizes), BLOCK)
    return Activations(np.empty(shape), np.empty(shape))


def packed(layers: nn.Sequential) -> tuple[Tensor, list[int]]:
    """Weights and sizes of linear layers with SiLU between them, as the kernels take them."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights = torch.cat([part.detach().reshape(-1) for layer in linear for part in (layer.weight, layer.bias)])
    return weights, [linear[0].in_features, *(layer.out_features for layer in linear)]

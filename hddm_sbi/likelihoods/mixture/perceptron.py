"""A perceptron with fixed weights, forwards and backwards, for a block of rows at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from hddm_sbi.numerics import FAST, exp_negative, inner
from hddm_sbi.types import Array, Index

#: rows that go through the layers together, in vectors of so many lanes; their activations fit the first cache.
BLOCK = 32
_LANES = 8

# h_0 = x, h_l = silu(W_l h_{l-1} + b_l), y = W_L h_{L-1} + b_L; silu(u) = u s, s = 1 / (1 + exp(-u)).
# Activations of blocks are (blocks, layers + 1, units, rows). Functions take whole
# arrays and positions in them: Numba counts a reference to each part that is cut out, which took a seventh of the time.


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
    """A function (weights, w, b, n_in, h, x, y) that computes rows y, y + 1, ... of h, W x + bias, from x, x + 1, ...

    W begins at w in the weights, the biases at b. Written in LLVM's own terms: all n_outputs x BLOCK sums stay in
    vector registers while the inputs pass by. Loops in Numba write them to memory after every input and are three times
    slower.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        weights, h = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 4))
        (_, w, b, n_in, _, x, y), outputs = args, [_word(o) for o in range(n_outputs)]
        before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
        starts = [_repeated(builder, weights, builder.add(b, o)) for o in outputs]
        rows = [builder.add(w, builder.mul(n_in, o)) for o in outputs]
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_word(0).type)
        sums = [[builder.phi(_VECTOR) for _ in range(BLOCK // _LANES)] for _ in outputs]
        values = [builder.load(place, align=8) for place in _row(builder, h, builder.add(x, i))]
        following, added = builder.add(i, _word(1)), []
        for row, total in zip(rows, sums, strict=True):
            factor = _repeated(builder, weights, builder.add(row, i))
            products = [builder.fmul(factor, value, flags=("contract",)) for value in values]
            added.append([builder.fadd(p, t, flags=("contract",)) for p, t in zip(products, total, strict=True)])
        builder.cbranch(builder.icmp_signed("<", following, n_in), loop, after)
        i.add_incoming(_word(0), before)
        i.add_incoming(following, loop)
        for start, total, new in zip(starts, sums, added, strict=True):
            for phi, value in zip(total, new, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(value, loop)
        builder.position_at_end(after)
        for o, new in zip(outputs, added, strict=True):
            for place, value in zip(_row(builder, h, builder.add(y, o)), new, strict=True):
                builder.store(value, place, align=8)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing_context, weights, w, b, n_in, h, x, y):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        word = types.int64
        return types.void(weights, word, word, word, h, word, word), codegen

    return tile


_four_outputs, _one_output = _tile(4), _tile(1)


@inner(forceinline=True)
def _layer(weights: Array, w: int, sizes: tuple[int, int], h: Array, x: int, y: int) -> None:
    """Rows of h from y on: a matrix (n_out, n_in), which begins at w and is followed by its biases, of those from x."""
    n_in, n_out = sizes
    whole, b = n_out - n_out % 4, w + n_in * n_out
    for j in range(0, whole, 4):
        _four_outputs(weights, w + j * n_in, b + j, n_in, h, x, y + j)
    for j in range(whole, n_out):
        _one_output(weights, w + j * n_in, b + j, n_in, h, x, y + j)


@inner(fastmath=FAST, forceinline=True)
def _activate(h: Array, slope: Array, block: int, layer: int, n: int) -> None:
    """silu(u) of a layer in place, and its derivative s (1 + u (1 - s))."""
    for j in range(n):
        for b in range(BLOCK):
            x = h[block, layer, j, b]
            e = exp_negative(-abs(x))
            s = (1.0 if x >= 0.0 else e) / (1.0 + e)
            h[block, layer, j, b] = x * s
            slope[block, layer, j, b] = s * (1.0 + x * (1.0 - s))


class Perceptron(NamedTuple):
    """Fixed weights: of every layer the matrix (out, in) and the bias, laid end to end; sizes (layers + 1,).

    turned: the same with matrices (in, out), and zeros for biases.
    """

    weights: Array
    sizes: Index
    turned: Array


class Activations(NamedTuple):
    """Inputs and outputs of every layer, h (blocks, layers + 1, units, BLOCK), and the slopes at hidden layers."""

    h: Array
    slope: Array


@inner()
def forward(net: Perceptron, at: Activations, block: int) -> None:
    """All layers of a block, from the first part of h, which is filled, to the last."""
    (weights, sizes, _), (h, slope) = net, at
    w, units, last = 0, h.shape[2], len(sizes) - 2
    row = block * h.shape[1] * units
    for layer in range(last + 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        _layer(weights, w, (n_in, n_out), h, row, row + units)
        w, row = w + (n_in + 1) * n_out, row + units
        if layer < last:
            _activate(h, slope, block, layer + 1, n_out)


@inner()
def backward(net: Perceptron, at: Activations, block: int) -> None:
    """Gradient by outputs, in the last part of h, to that by inputs, in the first; `forward` has filled the others."""
    (_, sizes, turned), (h, slope) = net, at
    w, units = len(turned), h.shape[2]
    row = (block * h.shape[1] + len(sizes) - 1) * units
    for layer in range(len(sizes) - 2, -1, -1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        w -= n_in * (n_out + 1)
        _layer(turned, w, (n_out, n_in), h, row, row - units)
        row -= units
        if layer > 0:
            for j in range(n_in):
                for b in range(BLOCK):
                    h[block, layer, j, b] *= slope[block, layer, j, b]


@inner()
def perceptron(weights: Array, sizes: Index) -> Perceptron:
    """A perceptron with these weights."""
    turned, w, t = np.zeros(len(weights) + sizes[0]), 0, 0
    for layer in range(len(sizes) - 1):
        n_in, n_out = sizes[layer], sizes[layer + 1]
        for i in range(n_in):
            for j in range(n_out):
                turned[t + i * n_out + j] = weights[w + j * n_in + i]
        w, t = w + (n_in + 1) * n_out, t + n_in * (n_out + 1)
    return Perceptron(weights, sizes, turned[:t])


@inner()
def activations(n: int, sizes: Index) -> Activations:
    """Room for the activations of n blocks."""
    most = 0
    for size in sizes:
        most = max(most, size)
    shape = (n, len(sizes), most, BLOCK)
    return Activations(np.empty(shape), np.empty(shape))


def packed(layers: nn.Sequential) -> tuple[Tensor, list[int]]:
    """Weights and sizes of linear layers with SiLU between them, as the kernels take them."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    weights = torch.cat([part.detach().reshape(-1) for layer in linear for part in (layer.weight, layer.bias)])
    return weights, [linear[0].in_features, *(layer.out_features for layer in linear)]

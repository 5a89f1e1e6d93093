"""Branch-free exp and log in Numba, which LLVM turns into vector instructions, and loops that all kernels share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba as nb
from numba import types
from numba.extending import intrinsic

from hddm_sbi.types import Array

# A callee that is compiled on its own as well (in the process that fills the cache) may round differently from the copy
# inside its caller, and the linker would take either; forceinline leaves only one, so that a seed gives the same draws.
#: loops that call these may reorder sums and fuse multiply-adds; never more, for -inf and signs must survive.
FAST = {"nsz", "contract", "arcp", "reassoc"}

#: log(2 pi) / 2
LOG_2PI_HALF = 0.9189385332046727
PER_SQRT_2PI = 0.3989422804014327

_F = TypeVar("_F", bound=Callable[..., Any])


def inner(**options: Any) -> Callable[[_F], _F]:
    """`nb.njit` of a function that only kernels call: called from Python, it crashes.

    It lacks the wrappers by which Python would call it: for records of arrays they take longer to compile than it does.
    """
    without = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return nb.njit(cache=True, nogil=True, error_model="numpy", **without, **options)  # type: ignore[call-overload]


_ROUND = 6755399441055744.0  # 1.5 * 2**52: adding it rounds a double to a whole number in its low bits
_INV_LN2 = 1.4426950408889634
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD
_ROUND_BITS = 0x4338000000000000
_LEAST_NORMAL = 2.2250738585072014e-308
_TWO_54 = 18014398509481984.0


@intrinsic
def _bits(typing_context, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The 64 bits of a double, as a whole number."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.bitcast(args[0], context.get_value_type(types.int64))

    return types.int64(types.float64), codegen


@intrinsic
def _double(typing_context, x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """The double with these 64 bits."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.int64), codegen


#: multiply-adds may be fused, which leaves half the operations of a polynomial; sums keep their order, for
#: (x + ROUND) - ROUND must stay. Given everywhere, for a callee inherits unset flags from its first caller.
_FUSED = {"contract"}


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def _taylor(r: float) -> float:
    """exp(r) for |r| <= ln 2 / 2."""
    p = 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    return p * r + 1.0


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def exp_negative(x: float) -> float:
    """exp(x) for x <= 0 to 2 ulp; below -700 it is exp(-700), 1e-304.

    x = n ln 2 + r with |r| <= ln 2 / 2; exp(r) by its Taylor polynomial of degree 12, error 2e-16.
    """
    x = max(x, -700.0)
    shifted = x * _INV_LN2 + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    return _double(_bits(_taylor(r)) + (_bits(shifted) << 52))  # type: ignore[call-arg]


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def log_positive(x: float) -> float:
    """log(x) for normal x > 0 to 2 ulp.

    x = 2^n m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), by its series to s^21.
    """
    bits: int = _bits(x)  # type: ignore[call-arg]
    n = (bits - _SQRT_HALF_BITS) >> 52
    m = _double(bits - (n << 52))
    exponent = _double(n + _ROUND_BITS) - _ROUND
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = 1.0 / 21.0
    p = p * q + 1.0 / 19.0
    p = p * q + 1.0 / 17.0
    p = p * q + 1.0 / 15.0
    p = p * q + 1.0 / 13.0
    p = p * q + 1.0 / 11.0
    p = p * q + 1.0 / 9.0
    p = p * q + 1.0 / 7.0
    p = p * q + 1.0 / 5.0
    p = p * q + 1.0 / 3.0
    return exponent * _LN2_HIGH + (2.0 * s + (2.0 * s * q * p + exponent * _LN2_LOW))


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def exp(x: float) -> float:
    """exp(x) to 2 ulp for every double: 0 below -745.2, inf above 709.8, nan of nan."""
    inside = -750.0 if x < -750.0 else 750.0 if x > 750.0 else x
    shifted = inside * _INV_LN2 + _ROUND
    n = shifted - _ROUND
    r = inside - n * _LN2_HIGH - n * _LN2_LOW
    # 2^n in two factors, each of them a normal number.
    power: int = _bits(shifted) - _ROUND_BITS  # type: ignore[call-arg]
    half = power >> 1
    return _taylor(r) * _double((half + 1023) << 52) * _double((power - half + 1023) << 52)


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def log(x: float) -> float:
    """log(x) to 2 ulp for every double: -inf of 0, nan below."""
    small = x < _LEAST_NORMAL
    y = log_positive(x * _TWO_54 if small else x) - (37.42994775023705 if small else 0.0)
    y = y if 0.0 < x < math.inf else x
    return -math.inf if x == 0.0 else math.nan if x < 0.0 else y


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def tail_ratio(x: float) -> tuple[float, float]:
    """Two numbers whose ratio is exp(x²/2) P(Z > x) of a standard normal Z, for 0 <= x <= 1e30.

    The rational function of degrees 9 and 10 whose largest relative error is smallest (4e-16), fitted to mpmath's
    values; its coefficients are positive, so no digit is lost. Two intervals need one division.
    """
    p = 1.9528662349132096e-06
    p = p * x + 4.9610876994217584e-05
    p = p * x + 0.0006232543100729518
    p = p * x + 0.004989287095936792
    p = p * x + 0.027783317126969284
    p = p * x + 0.11109352515346319
    p = p * x + 0.31870670615605895
    p = p * x + 0.6345287234127339
    p = p * x + 0.8023253233866513
    p = p * x + 0.5
    q = 4.895109721005639e-06
    q = q * x + 0.0001243560270029415
    q = q * x + 0.0015671619856375055
    q = q * x + 0.012630644131613963
    q = q * x + 0.07119492495583594
    q = q * x + 0.2907277460477206
    q = q * x + 0.8654461487876423
    q = q * x + 1.8452278089134266
    q = q * x + 2.6860031957378783
    q = q * x + 2.4025352075760957
    return p, q * x + 1.0


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def scaled_tail(x: float) -> float:
    """exp(x²/2) P(Z > |x|) of a standard normal Z."""
    p, q = tail_ratio(min(abs(x), 1e30))
    return p / q


@nb.njit(nogil=True, cache=True, error_model="numpy", forceinline=True, fastmath=_FUSED)
def upper_tail(x: float) -> tuple[float, float]:
    """log P(Z > x) of a standard normal Z and its hazard phi(x) / P(Z > x); no underflow far out."""
    scaled = scaled_tail(x)
    square = 0.5 * x * x
    density = exp_negative(-square)
    tail = scaled if x >= 0.0 else 1.0 - density * scaled
    hazard = (1.0 if x >= 0.0 else density) * PER_SQRT_2PI / tail
    return log_positive(tail) - (square if x >= 0.0 else 0.0), hazard


@inner(fastmath=FAST, forceinline=True)
def dot(x: Array, y: Array, n: int) -> float:
    """Sum of x * y over the first n."""
    total = 0.0
    for i in range(n):
        total += x[i] * y[i]
    return total


@inner(fastmath=FAST, forceinline=True)
def total_of(x: Array, n: int) -> float:
    """Sum of the first n."""
    total = 0.0
    for i in range(n):
        total += x[i]
    return total


class Lapses(NamedTuple):
    """Lapses of a block of cells: their share in every cell (n_cells,), and their density exp(-rate t) u.

    Kernels work relative to exp(-rate t), which they multiply p by; whoever calls them adds it again.
    """

    share: Array
    #: u, of every choice (n_choices,).
    density: Array
    rate: float


class Lapse(NamedTuple):
    """The lapse law log[(1 - l) p + l u] of a share l of trials that are lapses, of density u."""

    #: l
    probability: float
    #: u
    density: float
    #: log(l u), -inf without lapses.
    log: float
    #: log[(1 - l) / (l u)]
    log_odds: float


@inner(forceinline=True)
def lapse_law(probability: float, density: float) -> Lapse:
    """The law of lapses with that probability and density."""
    log = math.log(probability * density) if probability > 0.0 else -math.inf
    return Lapse(probability, density, log, math.log1p(-probability) - log)


@inner(forceinline=True)
def lapse_of(lapses: Lapses, cell: int, choice: int, before: Lapse) -> Lapse:
    """The law of lapses among the trials of a cell with one choice; `before` where that is the same, for two logarithms
    take as long as the density of a trial."""
    same = lapses.share[cell] == before.probability and lapses.density[choice] == before.density
    return before if same else lapse_law(lapses.share[cell], lapses.density[choice])


@inner(fastmath=FAST, forceinline=True)
def relative_to_lapse(log_odds: float, logp: Array, weight: Array, n: int) -> float:
    """The law of n trials, relative to a lapse: log[(1 - l) p + l u] - log(l u) = log(1 + exp(d)), d = logp + log_odds.

    Leaves it in logp, returns the sum, and fills in every trial's weight exp(d) / (1 + exp(d)): the probability that it
    was no lapse, and the factor on its gradient.
    """
    total = 0.0
    for i in range(n):
        d = logp[i] + log_odds
        e = exp_negative(-abs(d))
        logp[i] = max(d, 0.0) + log_positive(1.0 + e)
        total += logp[i]
        weight[i] = (1.0 if d >= 0.0 else e) / (1.0 + e)
    return total


@inner(forceinline=True)
def add_lapse(lapse: Lapse, n: int, relative: float, regular: float) -> tuple[float, float]:
    """Sum over n trials of the law and its derivative by l, from the sums of `relative_to_lapse` and of the weights.

    Both are 0 of trials without density.
    """
    by_lapse = (
        (n - regular) / lapse.probability - regular / (1.0 - lapse.probability) if lapse.probability > 0.0 else 0.0
    )
    return n * lapse.log + relative, by_lapse


@inner(forceinline=True)
def mix_lapse(lapse: Lapse, logp: Array, weight: Array, n: int) -> tuple[float, float]:
    """Sum over n trials of the law and its derivative by l, from their logp; fills in the weights on their gradients,
    1 where there are no lapses."""
    if lapse.probability > 0.0:
        relative = relative_to_lapse(lapse.log_odds, logp, weight, n)
        return add_lapse(lapse, n, relative, total_of(weight, n))
    weight[:n] = 1.0
    return total_of(logp, n), 0.0


#: log of a probability that is 0, and below which one is taken for 0.
NEVER, _IMPOSSIBLE = -1e300, -5e299


@inner(fastmath=FAST)
def mix_events(share: float, mass: Array, count: Array, logp: Array, weight: Array, n: int) -> tuple[float, float]:
    """Sum over n events of count log[(1 - share) p + share mass], p = exp(logp), and its derivative by the share; fills
    in the weights on the gradients of logp.

    mass: of every event, its probability as a lapse. An event of count 0 counts for nothing, whatever its probability.
    """
    log_share, log_rest = math.log(share) if share > 0.0 else NEVER, math.log1p(-share)
    total, by_regular, by_lapse = 0.0, 0.0, 0.0
    for i in range(n):
        regular, lapse = logp[i] + log_rest, log_share + (log_positive(mass[i]) if mass[i] > 0.0 else NEVER)
        apart, most = regular - lapse, max(regular, lapse)
        e = exp_negative(-abs(apart))
        own = (1.0 if apart >= 0.0 else e) / (1.0 + e)
        value = most + log_positive(1.0 + e) if most > _IMPOSSIBLE else -math.inf
        total += count[i] * value if count[i] != 0.0 else 0.0
        by_regular += count[i] * own
        by_lapse += count[i] * (1.0 - own)
        weight[i] = count[i] * own if logp[i] > _IMPOSSIBLE else 0.0
    return total, by_lapse / share - by_regular / (1.0 - share) if share > 0.0 else 0.0

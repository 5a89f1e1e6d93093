"""Reference first passages of a stable motion with drift: its backward equation, by finite elements.

Independent of the simulator: no path, no jump that is drawn, no time step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, eig, solve_triangular
from scipy.special import gamma, roots_jacobi

from hddm_sbi.types import Array, Index

# dx = w dt + dL on (-1, 1), E exp(i k L(t)) = exp(-c t |k|^alpha). The probability u(x, t) of having left upwards by t,
# from x, obeys
#   u_t = w u_x - c (-Laplace)^(alpha / 2) u,   u = 1 above 1, 0 below -1.
# With the Riesz kernel k(r) = |r|^(1 - alpha) / (-2 Gamma(2 - alpha) cos(pi alpha / 2)), whose transform is
# |xi|^(alpha - 2), the weak form of the fractional Laplacian is the double integral of k(x - y) u'(x) phi'(y). Where
# functions are polynomials on elements, so are u' and phi', and the integrals are sums: of Gauss and Legendre for two
# elements that are apart, of Gauss and Jacobi where k is singular.
#
# Near a bound, u goes to its value there like a power of the distance: alpha / 2 in the end, but, with drift and alpha
# near 1, down to 0 as far as any eye can see. So elements shrink towards the bounds, and the polynomials have lower
# degrees there. Closer than `_CUT` everything has its stationary shape at once, as what happens there takes no time:
# those functions are eliminated from the equation. Farther than `_NEAR` elements are short, as drift carries fronts
# through them that jumps hardly spread.

#: distance from a bound up to which functions move in time, and up to which elements are short.
_CUT, _NEAR = 3e-5, 0.1
#: ratios of successive distances: of short elements, of others, and of those beyond the cut.
_SHORT, _RATIO, _COARSE = 0.7, 0.3, 0.1
#: degree of polynomials beyond the cut, and next to it; from which distance on they have the highest.
_STILL, _LOWEST, _FULL = 4, 3, 0.5
#: layers beyond the cut: those below the distance at which drift is as strong as jumps, and the most.
_BELOW, _MOST_LAYERS = 4, 45
#: alpha is held this far from 1 and 2, where k is a logarithm and a spike.
_MARGIN = 1e-8
#: points by which a Gauss rule exceeds the degree, where k is smooth.
_MORE = 6


@cache
def _gauss(n: int) -> tuple[Array, Array]:
    """Nodes and weights on (-1, 1)."""
    return np.polynomial.legendre.leggauss(n)


def _legendre(x: Array, n: int) -> Array:
    """The first n Legendre polynomials, (..., n)."""
    return np.asarray(np.polynomial.legendre.legvander(x, n - 1), dtype=np.float64)


def _bubbles(s: Array, n: int) -> Array:
    """Integrals of the Legendre polynomials P_1, ..., P_(n-1) from the end of an element, which vanish at both ends."""
    p, j = _legendre(s, n + 1), np.arange(1, n)
    return np.asarray((p[..., 2:] - p[..., :-2]) / (2.0 * (2.0 * j + 1.0)))


@dataclass(frozen=True)
class _Elements:
    """Elements from -1 to 1, and the functions on them: hats around the ends between them, then bubbles inside.

    first, last: (E,) distances of both ends of every element from the nearer bound. upper: (E,) whether that is 1.
    degree: (E,). still: (E,) beyond the cut.
    """

    first: Array
    last: Array
    upper: NDArray[np.bool_]
    degree: Index
    still: NDArray[np.bool_]

    @cached_property
    def h(self) -> Array:
        """Lengths."""
        return np.abs(self.last - self.first)

    @cached_property
    def n(self) -> int:
        """One more than the highest degree of a derivative."""
        return int(self.degree.max())

    @cached_property
    def bubble(self) -> tuple[Index, Index]:
        """Element and degree of the derivative of every bubble."""
        element, degree = np.nonzero((np.arange(self.n) >= 1) & (np.arange(self.n) < self.degree[:, None]))
        return element, degree

    @cached_property
    def moving(self) -> NDArray[np.bool_]:
        """Functions that are not all beyond the cut."""
        hats = ~(self.still[1:] & self.still[:-1])
        return np.concatenate([hats, ~self.still[self.bubble[0]]])

    def of(self, s: Array) -> Array:
        """Every function at s (q,) in (-1, 1) of every element: (E, q, functions)."""
        hats, (element, degree) = len(self.h) - 1, self.bubble
        value = np.zeros((len(self.h), len(s), hats + len(element)))
        at = np.arange(hats)
        value[at, :, at], value[at + 1, :, at] = 0.5 * (1.0 + s), 0.5 * (1.0 - s)
        value[element, :, hats + np.arange(len(element))] = _bubbles(s, self.n)[:, degree - 1].T
        return value

    def at(self, x: float) -> Array:
        """Every function at a point x, (functions,)."""
        d, upper = 1.0 - abs(x), x > 0.0
        low, high = np.minimum(self.first, self.last), np.maximum(self.first, self.last)
        e = int(np.flatnonzero((self.upper == upper) & (low <= d) & (d <= high))[0])
        s = 2.0 * (d - self.first[e]) / (self.last[e] - self.first[e]) - 1.0
        return self.of(np.array([s]))[e, 0]

    @cached_property
    def _whole(self) -> tuple[Array, Array, Array]:
        """Functions, their slopes, and weights of a quadrature over all elements: (E, q, functions) twice, (E, q)."""
        s, weight = _gauss(self.n + 2)
        slope, hats, (element, degree) = np.zeros_like(self.of(s)), len(self.h) - 1, self.bubble
        at = np.arange(hats)
        slope[at, :, at], slope[at + 1, :, at] = 1.0 / self.h[:-1, None], -1.0 / self.h[1:, None]
        slope[element, :, hats + np.arange(len(element))] = _legendre(s, self.n)[:, degree].T / self.h[element, None]
        return self.of(s), slope, 0.5 * weight * self.h[:, None]

    @cached_property
    def mass(self) -> Array:
        """int phi_i phi_j."""
        value, _, weight = self._whole
        return np.asarray(np.einsum("eq,eqi,eqj->ij", weight, value, value, optimize=True))

    @cached_property
    def drift(self) -> Array:
        """int phi_i phi_j'."""
        value, slope, weight = self._whole
        return np.asarray(np.einsum("eq,eqi,eqj->ij", weight, value, slope, optimize=True))

    @cached_property
    def moments(self) -> tuple[Array, Array]:
        """int phi_i and int x phi_i."""
        value, _, weight = self._whole
        s = _gauss(self.n + 2)[0]
        d = self.first[:, None] + 0.5 * (s + 1.0) * (self.last - self.first)[:, None]
        x = np.where(self.upper[:, None], 1.0 - d, d - 1.0)
        return np.einsum("eq,eqi->i", weight, value), np.einsum("eq,eqi->i", weight * x, value)

    @cached_property
    def root(self) -> Array:
        """Cholesky root of the mass of the functions that move."""
        return np.asarray(cholesky(self.mass[np.ix_(self.moving, self.moving)], lower=True))

    def kernel(self, alpha: float) -> Array:
        """Integrals of |x - y|^(1 - alpha) with Legendre polynomials per length on x and y, (E, n, E, n)."""
        power, n, h = 1.0 - alpha, self.n, self.h
        s, weight = _gauss(n + _MORE)
        d = self.first[:, None] + 0.5 * (s + 1.0) * (self.last - self.first)[:, None]
        d, upper, number = d.ravel(), np.repeat(self.upper, len(s)), np.repeat(np.arange(len(h)), len(s))
        apart = np.where(upper[:, None] == upper, np.abs(d[:, None] - d), 2.0 - d[:, None] - d)
        near = np.abs(number[:, None] - number) <= 1
        k = np.where(near, 0.0, np.where(near, 1.0, apart) ** power).reshape(len(h), len(s), len(h), len(s))
        weighted = 0.5 * weight[:, None] * _legendre(s, n)
        k = np.einsum("eqfr,qi,rj->eifj", k, weighted, weighted, optimize=True)
        e = np.arange(len(h))
        k[e, :, e] = (0.25 * (0.5 * h) ** power)[:, None, None] * _with_itself(n, power)
        k[e[:-1], :, e[1:]] = beside = _with_the_next(n, power, h)
        k[e[1:], :, e[:-1]] = beside.transpose(0, 2, 1)
        return np.asarray(k)


def _with_itself(n: int, power: float) -> Array:
    """int int P_i(s) P_j(t) |s - t|^power over (-1, 1)², (n, n)."""
    u, outer = roots_jacobi(n + 1, 0.0, power)
    u, (t, inner) = u + 1.0, _gauss(n + 1)
    half = 0.5 * (2.0 - u)[:, None]
    t = half * (t + 1.0) - 1.0
    one = np.einsum(
        "a,ab,abi,abj->ij", outer, half * inner, _legendre(t + u[:, None], n), _legendre(t, n), optimize=True
    )
    return np.asarray(one + one.T)


def _with_the_next(n: int, power: float, h: Array) -> Array:
    """The same of an element and the next, in place of (-1, 1)², per length, (E - 1, n, n).

    With distances xi and eta from the end between them, in lengths, the square is two triangles, eta = xi tau and the
    other way round, on which the distance is xi (h + h' tau).
    """
    xi, outer = roots_jacobi(n + 2, 0.0, 1.0 + power)
    xi, outer = 0.5 * (xi + 1.0), outer / 2.0 ** (2.0 + power)
    tau, inner = _gauss(n + 2 * _MORE)
    tau, inner = 0.5 * (tau + 1.0), 0.5 * inner
    before, after = (_legendre(sign * (2.0 * xi - 1.0), n) for sign in (-1.0, 1.0))
    both = xi[:, None] * tau
    before_both, after_both = (_legendre(sign * (2.0 * both - 1.0), n) for sign in (-1.0, 1.0))
    wide = np.einsum("a,ai,abj->bij", outer, before, after_both, optimize=True)
    high = np.einsum("a,abi,aj->bij", outer, before_both, after, optimize=True)
    first, second = h[:-1, None], h[1:, None]
    return np.asarray(
        np.einsum("eb,bij->eij", inner * (first + second * tau) ** power, wide)
        + np.einsum("eb,bij->eij", inner * (first * tau + second) ** power, high)
    )


@lru_cache(maxsize=64)
def _elements(layers: int, degree: int) -> _Elements:
    """layers: of elements beyond the cut at each bound. degree: the highest, in the middle."""
    inwards = [1.0]
    while inwards[-1] > _CUT:
        inwards.append(inwards[-1] * (_SHORT if inwards[-1] > _NEAR else _RATIO))
    inwards += [inwards[-1] * _COARSE**k for k in range(1, layers + 1)]
    ends = np.array([0.0, *inwards[::-1]])
    still = np.arange(len(ends) - 1) < layers
    risen = 1.0 - np.log(_FULL / (0.5 * (ends[1:] + ends[:-1]))) / math.log(_FULL / _CUT)
    rising = np.round(_LOWEST + (degree - _LOWEST) * risen.clip(0.0, 1.0))
    first, last = (np.concatenate([a, b[::-1]]) for a, b in ((ends[:-1], ends[1:]), (ends[1:], ends[:-1])))
    degrees, beyond = (np.concatenate([of, of[::-1]]) for of in (np.where(still, _STILL, rising), still))
    return _Elements(first, last, np.repeat([False, True], len(still)), degrees.astype(np.int64), beyond)


def _layers(w: float, c: float, alpha: float) -> int:
    """How many layers beyond the cut it takes to see the shape of u next to a bound."""
    if abs(w) <= c:
        return 0
    equal = math.log10(abs(w) / c) / (alpha - 1.0)
    return int(np.clip(math.ceil(equal + math.log10(_CUT)) + _BELOW, 0, _MOST_LAYERS))


@dataclass(frozen=True)
class Exits:
    """Densities of the time at which a motion leaves (-1, 1), from any start, as sums of exponentials.

    elements: of the equation. rates: (k,), complex. modes: (functions, k). weight: (k, 2), of leaving below and above.
    """

    elements: _Elements
    rates: Array
    modes: Array
    weight: Array

    def density(self, start: float, t: Array) -> Array:
        """Density of leaving below and above at times t (m,), (2, m)."""
        at = self.elements.at(start)[self.elements.moving]
        parts = (at @ self.modes)[:, None] * self.weight
        return np.asarray((parts.T @ np.exp(np.outer(self.rates, t))).real)


def jumps_out(start: float, c: float, alpha: float) -> Array:
    """Density at time 0 of leaving (-1, 1) below and above, (2,): by a jump, from where a motion starts."""
    per_unit = c * gamma(1.0 + alpha) * math.sin(0.5 * math.pi * min(alpha, 2.0 - _MARGIN)) / math.pi
    return np.asarray(per_unit / alpha * np.array([1.0 + start, 1.0 - start]) ** -alpha)


@lru_cache(maxsize=64)
def exits(w: float, c: float, alpha: float, degree: int) -> Exits:
    """The exits of dx = w dt + dL, E exp(i k L(t)) = exp(-c t |k|^alpha), 1 <= alpha <= 2, from (-1, 1).

    degree: of the polynomials in the middle. With 10, densities from a start that is not next to a bound have a
    divergence below 1e-8 from exact ones, and below 1e-5 where a drift of several c meets an alpha below 1.1.

    >>> found = exits(1.0, 0.5, 2.0, 10)
    >>> print(found.density(0.0, np.array([0.5])).ravel().round(5))
    [0.11881 0.8779 ]
    """
    alpha = min(max(alpha, 1.0 + _MARGIN), 2.0 - _MARGIN)
    on = _elements(_layers(w, c, alpha), degree)
    k = on.kernel(alpha) * (c / (-2.0 * gamma(2.0 - alpha) * math.cos(0.5 * math.pi * alpha)))
    rows = np.concatenate([k[:-1, 0] - k[1:, 0], k[on.bubble]])
    # The slope of (1 + x) / 2 is 1/2 everywhere: that part of u has both its values outside.
    lifted = 0.5 * (rows[:, :, 0] @ on.h)
    jumps = np.concatenate([rows[:, :-1, 0] - rows[:, 1:, 0], rows[:, *on.bubble]], axis=1)
    operator = w * on.drift - 0.5 * (jumps + jumps.T)
    whole, moment = on.moments
    stationary = np.linalg.solve(operator, lifted - 0.5 * w * whole)
    above = on.mass @ stationary + 0.5 * (whole + moment)
    moves, still = np.flatnonzero(on.moving), np.flatnonzero(~on.moving)
    follows = np.linalg.solve(operator[np.ix_(still, still)], operator[np.ix_(still, moves)])
    moving = operator[np.ix_(moves, moves)] - operator[np.ix_(moves, still)] @ follows
    inner = solve_triangular(on.root, solve_triangular(on.root, moving, lower=True).T, lower=True).T
    rates, vectors = eig(inner)
    begun = solve_triangular(on.root, np.stack([whole - above, above], 1)[moves], lower=True)
    weight = -rates[:, None] * np.linalg.solve(vectors, begun)
    return Exits(on, rates, solve_triangular(on.root.T, vectors, lower=False), weight)

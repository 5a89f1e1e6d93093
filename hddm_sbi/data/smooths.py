"""Smooth functions of a covariate as columns: s(), a penalised spline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hddm_sbi.data.design import Term
from hddm_sbi.data.formulae_parts import NaturalCubicSpline
from hddm_sbi.types import Array

# s: f(x) = b x' + sum_j u_j Z_j(x), u_j ~ N(0, sd²), with x' the standardised covariate. Z spans the natural cubic
# splines through k knots but for the straight lines, rotated and scaled so that sum u² is the integral of f''(x)², as
# of mgcv's s(x, bs="cr") in brms (Wood 2004), and then by one number, so that sd is that of the wiggles over trials.

#: knots of s(), as in mgcv.
_KNOTS = 10
#: of s(), at least.
_FEWEST = 3


@dataclass(frozen=True)
class SmoothTerm(Term):
    """s(x): `matrix` has the straight line, wiggles (n_cells, k) what bends it, of unit variance together."""

    wiggles: Array

    @classmethod
    def of(cls, name: str, columns: Array) -> SmoothTerm:
        """From the columns that `s` makes."""
        return cls(name, None, columns[:, :1], columns[:, 1:])


class Spline:
    """s(x, k=10): the straight line and then the wiggles of a spline through k knots, (n, k - 1).

    The first call finds knots and scales, for later ones: formulae keeps one such object per term.
    """

    #: formulae's word for a function that remembers.
    __stateful_transform__ = True

    def __init__(self) -> None:
        self._spline: NaturalCubicSpline | None = None

    def __call__(self, *covariates: Any, k: int = _KNOTS, **others: Any) -> Array:
        """The columns for a covariate (n,)."""
        if self._spline is None:
            return self._first(_covariate(covariates, others), k)
        line, wiggles = self._columns(_covariate(covariates, others))
        return np.hstack([line, (wiggles - self._mean) / self._scale])

    def _first(self, numbers: Array, k: int) -> Array:
        _check_knots(numbers, k)
        self._spline, self._centre, self._spread = NaturalCubicSpline(), numbers.mean(), numbers.std()
        standardised = (numbers - self._centre) / self._spread
        basis = self._spline(standardised, df=k - 1)
        columns = self._spline.to_random()
        # to_random() turns the columns of the spline; what turns them here turns them elsewhere.
        self._rotation = np.linalg.lstsq(basis, columns, rcond=None)[0]
        line, wiggles = np.split(columns, [1], axis=1)
        self._mean = wiggles.mean(0)
        wiggles -= self._mean
        self._scale = np.sqrt((wiggles**2).mean(0).sum())
        return np.hstack([line, wiggles / self._scale])

    def _columns(self, numbers: Array) -> tuple[Array, Array]:
        assert self._spline is not None
        columns = self._spline((numbers - self._centre) / self._spread) @ self._rotation
        line, wiggles = np.split(columns, [1], axis=1)
        return line, wiggles


def _covariate(covariates: tuple[Any, ...], others: dict[str, Any]) -> Array:
    """The one covariate of s(). Raises ValueError for any other arguments."""
    if len(covariates) != 1 or others:
        raise ValueError(
            "s() has one covariate and k=, the number of its knots, as in s(x, k=6); it is the same curve for all "
            "levels of other columns, whose own curves are written with columns of them, condition:cr(x, df=4)"
        )
    return _numbers("s", covariates[0])


def _check_knots(numbers: Array, k: Any) -> None:
    """Raise ValueError for a number of knots that this covariate cannot have."""
    n = len(np.unique(numbers))
    if n < _FEWEST:
        raise ValueError(
            f"s() needs a covariate of {_FEWEST} or more different values, and this one has {n}: leave s() out"
        )
    if isinstance(k, bool) or not isinstance(k, int) or not _FEWEST <= k <= n:
        raise ValueError(
            f"the knots of s() are a whole number from {_FEWEST} to the number of different values of its covariate, "
            f"{n}; got k={k!r}: write s(x, k={min(n, 5)}), for instance"
        )


def _numbers(name: str, x: Any) -> Array:
    """A covariate. Raises ValueError for one that is no finite numbers."""
    found = np.asarray(x)
    if found.ndim != 1 or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise ValueError(f"{name}() takes a column of finite numbers; of a factor, write the column itself")
    return found.astype(np.float64)


#: the smooths that a formula may call, by name, and the term that their columns make.
SMOOTHS: dict[str, Callable[..., Any]] = {"s": Spline}
SMOOTH_TERMS: dict[str, Callable[[str, Array], Term]] = {"s": SmoothTerm.of}

# SPDX-License-Identifier: Apache-2.0
"""Means and second moments of paired activations: all that a stitch is fitted to."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer, named
from ._counting import (
    Bounds,
    bounds_of,
    counted_pairs,
    estimated_bounds,
    given_bounds,
    new_moments,
)
from ._inputs import Acts, Stream
from ._pairs import Pairs, paired_blocks
from ._progress import Meter, Progress
from .norms import RowReport, StreamRows
from .pairing import owner_of, refuse_unpaired
from .reports import SutureWarning
from .rows import NORM_BOUND, as_rows

__all__ = ["Moments"]

Float64 = npt.NDArray[np.float64]


class Moments:
    """Streaming means and covariances of the activations of two models on the same tokens.

    Gathered in float64, in memory that does not depend on the number of tokens. Moments of parts
    of the data, merged in any order, equal those of one pass to 1e-10.

    Rows of enormous norm do not count by default: the moments have a bound on the norms of each
    stream, which stays with them. It is estimated from the first activations they see (none from
    fewer than 16 rows), unless it is given. Who gathers parts of the data in several places
    computes the bounds once (`norm_bound`) and gives them to all; moments with estimated ones merge
    if the smaller bound leaves out the same rows of both.

    Args:
        acts_a: activations of model A, (N, d_a) or (batch, position, d_a); an array, a path, or
            an iterable of those.
        acts_b: activations of model B on the same tokens, row by row.
        pairs: (rows_a, rows_b), two equally long arrays of row numbers, as from `suture.align`: row
            rows_a[i] of A goes with row rows_b[i] of B. None: row i of both, as many on each side.
            Ascending ones are read in one walk, from iterators too.
        rows: which rows count: a `suture.Rows`, or a mask (N,), with `pairs` (P,).
        norm_bound_a, norm_bound_b: norms beyond which rows do not count, in place of the multiple
            in `rows`; both or none, math.inf for no bound.
        d_a, d_b: widths, for moments that begin empty.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> h_a = rng.normal(size=(100, 4)).astype(np.float32)
    >>> h_b = rng.normal(size=(100, 6)).astype(np.float32)
    >>> moments = suture.Moments(h_a, h_b)
    >>> moments
    Moments(100 tokens, d_a=4, d_b=6)
    >>> bool(np.allclose(moments.mean_a, h_a.mean(0)))
    True
    """

    def __init__(
        self,
        acts_a: Acts = None,
        acts_b: Acts = None,
        *,
        pairs: Pairs = None,
        rows: Any = None,
        norm_bound_a: float | None = None,
        norm_bound_b: float | None = None,
        d_a: int | None = None,
        d_b: int | None = None,
        progress: Progress = True,
    ) -> None:
        if (acts_a is None) != (acts_b is None):
            missing = "acts_a" if acts_a is None else "acts_b"
            raise TypeError(f"{missing} is None, expected activations: they come in pairs")
        chosen = as_rows(rows)
        bounds = given_bounds(norm_bound_a, norm_bound_b)
        if bounds is None and chosen.norm_bound is None:
            bounds = math.inf, math.inf, False
        self._multiple = chosen.norm_bound
        if acts_a is None:
            for name, value in (("pairs", pairs), ("rows", rows if chosen.selects else None)):
                if value is not None:
                    raise TypeError(
                        f"{name} is given without acts_a and acts_b, expected the rows that it is "
                        "about"
                    )
            # The core takes any width; so many that the covariances fit in memory are its limit.
            width_a = integer("d_a", d_a, 1, 2**31 - 1)
            width_b = integer("d_b", d_b, 1, 2**31 - 1)
            self._core = _core.moments_create(width_a, width_b)
            if bounds is not None:
                self._core.set_norm_bounds(*bounds)
            return
        a = Stream(acts_a, "acts_a", None if d_a is None else (integer("d_a", d_a, 1), "d_a"))
        b = Stream(acts_b, "acts_b", None if d_b is None else (integer("d_b", d_b, 1), "d_b"))
        check_tokens(acts_a, acts_b, pairs)
        counted = counted_pairs(chosen, acts_a, a, acts_b, b, pairs)
        bounds = bounds or estimated_bounds(chosen.norm_bound, a, b, counted)
        self._core = _gather(a, b, progress, counted, bounds)

    @classmethod
    def _wrap(cls, core: _core.Moments) -> Self:
        self = cls.__new__(cls)
        self._core = core
        self._multiple = NORM_BOUND
        return self

    def update(
        self,
        acts_a: Acts,
        acts_b: Acts,
        *,
        pairs: Pairs = None,
        rows: Any = None,
        progress: Progress = True,
    ) -> Self:
        """Add paired activations, or the rows that `pairs` names; returns these moments.

        If it raises (bad content, Ctrl-C), the moments are as they were before the call. `rows`
        says which of these rows count; its bound on the norms is used by moments that have none
        yet, which are those that began empty.

        >>> import numpy as np, suture
        >>> moments = suture.Moments(d_a=2, d_b=3)
        >>> moments.update(np.ones((5, 2)), np.zeros((5, 3))).tokens
        5
        """
        d_a, d_b, _ = self._core.info()
        a, b = Stream(acts_a, "acts_a", (d_a, "d_a")), Stream(acts_b, "acts_b", (d_b, "d_b"))
        check_tokens(acts_a, acts_b, pairs)
        chosen = as_rows(rows)
        counted = counted_pairs(chosen, acts_a, a, acts_b, b, pairs)
        bounds = bounds_of(self._core)
        if bounds is None:
            multiple = self._multiple if rows is None else chosen.norm_bound
            bounds = estimated_bounds(multiple, a, b, counted)
            self._core.merge(_gather(a, b, progress, counted, bounds))
        else:
            _gather(a, b, progress, counted, bounds, self._core)
        return self

    def merge(self, other: Moments) -> Self:
        """Add the moments of other tokens; returns these moments.

        Raises:
            ValueError: the bounds on the norms differ (see `Moments`), or the widths.

        >>> import numpy as np, suture
        >>> one = suture.Moments(np.ones((5, 2)), np.zeros((5, 3)))
        >>> one.merge(suture.Moments(np.ones((4, 2)), np.ones((4, 3)))).tokens
        9
        """
        instance("other", other, Moments, "Moments")
        if other is self:
            raise ValueError("other is these moments themselves, expected those of other tokens")
        if (other.d_a, other.d_b) != (self.d_a, self.d_b):
            raise ValueError(
                f"other has d_a = {other.d_a} and d_b = {other.d_b}, expected {self.d_a} and "
                f"{self.d_b}"
            )
        self._core.merge(other._core)
        return self

    @property
    def d_a(self) -> int:
        """Width of model A's activations."""
        return self._core.info()[0]

    @property
    def d_b(self) -> int:
        """Width of model B's activations."""
        return self._core.info()[1]

    @property
    def tokens(self) -> int:
        """Pairs of rows that count."""
        return self._core.info()[2]

    @property
    def left_out(self) -> int:
        """Pairs of rows that do not count, because one of the two is beyond its stream's bound."""
        return int(self._core.norms()["left_out"])

    @property
    def norm_bound_a(self) -> float:
        """Norm beyond which rows of A do not count; infinity where there is no bound."""
        return float(self._core.norms()["a"]["norm_bound"])

    @property
    def norm_bound_b(self) -> float:
        """Norm beyond which rows of B do not count; infinity where there is no bound."""
        return float(self._core.norms()["b"]["norm_bound"])

    @property
    def rows(self) -> RowReport:
        """Which rows counted, and how their norms are spread."""
        norms = self._core.norms()
        return RowReport(
            tokens=self.tokens,
            left_out=norms["left_out"],
            a=StreamRows(**norms["a"]),
            b=StreamRows(**norms["b"]),
            carried_by_few=norms["carried_by_few"],
        )

    def _read(self, index: int, shape: tuple[int, ...]) -> Float64:
        out = np.empty(shape, np.float64)
        targets: list[Float64 | None] = [None] * 5
        targets[index] = out
        self._core.read_into(*targets)
        return out

    @property
    def mean_a(self) -> Float64:
        """(d_a,) mean of A's rows."""
        return self._read(0, (self.d_a,))

    @property
    def mean_b(self) -> Float64:
        """(d_b,) mean of B's rows."""
        return self._read(1, (self.d_b,))

    @property
    def cov_aa(self) -> Float64:
        """(d_a, d_a) covariance of A's rows, divided by the number of tokens."""
        return self._read(2, (self.d_a, self.d_a))

    @property
    def cov_ab(self) -> Float64:
        """(d_a, d_b) cross-covariance."""
        return self._read(3, (self.d_a, self.d_b))

    @property
    def cov_bb(self) -> Float64:
        """(d_b, d_b) covariance of B's rows."""
        return self._read(4, (self.d_b, self.d_b))

    def to_bytes(self) -> bytes:
        """Everything, as bytes with a version and a checksum.

        >>> import numpy as np, suture
        >>> moments = suture.Moments(np.ones((5, 2)), np.zeros((5, 3)))
        >>> suture.Moments.from_bytes(moments.to_bytes()).tokens
        5
        """
        return self._core.serialize()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Moments from `to_bytes`.

        Raises:
            FormatError: `data` is damaged, cut short or something else.

        >>> import suture
        >>> suture.Moments.from_bytes(b"abc")
        Traceback (most recent call last):
        suture.FormatError: ...
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is a {type(data).__name__}, expected bytes")
        with named(moments="data"):
            return cls._wrap(_core.moments_deserialize(data))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).from_bytes, (self.to_bytes(),), {"_multiple": self._multiple}

    def __repr__(self) -> str:
        d_a, d_b, tokens = self._core.info()
        return f"Moments({tokens} tokens, d_a={d_a}, d_b={d_b})"


def _gather(
    a: Stream,
    b: Stream,
    progress: Progress,
    pairs: Pairs,
    bounds: Bounds,
    known: _core.Moments | None = None,
) -> _core.Moments:
    """One pass, added to `known` as a whole or not at all."""
    total, blocks = paired_blocks(a, b, pairs)
    # The core adds one block as a whole; into new moments, an update with a few rows would cost
    # three more covariances.
    single = a.is_one_block and b.is_one_block
    core = known if known is not None and single else new_moments(a.cols, b.cols, bounds)
    with Meter(progress, "moments", total) as meter:
        for block in blocks:
            report = meter.part(block.start, len(block))
            with named(h_a=(a.name, block.first_a), h_b=(b.name, block.first_b)):
                if block.rows_a is None or block.rows_b is None:
                    core.update(block.h_a, block.h_b, report)
                else:
                    core.update_pairs(block.h_a, block.h_b, block.rows_a, block.rows_b, report)
    if known is not None and core is not known:
        known.merge(core)
        return known
    return core


def warn_of_few_rows(function: str, moments: Moments) -> None:
    """Says so where a few rows have much of the variance."""
    rows = moments.rows
    if rows.carried_by_few:
        warnings.warn(f"{function}: {rows.warning()}", SutureWarning, stacklevel=3)


def moments_of(
    acts_a: Acts | Moments,
    acts_b: Acts,
    progress: Progress,
    d: tuple[int, int] | None = None,
    pairs: Pairs = None,
    rows: Any = None,
    bounds: Bounds | None = None,
) -> Moments:
    """Moments as they are given, or of activations of the expected widths; the bounds on their
    norms are `bounds`, or follow from `rows`."""
    if isinstance(acts_a, Moments):
        for name, value in (("acts_b", acts_b), ("pairs", pairs), ("rows", rows)):
            if value is not None:
                raise TypeError(
                    f"{name} is a {type(value).__name__}, expected None beside moments as acts_a"
                )
        if d is not None and (acts_a.d_a, acts_a.d_b) != d:
            raise ValueError(
                f"acts_a is {acts_a!r}, expected moments with d_a = {d[0]} and d_b = {d[1]}"
            )
        return acts_a
    for name, acts in (("acts_a", acts_a), ("acts_b", acts_b)):
        if acts is None:
            raise TypeError(f"{name} is None, expected activations (or moments as acts_a)")
    a = Stream(acts_a, "acts_a", d and (d[0], "d_a"))
    b = Stream(acts_b, "acts_b", d and (d[1], "d_b"))
    check_tokens(acts_a, acts_b, pairs)
    chosen = as_rows(rows)
    counted = counted_pairs(chosen, acts_a, a, acts_b, b, pairs)
    limits = bounds or estimated_bounds(chosen.norm_bound, a, b, counted)
    return Moments._wrap(_gather(a, b, progress, counted, limits))


def check_tokens(acts_a: Acts, acts_b: Acts, pairs: Pairs) -> None:
    """Refuses two `Activations`, or blocks of them, whose tokens differ, unless `pairs` says which
    rows go together."""
    a, b = owner_of(acts_a), owner_of(acts_b)
    if pairs is None and a is not None and b is not None and a is not b:
        refuse_unpaired(a, b, "acts_a", "acts_b")

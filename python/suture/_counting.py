# SPDX-License-Identifier: Apache-2.0
"""From `suture.Rows` to the pairs of rows that are read, and the bounds on their norms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import real
from ._inputs import Acts, Stream
from ._pairs import Pairs, row_pairs
from .norms import bound_of
from .rows import Rows, last_of_each, refuse_iterator, token_index

Int64 = npt.NDArray[np.int64]
Bounds = tuple[float, float, bool]
"""Norms beyond which rows of A and of B do not count, and whether they are estimates."""

NONE, ESTIMATED, GIVEN = 0, 1, 2
"""Whose bounds moments have, as suture_norms_report says it."""


def given_bounds(norm_bound_a: Any, norm_bound_b: Any) -> Bounds | None:
    """Bounds of the caller's, checked; None if there are none."""
    if norm_bound_a is None and norm_bound_b is None:
        return None
    for name, value, other in (
        ("norm_bound_a", norm_bound_a, "norm_bound_b"),
        ("norm_bound_b", norm_bound_b, "norm_bound_a"),
    ):
        if value is None:
            raise TypeError(f"{name} is None beside {other}, expected both; math.inf is no bound")
    return _bound("norm_bound_a", norm_bound_a), _bound("norm_bound_b", norm_bound_b), False


def _bound(name: str, value: Any) -> float:
    if isinstance(value, float) and value == math.inf:
        return value
    return real(name, value, above=True)


def counted_pairs(
    rows: Rows, acts_a: Acts, a: Stream, acts_b: Acts, b: Stream, pairs: Pairs
) -> Pairs:
    """`pairs` without those that do not count, but for their norms; None: row i of both, all."""
    if not rows.selects:
        return pairs
    refuse_iterator(rows, a)
    refuse_iterator(rows, b)
    if pairs is None and a.total != b.total:
        return None  # refused where they are paired
    chosen = None if pairs is None else row_pairs(pairs, a.total, b.total, a.name, b.name)
    count = a.total or 0 if chosen is None else len(chosen[0])
    kept = np.ones(count, np.bool_)
    if rows.mask is not None:
        name = f"{a.name} and {b.name}" if chosen is None else "pairs"
        kept &= Rows(mask=rows.mask).select(count, name=name)
    # "last" is of the pairs.
    each = replace(rows, mask=None, positions="all" if rows.positions == "last" else rows.positions)
    sides = [(a, token_index(acts_a), 0), (b, token_index(acts_b), 1)]
    if each.selects:
        for stream, index, number in sides:
            found = each.select(stream.total or 0, name=stream.name, **index)
            kept &= found if chosen is None else found[chosen[number]]
    if rows.positions == "last":
        texts = sides[0][1].get("texts")
        if texts is None:
            Rows(positions="last").select(count, name=a.name)  # refuses it by name
        else:
            kept &= last_of_each(kept, texts if chosen is None else texts[chosen[0]])
    if not kept.any():
        raise ValueError(f"rows is {rows!r}, which leaves none of the {count} pairs of rows")
    if chosen is None:
        places = np.flatnonzero(kept)
        return None if len(places) == count else (places, places)
    return chosen[0][kept], chosen[1][kept]


def estimated_bounds(multiple: float | None, a: Stream, b: Stream, pairs: Pairs) -> Bounds:
    """Bounds that follow from a sample of the rows that are paired."""
    if multiple is None:
        return math.inf, math.inf, False
    kept: list[Int64 | None] = [None, None]
    if pairs is not None:
        chosen = row_pairs(pairs, a.total, b.total, a.name, b.name)
        kept = list(chosen)
    return bound_of(a, multiple, kept[0]), bound_of(b, multiple, kept[1]), True


def new_moments(d_a: int, d_b: int, bounds: Bounds) -> _core.Moments:
    """Moments with these bounds and no rows yet."""
    core = _core.moments_create(d_a, d_b)
    core.set_norm_bounds(*bounds)
    return core


def bounds_of(core: _core.Moments) -> Bounds | None:
    """The bounds of moments; None of such that have neither bounds nor rows."""
    norms = core.norms()
    if norms["bounds"] == NONE and not core.info()[2]:
        return None
    return norms["a"]["norm_bound"], norms["b"]["norm_bound"], norms["bounds"] == ESTIMATED

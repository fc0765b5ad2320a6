# SPDX-License-Identifier: Apache-2.0
"""From `suture.Rows` to the pairs of rows that are read, and the bounds on their norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import real
from ._counted import kept_rows
from ._inputs import Acts, Stream
from ._pairs import Pairs, row_pairs
from .norms import default_bound
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
        # Where one side does not know its tokens, those of the other are the row's.
        knowing = [side for side in sides if side[1]] or sides[:1]
        for stream, index, number in knowing:
            found = each.select(stream.total or 0, name=stream.name, **index)
            kept &= found if chosen is None else found[chosen[number]]
    if rows.positions == "last":
        for _, index, number in sides:
            texts = index.get("texts")
            if texts is not None:
                kept &= last_of_each(kept, texts if chosen is None else texts[chosen[number]])
                break
        else:
            Rows(positions="last").select(count, name=a.name)  # refuses it by name
    if not kept.any():
        raise ValueError(f"rows is {rows!r}, which leaves none of the {count} pairs of rows")
    if chosen is None:
        places = np.flatnonzero(kept)
        return None if len(places) == count else (places, places)
    return chosen[0][kept], chosen[1][kept]


def common_pairs(
    layers_a: Sequence[tuple[str, Acts]],
    layers_b: Sequence[tuple[str, Acts]],
    rows: Rows,
    pairs: Pairs,
) -> Pairs:
    """`pairs` without those that do not count in some layer, by norms too: what is computed of any
    two layers is then of the same rows. None: row i of both, all."""
    streams = [
        [(acts, Stream(acts, name)) for name, acts in layers] for layers in (layers_a, layers_b)
    ]
    (acts_a, a), (acts_b, b) = streams[0][0], streams[1][0]
    pairs = counted_pairs(rows, acts_a, a, acts_b, b, pairs)
    if rows.norm_bound is None:
        return pairs
    chosen = None if pairs is None else row_pairs(pairs, a.total, b.total, a.name, b.name)
    sides: list[npt.NDArray[np.bool_]] = []
    for number, side in enumerate(streams):
        total = side[0][1].total or 0
        kept = np.ones(total, np.bool_)
        if chosen is not None:
            kept[:] = False
            kept[chosen[number]] = True
        found = kept.copy()
        for acts, stream in side:
            if stream.total != total:
                return pairs  # refused where they are paired
            one = Rows(mask=kept, norm_bound=rows.norm_bound)
            found &= kept_rows(acts, stream, stream.matrices(), one)
        sides.append(found)
    if chosen is None:
        if len(sides[0]) != len(sides[1]):
            return None
        places = np.flatnonzero(sides[0] & sides[1])
        return None if len(places) == len(sides[0]) else (places, places)
    both = sides[0][chosen[0]] & sides[1][chosen[1]]
    return chosen[0][both], chosen[1][both]


def estimated_bounds(multiple: float | None, a: Stream, b: Stream, pairs: Pairs) -> Bounds:
    """Bounds that follow from a sample of the rows that are paired."""
    if multiple is None:
        return math.inf, math.inf, False
    kept: list[Int64 | None] = [None, None]
    if pairs is not None:
        chosen = row_pairs(pairs, a.total, b.total, a.name, b.name)
        kept = list(chosen)
    found = [
        default_bound(stream, multiple, rows) for stream, rows in zip((a, b), kept, strict=True)
    ]
    return found[0], found[1], True


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

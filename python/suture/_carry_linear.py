# SPDX-License-Identifier: Apache-2.0
"""Carrying a probe by paired rows, its logits in A regressed on the rows of B, or a vector."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import named
from ._coded import PairedPart, paired_parts
from ._counting import common_pairs
from ._inputs import Acts, Stream, output
from ._pairs import Pairs, paired_blocks
from ._progress import Meter, Progress
from .moments import check_tokens
from .probe import Probe
from .reports import FitReport, SutureWarning
from .rows import Rows
from .site import Site
from .steering import SteeringVector
from .stitch import Stitch

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProbeCarryReport:
    """What carrying a probe by pairs found.

    Attributes:
        rows: pairs of rows that the regression rests on.
        held_out_rows: pairs that it did not see and that `agreement` is of: one block of 64 in 16,
            of very many blocks some, taken evenly.
        ridge: of the regression, relative to the mean variance of B's coordinates.
        r_squared: (outputs,), share of the variance of each output's logits that B's rows predict
            linearly, by generalised cross-validation; NaN for an output that does not vary.
        agreement: share of the pairs held out of which both probes say the same; NaN without any.
        seconds: time it took.
    """

    rows: int
    held_out_rows: int
    ridge: float
    r_squared: npt.NDArray[np.float64]
    agreement: float
    seconds: float

    def __str__(self) -> str:
        known = self.r_squared[np.isfinite(self.r_squared)]
        said = f", R² {np.median(known):.3f}" if len(known) else ""
        return (
            f"{self.rows} pairs, ridge {self.ridge:.2g}{said}; same decisions on "
            f"{self.agreement:.1%} of {self.held_out_rows} pairs held out"
        )


class _HeldOut:
    """Decisions in A and rows of B of the pairs held out, at most so many blocks, taken evenly."""

    MOST = 256

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._kept: dict[int, list[tuple[Int64, _core.Rows]]] = {}
        self._seen: dict[int, int] = {}
        self._stride = 1

    def add(self, part: PairedPart, places: Int64, numbers: Int64) -> None:
        """Pairs `places` of a part, which are called `numbers` among all pairs."""
        for block in np.unique(numbers // 64).tolist():
            order = self._seen.setdefault(block, len(self._seen))
            if order % self._stride:
                continue
            of_block = places[numbers // 64 == block]
            said = decisions(self._probe, part.part_a.take(of_block))
            self._kept.setdefault(block, []).append((said, part.part_b.take(of_block)))
            if len(self._kept) > self.MOST:
                self._stride *= 2
                self._kept = {
                    one: found
                    for one, found in self._kept.items()
                    if self._seen[one] % self._stride == 0
                }

    def compare(self, carried: Probe) -> tuple[int, float]:
        """How many pairs these are, and the share of equal decisions."""
        pieces = [piece for found in self._kept.values() for piece in found]
        count = sum(len(said) for said, _ in pieces)
        same = sum(int((said == decisions(carried, rows)).sum()) for said, rows in pieces)
        return count, same / count if count else float("nan")


def decisions(probe: Probe, rows: _core.Rows) -> Int64:
    """The number of the class of each row, as `Probe.predict` decides."""
    logits = np.empty((rows.rows, probe._core.info()[0]), np.float32)
    probe._core.logits(rows, output(logits), None)
    single = logits.shape[1] == 1
    return (logits[:, 0] > 0).astype(np.int64) if single else logits.argmax(1)


def carry_probe(
    probe: Probe,
    acts_a: Acts,
    acts_b: Acts,
    pairs: Pairs,
    chosen: Rows,
    place: Site | None,
    ridge: float,
    progress: Progress,
) -> tuple[Probe, ProbeCarryReport]:
    """`suture.carry` of a probe; arguments are checked, `ridge` 0 for cross-validation."""
    start = time.monotonic()
    a = Stream(acts_a, "acts_a", (probe.d_in, "d_in"))
    b = Stream(acts_b, "acts_b")
    check_tokens(acts_a, acts_b, pairs)
    if a.total is None or b.total is None:
        name = a.name if a.total is None else b.name
        if chosen.selects or chosen.asked_bound is not None:
            raise TypeError(
                f"{name} is an iterator, which can be read only once, expected arrays, paths or a "
                "list of them, or no rows"
            )
    else:
        pairs = common_pairs([("acts_a", acts_a)], [("acts_b", acts_b)], chosen, pairs)
    probe._metadata.tell_core()
    moments = _core.moments_create(a.cols, b.cols)
    held = _HeldOut(probe)
    total, blocks = paired_blocks(a, b, pairs)
    seen = 0
    with Meter(progress, "carry", total) as meter:
        for part in paired_parts(blocks, meter):
            mask = np.frombuffer(_core.carry_held_out(seen, part.part_a.rows), np.bool_)
            _add(moments, part, np.flatnonzero(~mask))
            places = np.flatnonzero(mask)
            if len(places):
                _check(part, places)
                held.add(part, places, seen + places)
            seen += len(mask)
            meter.show(seen, total or 0)
    rows = moments.info()[2]
    if rows < 2:
        raise ValueError(
            f"acts_a and acts_b have {rows} pairs of rows that count, expected at least 2"
        )
    if seen < b.cols:
        warnings.warn(
            f"carry: {seen} pairs of rows for the {b.cols} coordinates of acts_b, expected more "
            "rows than coordinates, at best a hundred times as many",
            SutureWarning,
            stacklevel=3,
        )
    r_squared = np.empty(probe._core.info()[0], np.float64)
    with (
        Meter(progress, "regress", None, unit="step") as meter,
        named(h_a="acts_a", h_b="acts_b", moments="acts_a"),
    ):
        made, used = _core.carry_probe(
            moments,
            probe._core,
            len(r_squared),
            ridge,
            None if place is None else place._fields,
            r_squared,
            meter.part(),
        )
    carried = Probe._wrap(made)
    held_out_rows, agreement = held.compare(carried)
    report = ProbeCarryReport(
        rows, held_out_rows, used, r_squared, agreement, time.monotonic() - start
    )
    return carried, report


def _add(moments: _core.Moments, part: PairedPart, places: Int64) -> None:
    if not len(places):
        return
    whole = len(places) == part.part_a.rows
    rows_a = part.part_a if whole else part.part_a.take(places)
    rows_b = part.part_b if whole else part.part_b.take(places)
    with named(h_a=("acts_a", part.rows_a[places]), h_b=("acts_b", part.rows_b[places])):
        moments.update(rows_a, rows_b, part.report)


def _check(part: PairedPart, places: Int64) -> None:
    """Refuses rows held out that are not finite: moments, which say where, do not see them."""
    norms = np.empty(len(places))
    for name, rows, numbers in (
        ("acts_a", part.part_a, part.rows_a),
        ("acts_b", part.part_b, part.rows_b),
    ):
        with named(h=(name, numbers[places])):
            _core.row_norms(rows.take(places), norms, None)


def carry_vector(
    vector: SteeringVector,
    acts_a: Acts,
    acts_b: Acts,
    pairs: Pairs,
    rows: Any,
    place: Site | None,
    ridge: float | None,
    progress: Progress,
) -> tuple[SteeringVector, FitReport]:
    """`suture.carry` of a steering vector; arguments are checked."""
    if vector.mean is None:
        raise ValueError(
            "sae has no mean, expected a steering vector with the mean of its positive texts, from "
            "which z_mean follows in the other model"
        )
    if not isinstance(acts_a, Iterator):
        Stream(acts_a, "acts_a", (vector.d, "d"))
    stitch = Stitch.fit(
        acts_a, acts_b, method="ridge", ridge=ridge, pairs=pairs, rows=rows, progress=progress
    )
    moved = stitch.transfer(vector)
    if place is not None:
        moved.metadata |= place.metadata
    return moved, cast(FitReport, stitch.report)

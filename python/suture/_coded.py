# SPDX-License-Identifier: Apache-2.0
"""Rows as codes, a part at a time: codes of a whole input would not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import _core
from ._arguments import named
from ._inputs import Stream
from ._pairs import Int64, PairedBlock
from ._progress import Meter
from .sae import SAE

CODED_ROWS = 4096
Report = Callable[[int, int], None] | None


def coded(sae: SAE, stream: Stream, meter: Meter) -> Iterator[tuple[_core.Codes, Report]]:
    """Codes of all rows of a stream, in order, and what tells the progress of each part."""
    for first, block in stream.blocks():
        for low in range(0, block.rows, CODED_ROWS):
            part = block.block(low, min(low + CODED_ROWS, block.rows))
            report = meter.part(first + low, part.rows)
            with named(first + low, x=stream.name):
                codes = sae._core.encode(part, report)
            yield codes, report


@dataclass(frozen=True)
class PairedPart:
    """Rows that belong together, as many as are encoded at a time.

    part_a, part_b: the rows; rows_a, rows_b: which rows of the whole inputs these are; report:
    tells the progress of this part.
    """

    part_a: _core.Rows
    part_b: _core.Rows
    rows_a: Int64
    rows_b: Int64
    report: Report


def paired_parts(blocks: Iterator[PairedBlock], meter: Meter) -> Iterator[PairedPart]:
    """All pairs, a part at a time."""
    for block in blocks:
        for start, part_a, part_b in block.parts(CODED_ROWS):
            rows_a, rows_b = block.numbers(start, part_a.rows)
            yield PairedPart(part_a, part_b, rows_a, rows_b, meter.part(start, part_a.rows))


@dataclass(frozen=True)
class CodedPairs:
    """Codes of rows that belong together.

    codes_a, codes_b: of each side's SAE; rows_a: which rows of the whole input on A's side these
    are; report: tells the progress of this part.
    """

    codes_a: _core.Codes
    codes_b: _core.Codes
    rows_a: Int64
    report: Report


def coded_pairs(
    saes: tuple[SAE, SAE], names: tuple[str, str], blocks: Iterator[PairedBlock], meter: Meter
) -> Iterator[CodedPairs]:
    """Codes of all pairs by the two SAEs; `names` are what the caller calls the inputs."""
    for part in paired_parts(blocks, meter):
        with named(x=(names[0], part.rows_a)):
            codes_a = saes[0]._core.encode(part.part_a, part.report)
        with named(x=(names[1], part.rows_b)):
            codes_b = saes[1]._core.encode(part.part_b, part.report)
        yield CodedPairs(codes_a, codes_b, part.rows_a, part.report)

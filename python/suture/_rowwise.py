# SPDX-License-Identifier: Apache-2.0
"""Calls that turn token rows into as many rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import named
from ._inputs import Acts, Stream, output
from ._progress import Meter, Progress

Call = Callable[[_core.Rows, _core.Rows, Callable[[int, int], object] | None], None]


def map_rows(
    acts: Acts,
    name: str,
    cols: tuple[int, str],
    out_cols: int,
    call: Call,
    parameter: str,
    label: str,
    progress: Progress,
) -> npt.NDArray[np.float32]:
    """`call(block, out, progress)` for each block of `acts`; (…, out_cols) with the leading axes
    of a single array. `parameter` is what the core calls its input."""
    stream = Stream(acts, name, cols)
    parts: list[npt.NDArray[np.float32]] = []
    whole = None if stream.total is None else np.empty((stream.total, out_cols), np.float32)
    with Meter(progress, label, stream.total) as meter:
        for start, block in stream.blocks():
            if whole is not None:
                out = whole[start : start + block.rows]
            else:
                out = np.empty((block.rows, out_cols), np.float32)
                parts.append(out)
            if block.rows:
                with named(start, **{parameter: name}):
                    call(block, output(out), meter.part(start, block.rows))
    result = whole if whole is not None else np.concatenate(parts)
    return result if stream.lead is None else result.reshape(*stream.lead, out_cols)

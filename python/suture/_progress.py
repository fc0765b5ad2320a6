# SPDX-License-Identifier: Apache-2.0
"""Progress of long calls: a tqdm bar after two seconds, or the caller's own function."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

Progress = bool | Callable[[int, int], object]
"""`True`: a tqdm bar, if tqdm is installed and the call takes longer than two seconds; `False`:
nothing; a function: called with the work done and the whole work (0 if unknown), often. An
exception that it raises stops the call and comes out of it."""

BAR_AFTER_SECONDS = 2.0


class Meter:
    """Adds up the progress of the parts of one call. Use as a context manager."""

    def __init__(self, progress: Progress, label: str, total: int | None, unit: str = "tok"):
        if not isinstance(progress, bool) and not callable(progress):
            raise TypeError(
                f"progress is {progress!r}, expected True, False or a function of (done, total)"
            )
        self._progress = progress
        self._label = label
        self._total = total
        self._unit = unit
        self._began = time.monotonic()
        self._bar: Any = None
        self._bar_missing = False
        self._notes: dict[str, str] = {}

    def note(self, **values: str) -> None:
        """What the bar shows beside the progress from now on."""
        self._notes = values
        if self._bar is not None:
            self._bar.set_postfix(values, refresh=False)

    def part(self, start: int = 0, size: int | None = None) -> Callable[[int, int], None] | None:
        """What to hand to the core for a part of `size` units that begins at `start`; without a
        size, the core's own count is shown."""
        if self._progress is False:
            return None

        def report(done: int, total: int) -> None:
            if size is None:
                self.show(done, total)
            else:
                self.show(start + (size * done // total if total else 0), self._total or 0)

        return report

    def show(self, done: int, total: int) -> None:
        if callable(self._progress):
            self._progress(done, total)
        elif self._progress:
            self._show_bar(done, total)

    def _show_bar(self, done: int, total: int) -> None:
        if self._bar is None:
            if self._bar_missing or time.monotonic() - self._began < BAR_AFTER_SECONDS:
                return
            try:
                from tqdm.auto import tqdm
            except ImportError:
                self._bar_missing = True
                return
            self._bar = tqdm(desc=self._label, unit=self._unit, unit_scale=True, leave=False)
            self._bar.set_postfix(self._notes, refresh=False)
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> Meter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

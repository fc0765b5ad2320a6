# SPDX-License-Identifier: Apache-2.0
"""The loop of a training run: slices of steps, rows of the history, checkpoints, stopping."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from . import _core
from ._history import RunFolder
from ._progress import Meter, Progress
from ._training_data import TrainingData
from .reports import SutureWarning

Row = dict[str, Any]
Callback = Callable[[Any], object]
Stopped = Literal["tokens", "explained_variance", "exhausted", "interrupted"]


def core_state(core: _core.Trainer) -> dict[str, Any]:
    """Settings and counters of a trainer."""
    state: dict[str, Any] = json.loads(core.description())
    return state


def notes(rows: list[Row]) -> dict[str, str]:
    """What the progress bar says of the newest rows, one for each trainer."""

    def shown(name: str, form: str) -> str:
        return " ".join(format(row[name], form) for row in rows)

    return {
        "explained_variance": shown("explained_variance_average", ".4f"),
        "l0": shown("l0", ".1f"),
        "dead": shown("dead", "d"),
    }


@dataclass
class Loop:
    """Trainers that take their steps together.

    Attributes:
        histories: of each; rows are added to them.
        target: tokens of the trainers at which to stop; None: when the data ends.
        explained_variance: or the moving average at which to stop, of all of them.
        folders: of each, where checkpoints are written; none: they are not.
    """

    cores: list[_core.Trainer]
    histories: list[list[Row]]
    data: TrainingData
    target: int | None
    log_every: int
    progress: Progress = True
    callback: Callback | None = None
    explained_variance: float | None = None
    folders: list[RunFolder] = field(default_factory=list)
    checkpoint_every: int = 0
    several: bool = False

    def run(self) -> Stopped:
        """Runs until it is to stop.

        Raises:
            NumericalError: training diverged; the message names the last checkpoint.
        """
        state = core_state(self.cores[0])
        batch_size: int = state["options"]["batch_size"]
        steps, tokens, begun = state["steps"], state["tokens"], state["tokens"]
        # Steps since the last row; those of calls that were stopped are kept by the core.
        open_steps = state["metrics"]["pending_steps"]
        saved = tokens
        total = None if self.target is None else max(0, self.target - begun)
        with Meter(self.progress, "train", total) as meter:
            while True:
                if self.target is not None and tokens >= self.target:
                    return "tokens"
                if self._reached():
                    return "explained_variance"
                wanted = max(1, self.log_every - open_steps)
                if self.target is not None:
                    wanted = min(wanted, -(-(self.target - tokens) // batch_size))
                if self.folders:
                    wanted = min(wanted, -(-(saved + self.checkpoint_every - tokens) // batch_size))
                shards, count, last = self.data.next(wanted)
                if not count:
                    return self._exhausted(tokens)
                size = count * batch_size
                ends = last or (self.target is not None and tokens + size >= self.target)
                taking = ends or open_steps + count >= self.log_every
                with self.data.named():
                    rows = self._advance(shards, size, taking, meter.part(tokens - begun, size))
                steps, tokens, open_steps = steps + count, tokens + size, open_steps + count
                if taking:
                    open_steps = 0
                    self._add(rows)
                    meter.note(**notes(rows))
                if self.folders and tokens - saved >= self.checkpoint_every:
                    self.save()
                    saved = tokens
                if last and (self.target is None or tokens < self.target):
                    return self._exhausted(tokens)

    def _advance(self, shards: list[_core.Rows], size: int, taking: bool, report: Any) -> list[Row]:
        try:
            like = self.data.like
            sae, others = (None, []) if like is None else (like.sae._core, like.shards)
            return _core.trainers_run(self.cores, shards, sae, others, size, taking, report)
        except _core.NumericalError as error:
            names = [name for folder in self.folders if (name := folder.last())]
            if not names:
                raise
            text = f"{error}; the last checkpoint is {' and '.join(names)}"
            raise _core.NumericalError(text) from None

    def _add(self, rows: list[Row]) -> None:
        for history, row in zip(self.histories, rows, strict=True):
            history.append(row)
        for folder, row in zip(self.folders, rows, strict=False):
            folder.add(row)
        if self.callback is not None:
            self.callback(rows if self.several else rows[0])

    def save(self) -> None:
        """A checkpoint of each."""
        for folder, core in zip(self.folders, self.cores, strict=False):
            folder.save(core)

    def _reached(self) -> bool:
        """Whether the last row of each has the explained variance that is wanted."""
        wanted = self.explained_variance
        return wanted is not None and all(
            history and history[-1]["explained_variance_average"] >= wanted
            for history in self.histories
        )

    def _exhausted(self, tokens: int) -> Stopped:
        if self.target is not None:
            warnings.warn(
                f"acts ended after {tokens} tokens, before tokens = {self.target}; an iterable is "
                "read once",
                SutureWarning,
                stacklevel=4,
            )
        return "exhausted"

# SPDX-License-Identifier: Apache-2.0
"""Affine maps between two residual streams as they are: applied, saved, looked at."""

from __future__ import annotations

import os
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import existing, path_text
from ._inputs import Acts, Array, weight
from ._metadata import Metadata
from ._progress import Progress
from ._rowwise import map_rows
from .reports import FitReport

Float32 = npt.NDArray[np.float32]


class AffineMaps:
    """What a `Stitch` is once it is there, whatever made it."""

    def __init__(
        self,
        P_up: Array,
        b_up: Array,
        P_down: Array,
        b_down: Array,
        *,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        core = _core.stitch_create(
            weight(P_up, "P_up"),
            weight(b_up, "b_up", vector=True),
            weight(P_down, "P_down"),
            weight(b_down, "b_down", vector=True),
        )
        self._set(core, metadata)

    def _set(self, core: _core.Stitch, metadata: dict[str, Any] | None = None) -> None:
        self._core = core
        self._metadata = Metadata(core, metadata)
        self.report: FitReport | None = None

    @classmethod
    def _wrap(cls, core: _core.Stitch, metadata: dict[str, Any] | None = None) -> Self:
        self = cls.__new__(cls)
        self._set(core, metadata)
        return self

    def up(self, h_a: Acts, *, progress: Progress = True) -> Float32:
        """From A to B: `h_a @ P_up + b_up`.

        Args:
            h_a: (N, d_a) or (batch, position, d_a).

        Returns:
            float32, (N, d_b) or (batch, position, d_b).

        >>> import numpy as np, suture
        >>> stitch = suture.Stitch(np.eye(2), np.ones(2), np.eye(2), -np.ones(2))
        >>> stitch.up(np.zeros((1, 2))).tolist()
        [[1.0, 1.0]]
        """
        return self._apply(h_a, "h_a", "up", progress)

    def down(self, h_b: Acts, *, progress: Progress = True) -> Float32:
        """From B to A: `h_b @ P_down + b_down`.

        Args:
            h_b: (N, d_b) or (batch, position, d_b).

        Returns:
            float32, (N, d_a) or (batch, position, d_a).

        >>> import numpy as np, suture
        >>> stitch = suture.Stitch(np.eye(2), np.ones(2), np.eye(2), -np.ones(2))
        >>> stitch.down(np.zeros((1, 2))).tolist()
        [[-1.0, -1.0]]
        """
        return self._apply(h_b, "h_b", "down", progress)

    def round_trip_a(self, h_a: Acts, *, progress: Progress = True) -> Float32:
        """From A to B and back: `down(up(h_a))`.

        >>> import numpy as np, suture
        >>> stitch = suture.Stitch(np.eye(2), np.ones(2), np.eye(2), -np.ones(2))
        >>> stitch.round_trip_a(np.full((1, 2), 3.0)).tolist()
        [[3.0, 3.0]]
        """
        return self.down(self.up(h_a, progress=progress), progress=progress)

    def round_trip_b(self, h_b: Acts, *, progress: Progress = True) -> Float32:
        """From B to A and back: `up(down(h_b))`.

        >>> import numpy as np, suture
        >>> stitch = suture.Stitch(np.eye(2), np.ones(2), np.eye(2), -np.ones(2))
        >>> stitch.round_trip_b(np.full((1, 2), 3.0)).tolist()
        [[3.0, 3.0]]
        """
        return self.up(self.down(h_b, progress=progress), progress=progress)

    def _apply(
        self, h: Acts, name: str, direction: Literal["up", "down"], progress: Progress
    ) -> Float32:
        d_a, d_b = self._core.info()
        cols, out_cols = ((d_a, "d_a"), d_b) if direction == "up" else ((d_b, "d_b"), d_a)
        return map_rows(
            h,
            name,
            cols,
            out_cols,
            lambda block, out, report: self._core.apply(direction, block, out, report),
            "h",
            direction,
            progress,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .safetensors file with the weights and the metadata.

        It is complete or not there: a file of that name is replaced at the end.

        >>> import numpy as np, suture, tempfile, os
        >>> stitch = suture.Stitch(np.eye(2), np.zeros(2), np.eye(2), np.zeros(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stitch.save(os.path.join(folder, "stitch.safetensors"))
        ...     suture.Stitch.load(os.path.join(folder, "stitch.safetensors"))
        Stitch(d_a=2, d_b=2)
        """
        self._metadata.tell_core()
        self._core.save(path_text(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a stitch that `save` wrote.

        Raises:
            OSError: the file cannot be read (`FileNotFoundError`: it is not there).
            FormatError: it is damaged, cut short or something else.

        >>> import suture
        >>> suture.Stitch.load("no/such/file")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        text = path_text(path)
        existing("path", text, "a file that Stitch.save wrote")
        return cls._wrap(_core.stitch_load(text))

    @property
    def d_a(self) -> int:
        """Width of model A's residual stream."""
        return self._core.info()[0]

    @property
    def d_b(self) -> int:
        """Width of model B's residual stream."""
        return self._core.info()[1]

    @property
    def P_up(self) -> Float32:
        """(d_a, d_b), read-only, shares the memory of the stitch."""
        return np.asarray(self._core.weight("P_up"))

    @property
    def b_up(self) -> Float32:
        """(d_b,), read-only, shares the memory of the stitch."""
        return np.asarray(self._core.weight("b_up"))

    @property
    def P_down(self) -> Float32:
        """(d_b, d_a), read-only, shares the memory of the stitch."""
        return np.asarray(self._core.weight("P_down"))

    @property
    def b_down(self) -> Float32:
        """(d_a,), read-only, shares the memory of the stitch."""
        return np.asarray(self._core.weight("b_down"))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the stitch; change it as you like, a save or transfer sees it."""
        return self._metadata.values

    @metadata.setter
    def metadata(self, values: dict[str, Any]) -> None:
        self._metadata.replace(values)

    def __reduce__(self) -> tuple[object, ...]:
        # Copies: the views belong to this process.
        weights = [np.array(w) for w in (self.P_up, self.b_up, self.P_down, self.b_down)]
        return _rebuild, (type(self), weights, dict(self.metadata), self.report)

    def __repr__(self) -> str:
        def side(name: str) -> str:
            model, layer = (self.metadata.get(f"{what}_{name}") for what in ("model", "layer"))
            if model is None:
                return ""
            return f", {name}={model!r}" + (f" layer {layer}" if layer is not None else "")

        return f"Stitch(d_a={self.d_a}, d_b={self.d_b}{side('a')}{side('b')})"


def _rebuild(
    cls: type[AffineMaps],
    weights: list[Float32],
    metadata: dict[str, Any],
    report: FitReport | None,
) -> AffineMaps:
    stitch = cls(*weights, metadata=metadata)
    stitch.report = report
    return stitch

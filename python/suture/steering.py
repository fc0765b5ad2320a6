# SPDX-License-Identifier: Apache-2.0
"""Steering vectors: directions in a residual stream, and how far along them steered text lies."""

from __future__ import annotations

import math
import os
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from . import _core, _gguf
from ._arguments import counted, existing, path_text, real, word
from ._counted import counted_rows
from ._inputs import Acts, Array, Stream, weight
from ._metadata import Metadata, to_json
from ._progress import Meter, Progress
from ._rowwise import map_rows
from .rows import Rows, as_rows, both_sides
from .site import Site, residual_layer, site_of_activations

__all__ = ["SteeringVector"]

Float32 = npt.NDArray[np.float32]
Mode = Literal["clamp", "add", "ablate"]
MODES = ("clamp", "add", "ablate")


class SteeringVector:
    """A direction v in a model's residual stream, and z_mean, how far along it the texts lie that
    are steered to (arXiv 2506.06609, eq. 8-9).

    `SteeringVector.fit` makes one from activations, `SteeringVector.load` from a file,
    `Stitch.transfer` from one of another model, this constructor from arrays.

    Args:
        vector: (d,), of any norm but zero; it is normalised.
        z_mean: mean of <h, v> over the tokens of the positive texts, v the normalised vector.
        mean: (d,), mean activation of the positive texts; a transfer without activations of the
            new model needs it.
        metadata: what is known about it, with SAELens' names: model_name, hook_name, …

    Attributes:
        d: width of the activations.
        z_mean: see above.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> vector = suture.SteeringVector(np.array([0.0, 3.0, 4.0]), z_mean=2.0)
    >>> vector
    SteeringVector(d=3, z_mean=2)
    >>> vector.vector.round(6).tolist()
    [0.0, 0.6000000238418579, 0.800000011920929]
    """

    def __init__(
        self,
        vector: Array,
        z_mean: float,
        *,
        mean: Array = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        core = _core.steering_create(
            weight(vector, "vector", vector=True),
            real("z_mean", z_mean, least=-math.inf),
            None if mean is None else weight(mean, "mean", vector=True),
        )
        self._set(core, metadata)

    def _set(self, core: _core.Steering, metadata: dict[str, Any] | None = None) -> None:
        self._core = core
        self._metadata = Metadata(core, metadata)
        self.d, self.z_mean = core.info()

    @classmethod
    def _wrap(cls, core: _core.Steering, metadata: dict[str, Any] | None = None) -> Self:
        self = cls.__new__(cls)
        self._set(core, metadata)
        return self

    @classmethod
    def fit(
        cls,
        positive: Acts,
        negative: Acts,
        *,
        rows: Any = None,
        metadata: dict[str, Any] | None = None,
        progress: Progress = True,
    ) -> Self:
        """The normalised difference of two means, and z_mean (arXiv 2506.06609, eq. 8).

        Sums are in float64, and the same bits for any number of threads. Nothing is copied but what
        an iterator yields, or views whose rows do not lie in memory.

        Args:
            positive: (N, d) activations of the texts to steer to.
            negative: (M, d) activations of the texts to steer away from.
            rows: which rows count, a `suture.Rows`, or (rows_positive, rows_negative), each one or
                a mask. None: all, as in the paper; `suture.Rows()` leaves those of enormous norm
                out, by the median of either side.
            metadata: model_name, hook_name, …; numbers of tokens are added, and model and layer
                where `positive` is a `suture.Activations` that knows them.
            progress: True for a tqdm bar after two seconds, or a function of (done, total).

        Raises:
            TypeError, ValueError: an argument is not usable, has a value that is not finite, or
                both sides have the same mean, so that there is no direction between them.

        >>> import numpy as np, suture
        >>> vector = suture.SteeringVector.fit(
        ...     positive=np.array([[1.0, 4.0], [1.0, 2.0]]), negative=np.array([[1.0, 0.0]])
        ... )
        >>> vector.vector.tolist(), vector.z_mean, vector.mean.tolist()
        ([0.0, 1.0], 3.0, [1.0, 3.0])
        """
        if metadata is not None:
            to_json(metadata)
        toward = Stream(positive, "positive")
        away = Stream(negative, "negative", (toward.cols, "the width of positive"))
        chosen = _rows_of_sides(rows)
        left, left_starts = _matrices(positive, toward, chosen[0])
        right, right_starts = _matrices(negative, away, chosen[1])
        total = sum(matrix.rows for matrix in (*left, *right))
        with (
            Meter(progress, "steering vector", total) as meter,
            counted("positive", left, left_starts),
            counted("negative", right, right_starts),
        ):
            core = _core.steering_fit(left, right, meter.part())
        return cls._wrap(core, site_of_activations(positive).metadata | (metadata or {}))

    def apply(
        self,
        h: Acts,
        mode: Mode = "clamp",
        strength: float = 1.0,
        *,
        progress: Progress = True,
    ) -> Float32:
        """Steer activations (arXiv 2506.06609, eq. 9).

        - "clamp": `h + (strength · z_mean − <h, v>) v`, the paper's.
        - "add": `h + strength · z_mean · v`.
        - "ablate": `h − <h, v> v`; `strength` has no meaning.

        Args:
            h: (N, d) or (batch, position, d).
            mode: see above.
            strength: factor of z_mean.

        Returns:
            float32, of the shape of `h`.

        >>> import numpy as np, suture
        >>> vector = suture.SteeringVector(np.array([0.0, 1.0]), z_mean=2.0)
        >>> h = np.array([[1.0, 5.0]])
        >>> [vector.apply(h, mode).tolist() for mode in ("clamp", "add", "ablate")]
        [[[1.0, 2.0]], [[1.0, 7.0]], [[1.0, 0.0]]]
        """
        word("mode", mode, MODES)
        amount = real("strength", strength, least=-math.inf)
        return map_rows(
            h,
            "h",
            (self.d, "d"),
            self.d,
            lambda block, out, report: self._core.apply(mode, amount, block, out, report),
            "h",
            "steer",
            progress,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        format: Literal["safetensors", "gguf"] = "safetensors",
        *,
        layer: int | str | Site | None = None,
    ) -> None:
        """Write one file, which is complete or not there.

        "gguf" is a control vector of llama.cpp (`--control-vector FILE`); it needs the package
        gguf. llama.cpp adds the tensor `direction.k` to the output of block k at every position:
        the tensor is `z_mean · v`, what `apply(h, "add")` adds at strength 1, and our layer l, the
        residual stream before block l, is `direction.{l - 1}`; so is what comes from
        `blocks.{l - 1}.hook_resid_post`. It has none for block 0: layers 0 and 1 cannot be said.
        `mean` is not kept.

        Args:
            path: of the file.
            format: "safetensors" or "gguf".
            layer: for "gguf", where the vector acts: a number, a `suture.Site`, or a name of the
                residual stream. None: what the metadata say.

        Raises:
            OSError: the file cannot be written.
            ValueError: there is no layer to say, another stream than the residual one, or z_mean
                is 0.
            UnsupportedError: llama.cpp has no word for the layer.

        >>> import numpy as np, suture, tempfile, os
        >>> vector = suture.SteeringVector(np.array([0.0, 1.0]), z_mean=2.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     vector.save(os.path.join(folder, "vector.safetensors"))
        ...     suture.SteeringVector.load(os.path.join(folder, "vector.safetensors"))
        SteeringVector(d=2, z_mean=2)
        """
        text = path_text(path)
        word("format", format, ("safetensors", "gguf"))
        if format == "gguf":
            to_json(self.metadata)
            at = None if layer is None else residual_layer("layer", layer)
            _gguf.save(text, self.vector, self.z_mean, at, self.metadata)
            return
        if layer is not None:
            raise TypeError(f"layer is {layer!r}, expected None for safetensors: see metadata")
        self._metadata.tell_core()
        self._core.save(text)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, layer: int | str | Site | None = None) -> Self:
        """Read a vector that `save` wrote, or a GGUF control vector of any writer (needs gguf).

        Of a control vector, v is the tensor divided by its norm, and z_mean the norm; one that was
        saved with a negative z_mean comes back with both signs turned, which steers the same.

        Args:
            path: of the file.
            layer: which one, where a control vector has directions for several layers: the residual
                stream before block `layer`, `direction.{layer - 1}`.

        Raises:
            OSError: the file cannot be read (`FileNotFoundError`: it is not there).
            FormatError: it is damaged, cut short or something else.
            ValueError: several directions and no `layer`, or none for it.

        >>> import suture
        >>> suture.SteeringVector.load("no/such/file")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        text = path_text(path)
        existing("path", text, "a file that SteeringVector.save wrote")
        if _gguf.is_gguf(text):
            at = None if layer is None else residual_layer("layer", layer, _gguf.FIRST_LAYER)
            vector, z_mean, metadata = _gguf.load(text, at)
            return cls(vector, z_mean, metadata=metadata)
        if layer is not None:
            raise TypeError(f"layer is {layer!r}, expected None: {text} is no control vector")
        return cls._wrap(_core.steering_load(text))

    @property
    def vector(self) -> Float32:
        """(d,), of norm 1, read-only, shares the memory of the object."""
        return np.asarray(self._core.vector())

    @property
    def mean(self) -> Float32 | None:
        """(d,), mean activation of the positive texts, read-only; None where it is not known."""
        view = self._core.mean()
        return None if view is None else np.asarray(view)

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the vector; change it as you like, a save or transfer sees it."""
        return self._metadata.values

    @metadata.setter
    def metadata(self, values: dict[str, Any]) -> None:
        self._metadata.replace(values)

    def __reduce__(self) -> tuple[object, ...]:
        # Copies: the views belong to this process.
        mean = None if self.mean is None else np.array(self.mean)
        return _rebuild, (type(self), np.array(self.vector), self.z_mean, mean, dict(self.metadata))

    def __repr__(self) -> str:
        parts = [f"d={self.d}", f"z_mean={self.z_mean:.6g}"]
        for name in ("model_name", "hook_name"):
            if name in self.metadata:
                parts.append(f"{name}={self.metadata[name]!r}")
        return f"SteeringVector({', '.join(parts)})"


def _rebuild(
    cls: type[SteeringVector],
    vector: Float32,
    z_mean: float,
    mean: Float32 | None,
    metadata: dict[str, Any],
) -> SteeringVector:
    return cls(vector, z_mean, mean=mean, metadata=metadata)


def _rows_of_sides(rows: Any) -> tuple[Rows, Rows]:
    """Which rows of the positive and of the negative texts count."""
    sides = both_sides(rows, "(rows_positive, rows_negative)")
    found = [Rows.all() if side is None else as_rows(side) for side in sides]
    if not isinstance(rows, tuple) and found[0].mask is not None:
        raise ValueError(
            f"rows is {found[0]!r}, expected (rows_positive, rows_negative): a mask is of one side"
        )
    return found[0], found[1]


def _matrices(acts: Acts, stream: Stream, rows: Rows) -> tuple[tuple[_core.Rows, ...], list[int]]:
    """The rows that count, and the numbers of the first of each matrix."""
    matrices, starts, _ = counted_rows(acts, stream, rows, once=True)
    return tuple(matrices), starts


def transferred(
    core: _core.Stitch,
    vector: SteeringVector,
    direction: str,
    site: tuple[str | None, int | None, str] | None,
    acts: Acts,
    rows: Any,
    progress: Progress,
) -> SteeringVector:
    """What a stitch makes of a vector; z_mean from activations of the new model where given."""
    if acts is None:
        return SteeringVector._wrap(
            core.transfer_steering(vector._core, direction, site, None, None)
        )
    d_a, d_b = core.info()
    stream = Stream(acts, "acts", (d_b, "d_b") if direction == "up" else (d_a, "d_a"))
    every = Rows.all() if rows is None else as_rows(rows)
    matrices, starts = _matrices(acts, stream, every)
    total = sum(matrix.rows for matrix in matrices)
    with Meter(progress, "transfer", total) as meter, counted("acts", matrices, starts):
        moved = core.transfer_steering(vector._core, direction, site, matrices, meter.part())
    return SteeringVector._wrap(moved)

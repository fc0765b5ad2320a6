# SPDX-License-Identifier: Apache-2.0
"""How alike two residual streams are: SVCCA, to choose the pair of layers for a stitch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import named, real
from ._counting import common_pairs
from ._inputs import Acts, Stream, is_array, output
from ._inputs import rows as _rows
from ._pairs import Pairs, paired_blocks, row_pairs
from ._progress import Meter, Progress
from .moments import Moments, moments_of, warn_of_few_rows
from .reports import SutureWarning
from .rows import Rows, as_rows

__all__ = ["SVCCA", "svcca", "svcca_grid"]

_PROJECTED_ROWS = 8192


@dataclass(frozen=True)
class SVCCA:
    """Canonical correlations of two residual streams.

    Attributes:
        mean_correlation: mean canonical correlation, 0 to 1.
        kept_a, kept_b: singular directions kept on each side.

    >>> SVCCA(0.5, 3, 4).mean_correlation
    0.5
    """

    mean_correlation: float
    kept_a: int
    kept_b: int

    def __float__(self) -> float:
        return self.mean_correlation


def svcca(
    acts_a: Acts | Moments,
    acts_b: Acts = None,
    *,
    pairs: Pairs = None,
    rows: Any = None,
    variance_kept: float = 0.99,
    progress: Progress = True,
) -> SVCCA:
    """SVCCA (Raghu et al. 2017) of paired activations.

    Args:
        acts_a: (N, d_a) activations of A, or `Moments` of both models.
        acts_b: (N, d_b) activations of B on the same tokens.
        pairs: (rows_a, rows_b): row rows_a[i] of A goes with row rows_b[i] of B, as from
            `suture.align`. None: row i of both.
        rows: which rows count: a `suture.Rows`, or a mask (N,), with `pairs` (P,). By default rows
            of enormous norm do not, which would make a few directions of most of the variance.
        variance_kept: share of the variance that the singular directions kept on each side hold,
            above 0 and at most 1.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Warns:
        SutureWarning: few of the rows have much of the variance, or there are no more rows than
            dimensions.

    >>> import numpy as np, suture
    >>> h = np.random.default_rng(0).normal(size=(200, 4))
    >>> round(suture.svcca(h, h @ np.diag([1.0, 2.0, 3.0, 4.0])).mean_correlation, 6)
    1.0
    """
    kept = real("variance_kept", variance_kept, above=True, most=1.0)
    with named(moments="acts_a"):
        moments = moments_of(acts_a, acts_b, progress, pairs=pairs, rows=rows)
        warn_of_few_rows("svcca", moments)
        _warn_of_few_tokens("svcca", moments)
        return SVCCA(*moments._core.svcca(kept))


def svcca_grid(
    layers_a: Mapping[Any, Acts] | Sequence[Acts],
    layers_b: Mapping[Any, Acts] | Sequence[Acts],
    *,
    pairs: Pairs = None,
    rows: Any = None,
    variance_kept: float = 0.99,
    progress: Progress = True,
) -> npt.NDArray[np.float64]:
    """Mean canonical correlations between every layer of A and every layer of B.

    The kept directions of each layer are found once, and its rows written in them: memory for 4
    bytes a row and kept direction of all layers of B and one of A, so use a sample of tokens.

    Args:
        layers_a: activations by layer: a mapping, a list, or `suture.Activations`.
        layers_b: likewise, of B, on the same tokens.
        pairs, variance_kept, progress: as in `svcca`.
        rows: which rows count, as in `svcca`: of all pairs of layers the same ones, those within
            the bounds of every layer.

    Returns:
        (layers of A, layers of B), in the order of the mappings or lists.

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> a = {2: rng.normal(size=(50, 3)), 4: rng.normal(size=(50, 3))}
    >>> suture.svcca_grid(a, {1: a[4], 3: a[2] + 1, 5: a[2] * 3}).round(2)[0, 1:].tolist()
    [1.0, 1.0]
    """
    kept = real("variance_kept", variance_kept, above=True, most=1.0)
    a, b = list(_layers(layers_a, "layers_a")), list(_layers(layers_b, "layers_b"))
    pairs = common_pairs(a, b, as_rows(rows), pairs)
    chosen: tuple[Any, Any] = (None, None)
    if pairs is not None:
        chosen = row_pairs(pairs, None, None, "layers_a", "layers_b")
    grid = np.empty((len(a), len(b)))
    steps = grid.size + max(grid.shape)
    with Meter(progress, "SVCCA", steps, unit="step") as meter:
        white_a: list[_core.Stitch] = []
        white_b: list[_core.Stitch] = []
        # Each layer is whitened once; how two of them go together is then a matter of few columns.
        for step in range(max(grid.shape)):
            (name_a, acts_a), (name_b, acts_b) = a[min(step, len(a) - 1)], b[min(step, len(b) - 1)]
            # Row numbers and shapes are those of one layer, so its name goes into messages.
            with named(acts_a=name_a, acts_b=name_b, moments=name_a, h_a=name_a, h_b=name_b):
                found = moments_of(acts_a, acts_b, progress=False, pairs=pairs, rows=Rows.all())
                one, other = found._core.whiten(kept)
            if step == 0:
                _warn_of_few_tokens("svcca_grid", found)
            white_a.append(one)
            white_b.append(other)
            meter.show(step + 1, steps)
        rows_b = [
            _projected(acts, name, white, chosen[1])
            for (name, acts), white in zip(b, white_b, strict=False)
        ]
        done = max(grid.shape)
        for i, (name_a, acts_a) in enumerate(a):
            rows_a = _projected(acts_a, name_a, white_a[i], chosen[0])
            for j, other_rows in enumerate(rows_b):
                found_here = _core.svcca_white(_rows(rows_a, name_a), _rows(other_rows, b[j][0]))
                grid[i, j] = found_here[0]
                done += 1
                meter.show(done, steps)
    return grid


def _warn_of_few_tokens(function: str, moments: Moments) -> None:
    """Says so where any two streams would seem to agree."""
    widest = max(moments.d_a, moments.d_b)
    if 2 <= moments.tokens <= widest:
        warnings.warn(
            f"{function}: {moments.tokens} rows for {widest} dimensions: with so few, streams that "
            "have nothing in common are correlated too",
            SutureWarning,
            stacklevel=3,
        )


def _projected(
    acts: Acts, name: str, white: _core.Stitch, chosen: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.float32]:
    """White coordinates of the chosen rows of a layer, (P, kept) float32; None: of all."""
    d, kept = white.info()
    stream = Stream(acts, name, (d, "d"))
    # In ascending order a layer is walked through once.
    order = None if chosen is None else np.argsort(chosen, kind="stable")
    ascending = None if chosen is None else (chosen[order], chosen[order])
    total, blocks = paired_blocks(stream, stream, ascending)
    result = np.empty((total or 0, kept), np.float32)
    for block in blocks:
        for start, part, _ in block.parts(_PROJECTED_ROWS):
            with named(start, h=name):
                white.apply("up", part, output(result[start : start + part.rows]), None)
    if order is None:
        return result
    placed = np.empty_like(result)
    placed[order] = result
    return placed


def _layers(layers: Any, name: str) -> Iterator[tuple[str, Acts]]:
    if hasattr(layers, "layers") and callable(getattr(layers, "shards", None)):
        layers = {layer: layers.shards(layer) for layer in layers.layers}
    if is_array(layers) or not isinstance(layers, (Mapping, Sequence)) or isinstance(layers, str):
        raise TypeError(
            f"{name} is a {type(layers).__name__}, expected a mapping of layers to activations, a "
            "list of activations, or suture.Activations"
        )
    if not layers:
        raise ValueError(f"{name} is empty, expected at least one layer")
    items = layers.items() if isinstance(layers, Mapping) else enumerate(layers)
    for key, acts in items:
        if isinstance(acts, Iterator):
            raise TypeError(
                f"{name}[{key!r}] is an iterator, which can be read only once, expected "
                "activations that can be read for each pair"
            )
        yield f"{name}[{key!r}]", acts

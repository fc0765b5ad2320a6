# SPDX-License-Identifier: Apache-2.0
"""Metrics of a SAE over a stream of activations."""

from __future__ import annotations

import math
import warnings
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, named, real
from ._counted import taken
from ._inputs import BLOCK_BYTES, Acts, Stream
from ._progress import Meter, Progress
from .norms import default_bound
from .reports import SutureWarning
from .rows import as_rows, stream_mask
from .sae import SAE

__all__ = ["Evaluation"]


class Evaluation:
    """Running metrics of a SAE: update with as many activations as there are, look at any time.

    `SAE.evaluate` is one of these with one update.

    Args:
        sae: the SAE.
        norm_bound: rows beyond this norm are not ordinary; math.inf: all are. None: it follows from
            the first activations, see `update`.

    >>> import numpy as np, suture
    >>> evaluation = suture.Evaluation(suture.SAE.init(4, 16, k=3))
    >>> rng = np.random.default_rng(0)
    >>> for _ in range(3):
    ...     _ = evaluation.update(rng.normal(size=(50, 4)))
    >>> evaluation.metrics["tokens"], evaluation.feature_frequency.shape
    (150, (16,))
    """

    def __init__(self, sae: SAE, *, norm_bound: float | None = None) -> None:
        instance("sae", sae, SAE, "suture.SAE")
        self.sae = sae
        self._core = _core.evaluation_create(sae._core)
        self._has_bound = norm_bound is not None
        if norm_bound is not None:
            unbounded = isinstance(norm_bound, float) and norm_bound == math.inf
            self._core.set_norm_bound(
                math.inf if unbounded else real("norm_bound", norm_bound, above=True)
            )

    def update(self, acts: Acts, *, rows: Any = None, progress: Progress = True) -> Self:
        """Add activations, (N, d_in); returns this evaluation.

        `rows` says which of them are looked at at all: a `suture.Rows` or a mask (N,). Its bound
        on norms says which are ordinary, if no earlier activations and no `norm_bound` have.

        If it raises (bad content, Ctrl-C), the blocks of `acts` before the one at fault (the whole
        of a plain array is one block) have been counted, the rest has not.

        >>> import numpy as np, suture
        >>> evaluation = suture.Evaluation(suture.SAE.init(4, 16, k=3))
        >>> evaluation.update(np.ones((5, 4))).metrics["tokens"]
        5
        """
        stream = Stream(acts, "acts", (self.sae.d_in, "d_in"))
        chosen = as_rows(rows)
        mask = stream_mask(chosen, acts, stream)
        if not self._has_bound:
            if chosen.norm_bound is not None:
                kept = None if mask is None else np.flatnonzero(mask)
                self._core.set_norm_bound(default_bound(stream, chosen.norm_bound, kept))
            self._has_bound = True
        with Meter(progress, "evaluate", stream.total) as meter:
            for start, block in stream.blocks():
                if mask is not None:
                    self._update_some(block, mask[start : start + block.rows])
                    meter.part(start, block.rows)
                elif block.rows:
                    with named(start, x="acts"):
                        self._core.update(block, meter.part(start, block.rows))
        return self

    def _update_some(self, block: _core.Rows, kept: npt.NDArray[np.bool_]) -> None:
        step = max(1, BLOCK_BYTES // (4 * block.cols))
        for low in range(0, block.rows, step):
            high = min(low + step, block.rows)
            part = taken(block.block(low, high), kept[low:high], "acts")
            if part is not None:
                with named(x="acts"):
                    self._core.update(part, None)

    def _warn_of_few_rows(self, function: str, stacklevel: int) -> None:
        found = self._core.report()
        tokens, beyond, share = found["tokens"], found["beyond"], found["share_beyond"]
        if 0 < tokens == beyond:
            warnings.warn(
                f"{function}: all {tokens} rows of acts have norms beyond "
                f"{found['norm_bound']:.4g}: none is ordinary, and their metrics are nan",
                SutureWarning,
                stacklevel=stacklevel,
            )
        if 0 < beyond < tokens / 20 and share > 0.25:
            warnings.warn(
                f"{function}: few rows: {beyond} of {tokens} rows of acts have norms beyond "
                f"{found['norm_bound']:.4g} and {100 * share:.3g} % of the variance: explained "
                f"variance and error are theirs. Of the others, explained_variance_ordinary is "
                f"{found['explained_variance_ordinary']:.4g}",
                SutureWarning,
                stacklevel=stacklevel,
            )

    @property
    def metrics(self) -> dict[str, Any]:
        """What `SAE.evaluate` returns, over all tokens so far."""
        return dict(self._core.report())

    @property
    def feature_frequency(self) -> npt.NDArray[np.float64]:
        """(d_sae,) share of the tokens that each latent fired on."""
        out = np.empty(self.sae.d_sae, np.float64)
        self._core.features_into(len(out), out, None)
        return out

    @property
    def feature_maximum(self) -> npt.NDArray[np.float32]:
        """(d_sae,) largest activation of each latent, 0 if it never fired."""
        out = np.empty(self.sae.d_sae, np.float32)
        self._core.features_into(len(out), None, out)
        return out

    def __repr__(self) -> str:
        return f"Evaluation({self._core.report()['tokens']} tokens, {self.sae!r})"

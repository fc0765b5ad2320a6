# SPDX-License-Identifier: Apache-2.0
"""Metrics of a SAE over a stream of activations."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, named
from ._inputs import Acts, Stream
from ._progress import Meter, Progress
from .sae import SAE

__all__ = ["Evaluation"]


class Evaluation:
    """Running metrics of a SAE: update with as many activations as there are, look at any time.

    `SAE.evaluate` is one of these with one update.

    Args:
        sae: the SAE.

    >>> import numpy as np, suture
    >>> evaluation = suture.Evaluation(suture.SAE.init(4, 16, k=3))
    >>> rng = np.random.default_rng(0)
    >>> for _ in range(3):
    ...     _ = evaluation.update(rng.normal(size=(50, 4)))
    >>> evaluation.metrics["tokens"], evaluation.feature_frequency.shape
    (150, (16,))
    """

    def __init__(self, sae: SAE) -> None:
        instance("sae", sae, SAE, "suture.SAE")
        self.sae = sae
        self._core = _core.evaluation_create(sae._core)

    def update(self, acts: Acts, *, progress: Progress = True) -> Self:
        """Add activations, (N, d_in); returns this evaluation.

        If it raises (bad content, Ctrl-C), the blocks of `acts` before the one at fault (the whole
        of a plain array is one block) have been counted, the rest has not.

        >>> import numpy as np, suture
        >>> evaluation = suture.Evaluation(suture.SAE.init(4, 16, k=3))
        >>> evaluation.update(np.ones((5, 4))).metrics["tokens"]
        5
        """
        stream = Stream(acts, "acts", (self.sae.d_in, "d_in"))
        with Meter(progress, "evaluate", stream.total) as meter:
            for start, block in stream.blocks():
                if block.rows:
                    with named(start, x="acts"):
                        self._core.update(block, meter.part(start, block.rows))
        return self

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

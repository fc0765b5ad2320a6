# SPDX-License-Identifier: Apache-2.0
"""Structural scores: features that depend on how a sentence is built, not on what it says."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arguments import integer, whole_numbers
from .._progress import Meter, Progress
from ..codes import SparseCodes
from ._weights import sparse_codes

__all__ = ["StructuralScore"]


class StructuralScore:
    """Which features are structural: active in a sentence whatever its content words are.

    Each sentence comes with variants that keep its function words and punctuation and replace the
    content words. A feature's score is the number of sentences where it is active (on any token) in
    all variants, divided by the number where it is active in any; at 0.5 and above it counts as
    structural. Streaming: update with as many sentences as there are.

    Args:
        d_sae: number of features.

    >>> import suture
    >>> score = suture.analysis.StructuralScore(3)
    >>> codes = suture.SparseCodes([[0, -1], [0, 1], [0, 2]], [[1.0, 0], [2.0, 1.0], [1.0, 3.0]], 3)
    >>> score.update(codes, lengths=[2, 1], variants=2).score.tolist()
    [1.0, 0.0, 0.0]
    """

    def __init__(self, d_sae: int) -> None:
        self.d_sae: int = integer("d_sae", d_sae, 1, 2**31 - 1)
        """Number of features."""
        self._core = _core.structural_create(self.d_sae)

    def update(
        self,
        codes: SparseCodes,
        lengths: npt.ArrayLike,
        variants: int,
        *,
        progress: Progress = False,
    ) -> Self:
        """Add sentences; returns this object. If it raises, nothing has been added.

        Args:
            codes: codes of the tokens of all texts, text by text.
            lengths: (sentences * variants,) tokens of each text, all variants of a sentence one
                after the other. A text may have no tokens: nothing is active in it.
            variants: texts a sentence, the original counted; at least 2.

        >>> import suture
        >>> codes = suture.SparseCodes([[0], [1]], [[1.0], [1.0]], d_sae=2)
        >>> suture.analysis.StructuralScore(2).update(codes, [1, 1], 2).structural.tolist()
        [False, False]
        """
        sparse_codes(codes, "codes", self.d_sae)
        count = integer("variants", variants, 2, 2**31 - 1)
        texts = whole_numbers("lengths", lengths)
        with Meter(progress, "structural score", len(codes)) as meter:
            self._core.update(codes._core, texts, count, meter.part(0, len(codes)))
        return self

    @property
    def score(self) -> npt.NDArray[np.float64]:
        """(d_sae,) in [0, 1]; NaN for a feature that was active in no sentence."""
        out = np.empty(self.d_sae, np.float64)
        self._core.read_into(self.d_sae, out, None, None)
        return out

    @property
    def structural(self) -> npt.NDArray[np.bool_]:
        """(d_sae,) whether the score is 0.5 or more."""
        return self.score >= 0.5

    @property
    def in_all(self) -> npt.NDArray[np.uint64]:
        """(d_sae,) sentences in which each feature was active in all variants."""
        out = np.empty(self.d_sae, np.uint64)
        self._core.read_into(self.d_sae, None, out, None)
        return out

    @property
    def in_any(self) -> npt.NDArray[np.uint64]:
        """(d_sae,) sentences in which each feature was active in any variant."""
        out = np.empty(self.d_sae, np.uint64)
        self._core.read_into(self.d_sae, None, None, out)
        return out

    @property
    def sentences(self) -> int:
        """Sentences so far."""
        return self._core.read_into(self.d_sae, None, None, None)

    def __repr__(self) -> str:
        return f"StructuralScore({self.sentences} sentences, d_sae={self.d_sae})"

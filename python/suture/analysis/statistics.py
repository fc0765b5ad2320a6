# SPDX-License-Identifier: Apache-2.0
"""How often features fire, how strongly, and where most."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arguments import instance, integer
from .._coded import coded
from .._inputs import Acts, Stream
from .._progress import Meter, Progress
from ..codes import SparseCodes
from ..sae import SAE
from ._weights import sparse_codes

__all__ = ["FeatureStatistics", "feature_statistics"]


class FeatureStatistics:
    """Frequency, mean and largest activation of every feature over a stream of codes, and the
    tokens on which it is most active. Memory grows with the features and the examples, not with
    the tokens.

    Args:
        d_sae: number of features.
        top: tokens to keep of each feature, 0 to 10000.

    >>> import suture
    >>> statistics = suture.analysis.FeatureStatistics(3, top=2)
    >>> codes = suture.SparseCodes([[0], [1], [0]], [[1.0], [4.0], [3.0]], d_sae=3)
    >>> statistics.update(codes).example_rows.tolist()
    [[2, 0], [1, -1], [-1, -1]]
    """

    def __init__(self, d_sae: int, top: int = 10) -> None:
        self.d_sae: int = integer("d_sae", d_sae, 1, 2**31 - 1)
        """Number of features."""
        self.top: int = integer("top", top, 0, 10_000)
        """Tokens kept of each feature."""
        self._core = _core.statistics_create(self.d_sae, self.top)

    def update(self, codes: SparseCodes, *, progress: Progress = False) -> Self:
        """Add tokens, numbered on from those before; returns this object. If it raises, nothing has
        been added.

        >>> import suture
        >>> codes = suture.SparseCodes([[0]], [[1.0]], d_sae=3)
        >>> suture.analysis.FeatureStatistics(3).update(codes).update(codes).tokens
        2
        """
        sparse_codes(codes, "codes", self.d_sae)
        with Meter(progress, "statistics", len(codes)) as meter:
            self._core.update(codes._core, meter.part(0, len(codes)))
        return self

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return self._core.read_into(self.d_sae, None, None, None)

    @property
    def frequency(self) -> npt.NDArray[np.float64]:
        """(d_sae,) share of the tokens each feature is active on; ValueError before the first
        token."""
        out = np.empty(self.d_sae, np.float64)
        self._core.read_into(self.d_sae, out, None, None)
        return out

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """(d_sae,) mean activation over the tokens a feature is active on; NaN if there are
        none."""
        out = np.empty(self.d_sae, np.float64)
        self._core.read_into(self.d_sae, None, out, None)
        return out

    @property
    def maximum(self) -> npt.NDArray[np.float32]:
        """(d_sae,) largest activation, 0 for a feature that never fired."""
        out = np.empty(self.d_sae, np.float32)
        self._core.read_into(self.d_sae, None, None, out)
        return out

    @property
    def example_rows(self) -> npt.NDArray[np.int64]:
        """(d_sae, top) numbers of the tokens each feature is most active on, strongest first, ties
        by the earlier; -1 where it fired on fewer."""
        out = np.empty((self.d_sae, self.top), np.int64)
        self._core.examples_into(self.d_sae, self.top, out, None)
        return out

    @property
    def example_values(self) -> npt.NDArray[np.float32]:
        """(d_sae, top) the activations there, 0 where it fired on fewer."""
        out = np.empty((self.d_sae, self.top), np.float32)
        self._core.examples_into(self.d_sae, self.top, None, out)
        return out

    def __repr__(self) -> str:
        return f"FeatureStatistics({self.tokens} tokens, d_sae={self.d_sae}, top={self.top})"


def feature_statistics(
    sae: SAE, acts: Acts, top: int = 10, *, progress: Progress = True
) -> FeatureStatistics:
    """`FeatureStatistics` of a SAE over activations, encoded block by block.

    Args:
        sae: the SAE.
        acts: activations, (N, d_in).
        top: tokens to keep of each feature, 0 to 10000.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> found = suture.analysis.feature_statistics(suture.SAE.init(4, 16, k=3), np.ones((5, 4)))
    >>> found.tokens, found.frequency.shape
    (5, (16,))
    """
    instance("sae", sae, SAE, "suture.SAE")
    result = FeatureStatistics(sae.d_sae, top)
    stream = Stream(acts, "acts", (sae.d_in, "d_in"))
    with Meter(progress, "statistics", stream.total) as meter:
        for codes, report in coded(sae, stream, meter):
            result._core.update(codes, report)
    return result

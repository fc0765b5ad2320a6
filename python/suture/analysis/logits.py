# SPDX-License-Identifier: Apache-2.0
"""What features write to logits, and what to where logits hardly hear it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arguments import integer, real
from .._inputs import Array
from .._progress import Meter, Progress
from ..sae import SAE
from ._weights import decoder, transposed_back, unembedding

__all__ = ["LogitWeights", "logit_weights", "null_space_fraction"]


@dataclass(frozen=True)
class LogitWeights:
    """The tokens that features promote and suppress most, strongest first.

    Attributes:
        up_tokens: (n, count) int32, the tokens with the largest logit weights.
        up_values: (n, count) float32, those weights.
        down_tokens: (n, count) int32, the tokens with the smallest.
        down_values: (n, count) float32, those weights.
    """

    up_tokens: npt.NDArray[np.int32]
    up_values: npt.NDArray[np.float32]
    down_tokens: npt.NDArray[np.int32]
    down_values: npt.NDArray[np.float32]


def logit_weights(
    sae: SAE | Array, W_U: Array, count: int = 10, *, progress: Progress = True
) -> LogitWeights:
    """The largest and smallest logit weights `v_i = W_dec[i] · W_U` of each feature, and their
    tokens. They are made a few features at a time, never all at once.

    Args:
        sae: a SAE, or decoder rows (n, d): `sae.W_dec[features]` for some of its features.
        W_U: (d, vocabulary): see `suture.models.unembedding`.
        count: tokens each way, 1 to the vocabulary.

    Returns:
        LogitWeights: (n, count) arrays; ties go to the lower token.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> found = suture.analysis.logit_weights(np.eye(2), np.array([[3.0, -1, 2], [0, 5, 1]]), 2)
    >>> found.up_tokens.tolist(), found.down_values.tolist()
    ([[0, 2], [1, 2]], [[-1.0, 2.0], [0.0, 1.0]])
    """
    W_dec = decoder(sae, "W_dec")
    head = unembedding(W_U, "W_U", W_dec.cols)
    shape = (W_dec.rows, integer("count", count, 1, head.rows))
    found = LogitWeights(
        np.empty(shape, np.int32), np.empty(shape, np.float32),
        np.empty(shape, np.int32), np.empty(shape, np.float32),
    )  # fmt: skip
    with Meter(progress, "logit weights", W_dec.rows, "feature") as meter, transposed_back():
        _core.logit_weights(
            W_dec, head, shape[1], meter.part(), found.up_tokens, found.up_values,
            found.down_tokens, found.down_values,
        )  # fmt: skip
    return found


def null_space_fraction(
    sae: SAE | Array, W_U: Array, share: float = 0.02, *, progress: Progress = True
) -> npt.NDArray[np.float64]:
    """Which part of a feature's decoder row lies in the effective null space of the unembedding:
    where it changes the scale of the final norm, and so the entropy of the prediction, rather than
    single logits (arXiv 2506.06609, section 5; Gurnee et al. 2024).

    The null space is that of the left singular directions of W_U with the smallest `share` of the
    singular values. They come from the d × d matrix W_U · W_Uᵀ in float64: directions whose
    singular values are below 1e-8 of the largest cannot be told from each other, and matter only
    if `share` ends among them. A W_U that is not of full rank (centred, say) is fine.

    Args:
        sae: a SAE, or decoder rows (n, d).
        W_U: (d, vocabulary), the plain unembedding: see `suture.models.unembedding`.
        share: of the singular values, above 0 and at most 1; rounded to a whole number of them, at
            least one. The paper takes 2 %.

    Returns:
        (n,) float64 in [0, 1]: ‖part in the null space‖ / ‖row‖; NaN for a row of zeros.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> suture.analysis.null_space_fraction(np.array([[1.0, 0], [3, 4]]), np.diag([2.0, 0.1]))
    array([0. , 0.8])
    """
    W_dec = decoder(sae, "W_dec")
    head = unembedding(W_U, "W_U", W_dec.cols)
    part = real("share", share, above=True, most=1.0)
    out = np.empty(W_dec.rows, np.float64)
    with Meter(progress, "null space", None, "token") as meter, transposed_back():
        _core.null_space_fraction(W_dec, head, part, meter.part(), out, None)
    return out

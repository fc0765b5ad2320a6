# SPDX-License-Identifier: Apache-2.0
"""Attribution correlations: whether a feature does the same in two models."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .. import _core
from .._arguments import instance, whole_numbers
from .._coded import coded_pairs
from .._inputs import Acts, Array, Stream
from .._pairs import Pairs, paired_blocks
from .._progress import Meter, Progress
from ..codes import SparseCodes
from ..moments import check_tokens
from ..pairing import owner_of
from ..sae import SAE
from ._weights import decoder, sparse_codes, transposed_back, unembedding

__all__ = ["AttributionCorrelation", "attribution_correlation", "next_tokens"]


def next_tokens(acts: Any) -> npt.NDArray[np.int64]:
    """The token that follows each row in its text, -1 where it is not among the rows.

    Rows follow each other if they are of one sequence and their positions differ by one: so the
    last row of each sequence has no next token, and neither has a row before a special token (EOS,
    say), which activations leave out.

    Args:
        acts: `suture.Activations`, or anything with `token_ids`, `positions` and `sequence`, (N,)
            each.

    Returns:
        (N,) int64.

    Raises:
        TypeError, ValueError: one of the three is missing, or their lengths differ.

    >>> import numpy as np, suture
    >>> acts = suture.Activations(
    ...     {0: np.zeros((5, 2), np.float32)},
    ...     token_ids=[7, 8, 9, 7, 6], positions=[1, 2, 4, 1, 2], sequence=[0, 0, 0, 1, 1],
    ... )
    >>> suture.analysis.next_tokens(acts).tolist()
    [8, -1, -1, 6, -1]
    """
    found = []
    for name in ("token_ids", "positions", "sequence"):
        values = getattr(acts, name, None)
        if values is None:
            raise TypeError(
                f"acts is a {type(acts).__name__} without {name}, expected suture.Activations with "
                "token_ids, positions and sequence"
            )
        found.append(whole_numbers(f"acts.{name}", values))
    ids, positions, sequence = found
    if not len(ids) == len(positions) == len(sequence):
        raise ValueError(
            f"acts has {len(positions)} positions and {len(sequence)} sequence numbers, expected "
            f"{len(ids)} of each, as token_ids"
        )
    result = np.full(len(ids), -1, np.int64)
    follows = (sequence[1:] == sequence[:-1]) & (positions[1:] == positions[:-1] + 1)
    result[:-1][follows] = ids[1:][follows]
    return result


class AttributionCorrelation:
    """For every feature the Pearson correlation over tokens between its attributions to the next
    token in two models, `f_i(h_A) · v_i[next]` and `f'_i(h_B) · v'_i[next]`, where
    `v_i = W_dec[i] · W_U` (arXiv 2506.06609, eq. 10).

    Streaming: update with codes of as many tokens as there are, look at any time. Nothing is
    (d_sae, vocabulary): each active latent on each token costs one dot product of length d.

    Args:
        sae_a: the SAE on A, or its W_dec (d_sae, d_a).
        W_U_a: (d_a, vocabulary), the unembedding of A: see `suture.models.unembedding`.
        sae_b: the SAE on B, with as many latents, or its W_dec (d_sae, d_b).
        W_U_b: (d_b, vocabulary), over the same tokens.

    Raises:
        ValueError: the numbers of latents or the vocabularies differ, or a number is not finite.
            (Where only the padding of an output head differs, cut it: `W_U[:, :len(tokenizer)]`.)

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> sae = suture.SAE.init(4, 16, k=3)
    >>> W_U, acts = rng.normal(size=(4, 9)), rng.normal(size=(50, 4))
    >>> following = rng.integers(9, size=50)
    >>> same = suture.analysis.AttributionCorrelation(sae, W_U, sae, W_U)
    >>> codes = sae.encode(acts)
    >>> bool(np.nanmin(same.update(codes, codes, following).correlation) > 0.999)
    True
    """

    def __init__(self, sae_a: SAE | Array, W_U_a: Array, sae_b: SAE | Array, W_U_b: Array) -> None:
        W_dec_a, W_dec_b = decoder(sae_a, "W_dec_a"), decoder(sae_b, "W_dec_b")
        head_a = unembedding(W_U_a, "W_U_a", W_dec_a.cols)
        head_b = unembedding(W_U_b, "W_U_b", W_dec_b.cols)
        with transposed_back():
            self._core = _core.attribution_create(W_dec_a, head_a, W_dec_b, head_b)
        self.d_sae: int = W_dec_a.rows
        """Number of features."""
        self.vocabulary: int = head_a.rows
        """Number of tokens."""

    def update(
        self,
        codes_a: SparseCodes,
        codes_b: SparseCodes,
        next_tokens: npt.ArrayLike,
        *,
        progress: Progress = False,
    ) -> Self:
        """Add tokens; returns this object. If it raises, nothing has been added.

        Args:
            codes_a, codes_b: codes of the same N tokens by the two SAEs.
            next_tokens: (N,) the token that follows each, negative where there is none (such rows
                do not count): see `next_tokens`.

        >>> import numpy as np, suture
        >>> sae = suture.SAE.init(4, 16, k=3)
        >>> it = suture.analysis.AttributionCorrelation(sae, np.ones((4, 9)), sae, np.ones((4, 9)))
        >>> codes = sae.encode(np.ones((2, 4)))
        >>> it.update(codes, codes, [3, -1]).tokens
        1
        """
        sparse_codes(codes_a, "codes_a", self.d_sae)
        sparse_codes(codes_b, "codes_b", self.d_sae)
        following = whole_numbers("next_tokens", next_tokens)
        with Meter(progress, "attribute", len(codes_a)) as meter:
            self._core.update(codes_a._core, codes_b._core, following, meter.part(0, len(codes_a)))
        return self

    def merge(self, other: AttributionCorrelation) -> Self:
        """Add the tokens that `other`, made from the same weights, has seen; returns this object.

        >>> import numpy as np, suture
        >>> sae = suture.SAE.init(4, 16, k=3)
        >>> it = suture.analysis.AttributionCorrelation(sae, np.ones((4, 9)), sae, np.ones((4, 9)))
        >>> codes = sae.encode(np.ones((2, 4)))
        >>> it.update(codes, codes, [3, 4]).merge(it).tokens
        4
        """
        instance("other", other, AttributionCorrelation, "AttributionCorrelation")
        self._core.merge(other._core)
        return self

    @property
    def correlation(self) -> npt.NDArray[np.float64]:
        """(d_sae,) in [-1, 1]; NaN where the attribution of a side never varied."""
        out = np.empty(self.d_sae, np.float64)
        self._core.read_into(self.d_sae, out, None, None)
        return out

    @property
    def active_a(self) -> npt.NDArray[np.uint64]:
        """(d_sae,) tokens that each feature was active on in A, among those with a next token."""
        out = np.empty(self.d_sae, np.uint64)
        self._core.read_into(self.d_sae, None, out, None)
        return out

    @property
    def active_b(self) -> npt.NDArray[np.uint64]:
        """(d_sae,) the same in B."""
        out = np.empty(self.d_sae, np.uint64)
        self._core.read_into(self.d_sae, None, None, out)
        return out

    @property
    def tokens(self) -> int:
        """Tokens with a next token so far."""
        return self._core.read_into(self.d_sae, None, None, None)

    def __repr__(self) -> str:
        return (
            f"AttributionCorrelation({self.tokens} tokens, d_sae={self.d_sae}, "
            f"vocabulary={self.vocabulary})"
        )


def attribution_correlation(
    sae_a: SAE,
    acts_a: Acts,
    W_U_a: Array,
    sae_b: SAE,
    acts_b: Acts,
    W_U_b: Array,
    next_tokens: npt.ArrayLike | None = None,
    *,
    pairs: Pairs = None,
    progress: Progress = True,
) -> AttributionCorrelation:
    """`AttributionCorrelation` of two SAEs over paired activations, encoded block by block.

    Args:
        sae_a, sae_b: as many latents each; feature i of one is compared with feature i of the
            other.
        acts_a, acts_b: activations (N, d_a) and (N, d_b) of the same tokens; with `pairs`, of
            different numbers of them.
        W_U_a, W_U_b: (d_a, vocabulary) and (d_b, vocabulary).
        next_tokens: (N,), negative for none. None: those of `acts_a`, which must then be
            `suture.Activations`, or a layer of them.
        pairs: (rows_a, rows_b): row rows_a[i] of A goes with row rows_b[i] of B, as from
            `Activations.pairs_with`; `next_tokens` are still those of A's rows.

    Returns:
        AttributionCorrelation: its `correlation` is (d_sae,).

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> sae = suture.SAE.init(4, 16, k=3)
    >>> W_U, acts = rng.normal(size=(4, 9)), rng.normal(size=(50, 4))
    >>> found = suture.analysis.attribution_correlation(
    ...     sae, acts, W_U, sae, acts, W_U, rng.integers(9, size=50)
    ... )
    >>> found
    AttributionCorrelation(50 tokens, d_sae=16, vocabulary=9)
    """
    instance("sae_a", sae_a, SAE, "suture.SAE")
    instance("sae_b", sae_b, SAE, "suture.SAE")
    result = AttributionCorrelation(sae_a, W_U_a, sae_b, W_U_b)
    if next_tokens is None:
        following = _of_activations(acts_a)
    else:
        following = whole_numbers("next_tokens", next_tokens)
    a = Stream(acts_a, "acts_a", (sae_a.d_in, "d_in"))
    b = Stream(acts_b, "acts_b", (sae_b.d_in, "d_in"))
    check_tokens(acts_a, acts_b, pairs)
    if a.total is not None and a.total != len(following):
        raise ValueError(
            f"next_tokens has {len(following)} tokens, expected {a.total}, the rows of acts_a"
        )
    beyond = np.flatnonzero(following >= result.vocabulary)
    if len(beyond):
        raise ValueError(
            f"next_tokens[{beyond[0]}] is {following[beyond[0]]}, expected less than "
            f"{result.vocabulary}, the vocabulary"
        )
    total, blocks = paired_blocks(a, b, pairs)
    done = 0
    with Meter(progress, "attribute", total) as meter:
        for part in coded_pairs((sae_a, sae_b), ("acts_a", "acts_b"), blocks, meter):
            done = max(done, int(part.rows_a.max()) + 1)
            if done > len(following):
                raise ValueError(
                    f"next_tokens has {len(following)} tokens, expected one for each row of "
                    f"acts_a, which has {done} at least"
                )
            result._core.update(part.codes_a, part.codes_b, following[part.rows_a], part.report)
    if pairs is None and done < len(following):
        raise ValueError(f"next_tokens has {len(following)} tokens, expected {done} as acts_a")
    return result


def _of_activations(acts: Any) -> npt.NDArray[np.int64]:
    owner = owner_of(acts)
    known = acts if owner is None else owner
    if not hasattr(known, "token_ids"):
        raise TypeError(
            f"next_tokens is None and acts_a is a {type(acts).__name__}, expected next_tokens, or "
            "suture.Activations as acts_a"
        )
    return next_tokens(known)

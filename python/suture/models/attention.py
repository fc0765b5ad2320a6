# SPDX-License-Identifier: Apache-2.0
"""Attention deactivation: which features of a sparse autoencoder turn which heads to BOS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .._arguments import real, word
from ..sae import SAE
from ._borrowing import borrowed
from ._heads import FirstAttention, Rotation
from ._paths import (
    FeatureHead,
    Limits,
    checked_features,
    checked_pair,
    corpus_with_bos,
    counted_rows,
    directions_of,
    downstream,
    queries,
    whole_streams,
)
from ._progress import progress_bar
from ._residual import find_blocks, text_config
from ._tokens import Chunking, Cutting, batches, check_count

Sign = Literal["positive", "negative", "both"]


@dataclass(frozen=True)
class DeactivationScores:
    """How strongly each feature pushes each downstream head to BOS (`deactivation_scores`).

    Attributes:
        scores: (d_sae, n_layers - layer, n_heads) float32: `scores[i, l - layer, h]` is of
            feature i and head h of block l, in attention logits per unit of activation.
        layer: that of the SAE, and the first block whose heads it can reach.
        distance: tokens from BOS to the query, for the rotation of the query.
        keys: (n_layers - layer, n_heads, d_head) float32, the mean key at BOS.
        p_bos: (n_layers - layer, n_heads) float32, each head's attention to BOS, mean over the
            counted tokens. Only heads that do attend to BOS can be deactivated.

    Example: one block of two heads after layer 1, three features.

    >>> import numpy as np
    >>> scores = np.array([[[3, -1]], [[0, -5]], [[1, 2]]], np.float32)
    >>> found = DeactivationScores(scores, layer=1, distance=9,
    ...     keys=np.zeros((1, 2, 4), np.float32), p_bos=np.full((1, 2), 0.5, np.float32))
    >>> found.score(1, layer=1, head=1)
    -5.0
    """

    scores: npt.NDArray[np.float32]
    layer: int
    distance: int
    keys: npt.NDArray[np.float32]
    p_bos: npt.NDArray[np.float32]

    def score(self, feature: int, layer: int, head: int) -> float:
        """Of one feature and one head; `layer` is that of the head's block."""
        place = checked_pair((feature, layer, head), self._limits(), "")
        return float(self.scores[place.feature, place.layer - self.layer, place.head])

    def strongest(
        self,
        n: int,
        *,
        sign: Sign = "both",
        features: npt.ArrayLike | None = None,
        least_p_bos: float = 0.0,
    ) -> list[FeatureHead]:
        """The n features with the strongest scores, each with its strongest head, best first.

        Args:
            n: at most so many; fewer where fewer features have a score of that sign.
            sign: "positive" (the feature turns the head to BOS), "negative" (away from it), or
                "both", by absolute value.
            features: look among these only, such as those that fire often enough to be plotted.
            least_p_bos: look among heads only whose mean attention to BOS is at least this. In a
                head that hardly attends to BOS the other keys decide, whatever the score.

        >>> import numpy as np
        >>> scores = np.array([[[3, -1]], [[0, -5]], [[1, 2]]], np.float32)
        >>> found = DeactivationScores(scores, layer=1, distance=9, keys=np.zeros((1, 2, 4)),
        ...     p_bos=np.array([[0.5, 0.1]]))
        >>> found.strongest(2)
        [FeatureHead(feature=1, layer=1, head=1), FeatureHead(feature=0, layer=1, head=0)]
        >>> found.strongest(1, least_p_bos=0.2)
        [FeatureHead(feature=0, layer=1, head=0)]
        """
        check_count("n", n, 1)
        word("sign", sign, ("positive", "negative", "both"))
        among = np.arange(len(self.scores))
        if features is not None:
            among = checked_features(features, len(self.scores))
        flat = self.scores[among].reshape(len(among), self.scores[0].size)
        least = real("least_p_bos", least_p_bos, most=1.0)
        flat = np.where(self.p_bos.ravel() >= least, flat, np.float32(0))
        size = {"positive": flat, "negative": -flat, "both": np.abs(flat)}[sign]
        best = size.argmax(axis=1)
        height = size[np.arange(len(among)), best]
        order = [i for i in np.argsort(-height, kind="stable")[:n] if height[i] > 0]
        n_heads = self.scores.shape[2]
        return [
            FeatureHead(int(among[i]), self.layer + int(best[i]) // n_heads, int(best[i]) % n_heads)
            for i in order
        ]

    def _limits(self) -> Limits:
        d_sae, layers, heads = self.scores.shape
        return Limits(d_sae, self.layer, self.layer + layers, heads)


def deactivation_scores(
    model: nn.Module,
    sae: SAE,
    layer: int,
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    distance: int | None = None,
    first_position: bool = False,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> DeactivationScores:
    """Heuristic score of every feature and every head downstream of it: how much a unit of the
    feature's activation at a token adds to the head's attention logit from that token to BOS.

    `score[i, l, h] = (LN_l(W_dec[i]) W_Q^h) · k_BOS^h / sqrt(d_head)`, after Gurnee et al.,
    "Universal Neurons in GPT2 Language Models" (arXiv 2401.12181); sec. 5 and Fig. 5b of arXiv
    2506.06609 use it. A feature with a large positive score *deactivates* the head: it parks
    its attention on BOS. What the short formula leaves open is decided so:

    - `W_dec[i]` is what one unit of activation adds to the residual stream (decoder norms and a
      fixed scale of the SAE are folded in). It reaches every later block along the residual
      stream; what blocks in between make of it is left out.
    - The layer norm before the head is linearised: the direction is centred and multiplied by
      the gain and by the mean, over the counted tokens, of 1 / sqrt(variance + eps) of the
      residual stream there.
    - Biases (of the layer norm, the queries, the SAE) are no part of the score: they do not
      depend on the feature.
    - `k_BOS^h` is the mean of the head's key at the first position of every sequence, its bias
      included, after the rotary embedding where there is one. The query is rotated likewise,
      as one at `distance` tokens from BOS. Dimensions that the model does not rotate are not.
    - In place of 1 / sqrt(d_head) stands the factor of the model itself (some GPT-2 differ).

    Args:
        model: a GPT-NeoX or GPT-2 model of transformers, with or without its head.
        sae: of the residual stream of this model before `layer`.
        layer: of the SAE; heads of the blocks `layer` to n_layers - 1 are scored.
        token_ids_or_texts: texts or token ids, as for `extract`; they give the mean key and the
            mean scale.
        tokenizer: needed for texts; tells BOS and the special tokens. None: those of the
            model's configuration.
        distance: tokens from BOS to the query, for the rotation; None: the median over the
            counted tokens. Of no consequence without a rotary embedding.
        first_position: take what stands first in a sequence in BOS's place, for models that are
            run without BOS. False: a sequence that does not begin with BOS is an error.
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    Raises:
        ValueError: an architecture whose heads cannot be read; a SAE of another width, or one
            that normalises every token (its features have no fixed direction); a layer without
            blocks after it; a sequence without BOS.

    >>> import suture
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> sae = suture.SAE.init(16, 32, k=4)
    >>> found = suture.models.deactivation_scores(model, sae, 1, ["some text"], tokenizer)
    >>> found.scores.shape, found.distance
    ((32, 2, 2), 5)
    """
    heads, at_layer = downstream(model, layer)
    steps = directions_of(sae, model)
    if distance is not None:
        check_count("distance", distance, 0)
        longest = getattr(text_config(model), "max_position_embeddings", None)
        if longest is not None and distance >= longest:
            raise ValueError(f"distance: {distance}, expected less than {longest}, the context")
    check_count("batch_size", batch_size, 1)
    corpus = corpus_with_bos(
        model, tokenizer, token_ids_or_texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens), first_position,
    )  # fmt: skip
    if distance is None:
        tokens = [np.flatnonzero(queries(corpus, ids)) for ids in corpus.sequences]
        distance = int(np.median(np.concatenate(tokens)))
    layers = range(at_layer, heads.n_layers)
    blocks = find_blocks(model)
    scale = dict.fromkeys(layers, 0.0)
    key_sum: dict[int, Any] = dict.fromkeys(layers, 0.0)
    attended = np.zeros((len(layers), heads.n_heads))
    rows = 0
    with (
        borrowed(model, device) as where,
        progress_bar(len(corpus.sequences), "deactivation scores", progress) as bar,
    ):
        parts = {number: heads.layer(number) for number in layers}
        rotation = heads.rotation(max(distance + 1, max(map(len, corpus.sequences))), where)
        for batch in batches(corpus, batch_size, where):
            counted = counted_rows(batch)
            places = counted.nonzero(as_tuple=True)
            for number, stream in whole_streams(model, blocks, list(layers), batch).items():
                part = parts[number]
                scale[number] += float(part.inverse_deviation(stream[counted]).double().sum())
                first = part.normed(stream[:, 0])
                keys = torch.einsum("bd,hde->bhe", first, part.key_weight) + part.key_bias
                # Most rotary embeddings leave position 0 as it is; some scale it.
                key_sum[number] += _turned(keys, rotation, 0).double().sum(dim=0)
                for head in range(heads.n_heads):
                    attention = FirstAttention(part, head, stream, rotation)
                    total = attention(stream[places].float(), *places).double().sum()
                    attended[number - at_layer, head] += float(total)
            rows += int(counted.sum())
            bar.update(len(batch.ids))
        steps = steps.to(where)
        scores, mean_keys = [], []
        for number in layers:
            part = parts[number]
            key = (key_sum[number] / len(corpus.sequences)).float()
            normed = part.linearised(steps, scale[number] / rows)
            # Turning the mean keys back says the same as turning every feature's query forward.
            back = _turned_back(key, rotation, distance)
            toward = torch.einsum("hde,he->dh", part.query_weight, back) * part.scaling
            scores.append((normed @ toward).cpu())
            mean_keys.append(key.cpu())
    everything = torch.stack(scores, dim=1).numpy()
    if not np.isfinite(everything).all():
        raise ValueError("model: its residual stream is not finite, expected finite values")
    return DeactivationScores(
        scores=everything,
        layer=at_layer,
        distance=distance,
        keys=torch.stack(mean_keys).numpy(),
        p_bos=(attended / rows).astype(np.float32),
    )


def _turned(rows: Tensor, rotation: Rotation | None, position: int) -> Tensor:
    return rows if rotation is None else rotation(rows, torch.tensor(position))


def _turned_back(rows: Tensor, rotation: Rotation | None, position: int) -> Tensor:
    """The transpose of the rotation, so that `turned(q) · k = q · turned_back(k)`."""
    if rotation is None:
        return rows
    return Rotation(rotation.cos, -rotation.sin)(rows, torch.tensor(position))

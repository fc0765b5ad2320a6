# SPDX-License-Identifier: Apache-2.0
"""Path ablation: what a head's attention to BOS loses without one feature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..sae import SAE
from ._borrowing import borrowed
from ._heads import FirstAttention
from ._paths import (
    Limits,
    checked_paths,
    corpus_with_bos,
    counted_rows,
    directions_of,
    downstream,
    whole_streams,
)
from ._progress import progress_bar
from ._residual import find_blocks
from ._tokens import Chunking, Cutting, batches, check_count


@dataclass(frozen=True)
class PathAblation:
    """What a head's attention to BOS loses with a feature (`ablate_paths`).

    One entry for each counted token on which the feature is active; on the others nothing changes.

    Attributes:
        feature, layer, head: of which path this is.
        activation: (n,) float32, of the feature on the token.
        p_bos: (n,) float32, attention from the token to BOS, of this head, in the model as it is.
        change: (n,) float32, p(BOS) with the feature's contribution taken out, minus `p_bos`.
        rows: (n,) int64, which counted tokens: rows of `extract` on the same texts.

    >>> import numpy as np
    >>> floats = lambda *values: np.array(values, np.float32)
    >>> path = PathAblation(feature=7, layer=2, head=0, activation=floats(0.5, 2),
    ...     p_bos=floats(0.75, 0.5), change=floats(0, 0.25), rows=np.array([3, 8]))
    >>> path.rows[path.change > 0]  # without the feature, this token looks to BOS more
    array([8])
    """

    feature: int
    layer: int
    head: int
    activation: npt.NDArray[np.float32]
    p_bos: npt.NDArray[np.float32]
    change: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]


def ablate_paths(
    model: nn.Module,
    sae: SAE,
    layer: int,
    paths: Iterable[Sequence[int]],
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    first_position: bool = False,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> list[PathAblation]:
    """What a head's attention to BOS, p(BOS), loses when a feature's contribution is taken out of
    the input of that head's query at the current token (Fig. 5b of arXiv 2506.06609).

    For each path (feature i, block l, head h) and each counted token t on which the feature is
    active, `f_i(t) · W_dec[i]` is subtracted from the residual stream before block l, as the query
    of head h at token t sees it: the layer norm and the query are computed anew, exactly. The
    keys, other tokens, other heads, and everything before block l stay as they are in the model;
    so for blocks beyond the SAE's layer this is the direct path along the residual stream. One
    forward pass a batch serves all paths; only the rows of attention that change are computed,
    in float32.

    Args:
        model: a GPT-NeoX or GPT-2 model of transformers, with or without its head.
        sae: of the residual stream of this model before `layer`.
        layer: of the SAE.
        paths: (feature, layer, head) triples, such as `DeactivationScores.strongest` returns:
            head `head` of block `layer`, a block from the SAE's layer on.
        token_ids_or_texts: texts or token ids, as for `extract`.
        tokenizer, first_position: as for `deactivation_scores`.
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    Returns:
        One result a path, in the order of `paths`.

    Raises:
        ValueError: as `deactivation_scores`, and for a feature, block or head that does not exist.

    >>> import suture
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> sae = suture.SAE.init(16, 32, k=32)
    >>> (one,) = suture.models.ablate_paths(model, sae, 1, [(7, 2, 0)], ["some text"], tokenizer)
    >>> one.layer, one.activation.shape == one.change.shape, bool((one.p_bos <= 1).all())
    (2, True, True)
    """
    heads, at_layer = downstream(model, layer)
    every = directions_of(sae, model)
    limits = Limits(sae.d_sae, at_layer, heads.n_layers, heads.n_heads)
    wanted = checked_paths(paths, limits)
    check_count("batch_size", batch_size, 1)
    corpus = corpus_with_bos(
        model, tokenizer, token_ids_or_texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens), first_position,
    )  # fmt: skip
    groups: dict[tuple[int, int], list[int]] = {}
    for number, path in enumerate(wanted):
        groups.setdefault((path.layer, path.head), []).append(number)
    needed = sorted({at_layer, *(path.layer for path in wanted)})
    columns = sorted({path.feature for path in wanted})
    blocks = find_blocks(model)
    found: list[list[tuple[Tensor, ...]]] = [[] for _ in wanted]
    done = 0
    with (
        borrowed(model, device) as where,
        progress_bar(len(corpus.sequences), "path ablation", progress) as bar,
    ):
        parts = {number: heads.layer(number) for number in {path.layer for path in wanted}}
        steps = every[columns].to(where)
        for batch in batches(corpus, batch_size, where):
            streams = whole_streams(model, blocks, needed, batch)
            rotation = heads.rotation(batch.ids.shape[1], where)
            counted = counted_rows(batch)
            active = _activations(sae, columns, streams[at_layer][counted])
            sequence, position = counted.nonzero(as_tuple=True)
            for (number, head), members in groups.items():
                attention = FirstAttention(parts[number], head, streams[number], rotation)
                for member in members:
                    column = columns.index(wanted[member].feature)
                    fires = active[:, column].nonzero()[:, 0]
                    strength = active[fires, column]
                    at = sequence[fires], position[fires]
                    own = streams[number][at].float()
                    before = attention(own, *at)
                    after = attention(own - strength[:, None] * steps[column], *at)
                    # Row numbers as `extract` counts them: it keeps a first position that is text.
                    numbers = done + (batch.kept.flatten().cumsum(0) - 1).reshape(counted.shape)[at]
                    found[member].append((strength, before, after - before, numbers))
            done += int(batch.kept.sum())
            bar.update(len(batch.ids))
    results = []
    for path, pieces in zip(wanted, found, strict=True):
        arrays = [torch.cat(piece).cpu().numpy() for piece in zip(*pieces, strict=True)]
        results.append(PathAblation(*path, *arrays))
    return results


def _activations(sae: SAE, columns: Sequence[int], rows: Tensor) -> Tensor:
    """(n, len(columns)): activations of these features on (n, d) rows."""
    found = torch.zeros(len(rows), len(columns))
    if len(rows):
        codes = sae.encode(np.ascontiguousarray(rows.float().cpu().numpy()), progress=False)
        for number, feature in enumerate(columns):
            mine = codes.indices == feature
            found[:, number] = torch.from_numpy((codes.values * mine).sum(axis=1))
    return found.to(rows.device)

# SPDX-License-Identifier: Apache-2.0
"""What a sparse autoencoder costs downstream: the loss with its reconstruction spliced in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..sae import SAE
from ..site import Site
from ._borrowing import borrowed
from ._causality import check_reading
from ._progress import progress_bar
from ._residual import (
    check_layer,
    find_blocks,
    recording,
    replacing,
    residual_hooks,
    run,
    stream_width,
)
from ._sites import warn_of_another_site
from ._tokens import Chunking, Cutting, batches, build_corpus, check_count
from .losses import LossSum

Framework = Literal["numpy", "torch"]


@dataclass(frozen=True)
class SplicedLoss:
    """Mean next-token losses in nats over the same `tokens` predictions, at one layer.

    Attributes:
        clean: the model as it is.
        spliced: with the SAE's reconstruction in place of the residual stream.
        zero_ablation, mean_ablation: with zeros, or the mean row of these tokens, in its place.
        delta_loss: spliced - clean.
        ce_score: (zero_ablation - spliced) / (zero_ablation - clean), as SAELens has it: 1 for
            a perfect SAE, 0 for one that is no better than zeros; NaN where zeros do no harm.

    >>> loss = SplicedLoss(3.0, 3.5, zero_ablation=7.0, mean_ablation=6.0, tokens=100, layer=2)
    >>> loss.delta_loss, loss.ce_score
    (0.5, 0.875)
    """

    clean: float
    spliced: float
    zero_ablation: float
    mean_ablation: float
    tokens: int
    layer: int

    @property
    def delta_loss(self) -> float:
        return self.spliced - self.clean

    @property
    def ce_score(self) -> float:
        harm = self.zero_ablation - self.clean
        return (self.zero_ablation - self.spliced) / harm if harm else math.nan

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON; an undefined ce_score is None."""
        return {
            "clean": self.clean,
            "spliced": self.spliced,
            "zero_ablation": self.zero_ablation,
            "mean_ablation": self.mean_ablation,
            "delta_loss": self.delta_loss,
            "ce_score": None if math.isnan(self.ce_score) else self.ce_score,
            "tokens": self.tokens,
            "layer": self.layer,
        }

    def __str__(self) -> str:
        lines = [f"next-token loss, {self.tokens:,} predictions; layer {self.layer}"]
        for label in ("clean", "spliced", "zero_ablation", "mean_ablation", "delta_loss"):
            lines.append(f"{label.replace('_', ' '):14}{getattr(self, label):9.4f}")
        lines.append(f"{'CE score':14}{self.ce_score:9.4f}")
        return "\n".join(lines)


def spliced_loss(
    model: nn.Module,
    sae: Callable[[Any], Any],
    layer: int | str | Site,
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    framework: Framework | None = None,
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> SplicedLoss:
    """Loss of `model` with an SAE's reconstruction spliced in before `layer`, and its baselines.

    Special tokens and the first `skip_positions` keep their own residual, in the ablations too:
    SAEs are not trained on them. The predictions counted are those of `next_token_loss`.

    Args:
        model: a transformers causal language model.
        sae: maps (N, d) rows to (N, d) reconstructions; a `suture.SAE` is one.
        layer: layer l is the input of block l; also a name of the stream, or a `suture.Site`.
        token_ids_or_texts: held-out texts or token ids, as for `extract`.
        tokenizer: needed for texts; tells the special tokens.
        framework: what `sae` takes and returns: "numpy" float32 arrays, or "torch" tensors in
            the dtype and on the device of its parameters (the model's device and float32 where
            it has none). None: "torch" if `sae` is a torch.nn.Module, else "numpy".
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    Warns:
        SutureWarning: the metadata of a `suture.SAE` name another model, layer or stream.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> loss = suture.models.spliced_loss(model, lambda x: x, 2, ["some text"], tokenizer)
    >>> loss.delta_loss, loss.ce_score
    (0.0, 1.0)
    """
    blocks = find_blocks(model)
    at_layer = check_layer("layer", layer, blocks)
    check_count("batch_size", batch_size, 1)
    reconstruct = _reconstruction(sae, framework)
    if isinstance(sae, SAE):
        warn_of_another_site("spliced_loss", "sae", sae, model, at_layer)
    corpus = build_corpus(
        {"model": model},
        tokenizer,
        token_ids_or_texts,
        Cutting(context, chunking, prepend_bos, skip_positions, max_tokens),
        "token_ids_or_texts",
    )
    names = ("clean", "spliced", "zero_ablation", "mean_ablation")
    sums = {name: LossSum(name) for name in names}
    # The mean row is of all these tokens, so it takes a pass of its own before the last one.
    total = torch.zeros(stream_width(model), dtype=torch.float64)
    count = 0
    with (
        borrowed(model, device) as where,
        progress_bar(2 * len(corpus.sequences), "spliced loss", progress) as bar,
    ):
        check_reading(model, blocks, [at_layer], corpus.sequences, where)
        for batch in batches(corpus, batch_size, where):
            seen: dict[str, Tensor] = {}
            with residual_hooks(blocks, {at_layer: recording(seen, "rows", batch.kept)}):
                sums["clean"].add(run(model, batch.ids, batch.mask), batch)
            rows = seen["rows"]
            total += rows.double().sum(dim=0).cpu()
            count += len(rows)
            for name, new in (
                ("spliced", reconstruct(rows) if len(rows) else rows),
                ("zero_ablation", torch.zeros_like(rows)),
            ):
                with residual_hooks(blocks, {at_layer: replacing(new, batch.kept)}):
                    sums[name].add(run(model, batch.ids, batch.mask), batch)
            bar.update(len(batch.ids))
        mean = (total / count).float()
        for batch in batches(corpus, batch_size, where):
            with residual_hooks(blocks, {at_layer: replacing(mean, batch.kept)}):
                sums["mean_ablation"].add(run(model, batch.ids, batch.mask), batch)
            bar.update(len(batch.ids))
    return SplicedLoss(
        **{name: part.value() for name, part in sums.items()},
        tokens=sums["clean"].count,
        layer=at_layer,
    )


def _reconstruction(sae: Any, framework: str | None) -> Callable[[Tensor], Tensor]:
    if not callable(sae):
        raise TypeError(f"sae: {type(sae).__name__}, expected a callable on (N, d) rows")
    if framework not in (None, "numpy", "torch"):
        raise ValueError(f"framework: {framework!r}, expected None, 'numpy' or 'torch'")
    in_torch = isinstance(sae, nn.Module) if framework is None else framework == "torch"
    parameter = next(sae.parameters(), None) if isinstance(sae, nn.Module) else None

    def apply(rows: Tensor) -> Tensor:
        if in_torch:
            new = sae(rows if parameter is None else rows.to(parameter))
        else:
            new = sae(np.ascontiguousarray(rows.cpu().numpy()))
            new = torch.from_numpy(np.array(new, np.float32))
        if not isinstance(new, Tensor) or new.shape != rows.shape:
            found = tuple(new.shape) if isinstance(new, Tensor) else type(new).__name__
            raise ValueError(f"sae: returned {found}, expected shape {tuple(rows.shape)}")
        if not torch.isfinite(new).all():
            raise ValueError("sae: returned NaN or infinity, expected finite values")
        return new

    return apply

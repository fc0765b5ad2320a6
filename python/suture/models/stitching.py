# SPDX-License-Identifier: Apache-2.0
"""What a stitch costs downstream: the six next-token losses of Table 1 of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..site import Site
from ._borrowing import borrowed
from ._causality import check_reading
from ._paired_texts import pair_corpus
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
from ._tokens import Batch, Chunking, Corpus, Cutting, batches, build_corpus, check_count
from ._windows import kind_of
from .losses import LossSum

SpecialRows = Literal["own", "stitch"]

_PATHS = {  # field: (label, the model that finishes)
    "a": ("A", ""),
    "b": ("B", ""),
    "a_to_b": ("A→B", "b"),
    "b_to_a": ("B→A", "a"),
    "a_to_b_to_a": ("A→B→A", "a"),
    "b_to_a_to_b": ("B→A→B", "b"),
}


@dataclass(frozen=True)
class StitchedLoss:
    """Mean next-token losses in nats (Table 1). Every path that one model finishes counts the same
    predictions, those from rows that a stitch maps: `tokens` of A's, `tokens_b` of B's.

    `a_to_b` runs A up to `layer_a`, maps up, and finishes in B from `layer_b`; `a_to_b_to_a` maps
    A's rows up and down again. `relative` compares each with the model that finishes.

    >>> loss = StitchedLoss(a=4.0, b=2.0, a_to_b=3.0, b_to_a=5.0, a_to_b_to_a=4.0, b_to_a_to_b=2.5,
    ...     tokens=100, layer_a=1, layer_b=2, special="own")
    >>> loss.relative["a_to_b"]
    0.5
    """

    a: float
    b: float
    a_to_b: float
    b_to_a: float
    a_to_b_to_a: float
    b_to_a_to_b: float
    tokens: int
    layer_a: int
    layer_b: int
    special: SpecialRows
    #: B's predictions; as many as A's where the tokenizers are the same.
    tokens_b: int | None = None
    #: Share of each model's rows that are replaced in the other's paths: those at shared ends.
    share_a: float = 1.0
    share_b: float = 1.0

    @property
    def relative(self) -> dict[str, float]:
        """Relative change of each stitched loss against the model that finishes."""
        return {
            field: getattr(self, field) / getattr(self, finish) - 1
            for field, (_, finish) in _PATHS.items()
            if finish
        }

    def to_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {
            **{field: getattr(self, field) for field in _PATHS},
            "relative": self.relative,
            "tokens": self.tokens,
            "tokens_b": self.tokens if self.tokens_b is None else self.tokens_b,
            "share_a": self.share_a,
            "share_b": self.share_b,
            "layer_a": self.layer_a,
            "layer_b": self.layer_b,
            "special": self.special,
        }

    def __str__(self) -> str:
        head = f"next-token loss, {self.tokens:,} predictions; A.{self.layer_a}, B.{self.layer_b}"
        if self.share_a < 1 or self.share_b < 1:
            head += (
                f"\nreplaced at shared ends: {100 * self.share_a:.1f} % of A's rows, "
                f"{100 * self.share_b:.1f} % of B's"
            )
        lines = [head, f"{'path':8}{'loss':>9}{'change':>10}"]
        for field, (label, finish) in _PATHS.items():
            line = f"{label:8}{getattr(self, field):9.4f}"
            if finish:
                line += f"{self.relative[field]:+10.2%} of {finish.upper()}"
            lines.append(line)
        return "\n".join(lines)


def stitched_loss(
    model_a: nn.Module,
    model_b: nn.Module,
    stitch: Any,
    layer_a: int | str | Site,
    layer_b: int | str | Site,
    token_ids_or_texts: Any,
    tokenizer: Any = None,
    *,
    tokenizer_b: Any = None,
    special: SpecialRows = "own",
    batch_size: int = 16,
    context: int | None = None,
    chunking: Chunking = "split",
    prepend_bos: bool | None = None,
    skip_positions: int = 0,
    max_tokens: int | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> StitchedLoss:
    """The six losses of Table 1 for a stitch between two models.

    Every path predicts the same tokens from the same positions: text tokens with a next token,
    no special tokens, not the first `skip_positions`. With two tokenizers these are the last tokens
    at places of the text where a token of either ends, as in `extract_pair`: there rows are
    replaced, all others keep the finishing model's own, and each model predicts its own next token.

    Args:
        model_a, model_b: transformers causal language models.
        stitch: anything with arrays `P_up (dA, dB)`, `b_up (dB,)`, `P_down (dB, dA)` and
            `b_down (dA,)`, such as a `suture.Stitch`; applied in float32.
        layer_a, layer_b: the layers it joins; layer l is the input of block l. Also names of the
            streams, or `suture.Site`.
        token_ids_or_texts: held-out texts or token ids, as for `extract`.
        tokenizer: that of both models; needed for texts, tells the special tokens.
        tokenizer_b: B's own tokenizer, where it may be another: texts are read with both. Of a
            tokenizer that cannot tell which part of a text a token is, all tokens must be equal.
        special: what the finishing model gets at special tokens and at the first
            `skip_positions`, where the stitch was not fitted. "own": its own residual there,
            which it would have computed itself on these tokens, so that only fitted rows are
            mapped; "stitch": the mapped row of the starting model, an extrapolation. On a pair of
            small GPT-NeoX models (96 and 192 wide, BOS in every sequence) "stitch" changed the
            relative losses by -0.1 to +0.4 points for A→B and +0.9 to +1.4 for B→A.
        batch_size, context, chunking, prepend_bos, skip_positions, progress, device: as for
            `extract`.
        max_tokens: read no sequence beyond the one that reaches this many counted rows.

    Raises:
        ValueError: shapes of the stitch do not fit the models, a layer does not exist, token ids
            differ or are outside a vocabulary.

    >>> import numpy as np, suture.models
    >>> from types import SimpleNamespace
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> eye, zero = np.eye(16, dtype=np.float32), np.zeros(16, np.float32)
    >>> same = SimpleNamespace(P_up=eye, b_up=zero, P_down=eye, b_down=zero)
    >>> loss = suture.models.stitched_loss(model, model, same, 1, 1, ["some text"], tokenizer)
    >>> loss.a_to_b == loss.a
    True
    """
    blocks = {"a": find_blocks(model_a, "model_a"), "b": find_blocks(model_b, "model_b")}
    layers = {
        "a": check_layer("layer_a", layer_a, blocks["a"]),
        "b": check_layer("layer_b", layer_b, blocks["b"]),
    }
    models = {"a": model_a, "b": model_b}
    check_count("batch_size", batch_size, 1)
    if special not in get_args(SpecialRows):
        raise ValueError(
            f"special: {special!r}, expected one of {', '.join(get_args(SpecialRows))}"
        )
    maps = _maps(stitch, model_a, model_b)
    cutting = Cutting(context, chunking, prepend_bos, skip_positions, max_tokens)
    if tokenizer_b is not None and isinstance(token_ids_or_texts, Iterator):
        token_ids_or_texts = list(token_ids_or_texts)  # it is read several times
    pair = None
    if (
        tokenizer_b is not None
        and all(getattr(each, "is_fast", False) for each in (tokenizer, tokenizer_b))
        and kind_of(token_ids_or_texts, "token_ids_or_texts")[0] == "texts"
    ):
        pair = pair_corpus(
            models,
            {"a": tokenizer, "b": tokenizer_b},
            token_ids_or_texts,
            cutting,
            "token_ids_or_texts",
        )
        if pair.identical:
            pair, tokenizer_b = None, None
        elif special != "own":
            raise ValueError(
                f"special: {special!r}, expected 'own': the tokenizers differ, and rows that are "
                "at no shared end have none to take their place"
            )

    def corpus_of(which: Any) -> Corpus:
        return build_corpus(
            {"model_a": model_a, "model_b": model_b},
            which,
            token_ids_or_texts,
            cutting,
            "token_ids_or_texts",
        )

    if pair is not None:
        corpora = {"a": pair.a, "b": pair.b}
    else:
        corpora = dict.fromkeys("ab", corpus_of(tokenizer))
        if tokenizer_b is not None:
            _check_same(corpora["a"], corpus_of(tokenizer_b))
    sums = {field: LossSum(label) for field, (label, _) in _PATHS.items()}

    def finish(field: str, which: str, rows: Tensor, at: Tensor, batch: Batch) -> None:
        hook = {layers[which]: replacing(rows, at)}
        with residual_hooks(blocks[which], hook):
            sums[field].add(run(models[which], batch.ids, batch.mask), batch)

    with (
        borrowed(model_a, device) as device_a,
        borrowed(model_b, device) as device_b,
        progress_bar(len(corpora["a"].windows), "stitched loss", progress) as bar,
    ):
        for which, where in (("a", device_a), ("b", device_b)):
            check_reading(
                models[which], blocks[which], [layers[which]], corpora[which].sequences,
                where, names=(f"model_{which}", f"layer_{which}"),
            )  # fmt: skip
        for in_a, in_b in zip(
            batches(corpora["a"], batch_size, device_a),
            batches(corpora["b"], batch_size, device_b),
            strict=True,
        ):
            rows: dict[str, Tensor] = {}
            for which, batch in (("a", in_a), ("b", in_b)):
                at = batch.kept if special == "own" else batch.mask.bool()
                with residual_hooks(blocks[which], {layers[which]: recording(rows, which, at)}):
                    sums[which].add(run(models[which], batch.ids, batch.mask), batch)
            at_a, at_b = (x.kept if special == "own" else x.mask.bool() for x in (in_a, in_b))
            up, down = maps["up"](rows["a"]), maps["down"](rows["b"])
            finish("a_to_b", "b", up, at_b, in_b)
            finish("b_to_a", "a", down, at_a, in_a)
            finish("a_to_b_to_a", "a", maps["down"](up), at_a, in_a)
            finish("b_to_a_to_b", "b", maps["up"](down), at_b, in_b)
            bar.update(len(in_a.ids))
    return StitchedLoss(
        **{field: total.value() for field, total in sums.items()},
        tokens=sums["a"].count,
        layer_a=layers["a"],
        layer_b=layers["b"],
        special=special,
        tokens_b=sums["b"].count,
        share_a=len(pair.single) / pair.counted_a if pair else 1.0,
        share_b=len(pair.single) / pair.counted_b if pair else 1.0,
    )


def _maps(stitch: Any, model_a: nn.Module, model_b: nn.Module) -> dict[str, Any]:
    """`up` and `down` on float32 rows of any device."""
    d_a, d_b = (stream_width(model) for model in (model_a, model_b))
    shapes = {"P_up": (d_a, d_b), "b_up": (d_b,), "P_down": (d_b, d_a), "b_down": (d_a,)}
    weights = {}
    for name, shape in shapes.items():
        if not hasattr(stitch, name):
            raise TypeError(
                f"stitch: {type(stitch).__name__} has no {name}, expected a suture.Stitch, or "
                "arrays P_up, b_up, P_down, b_down"
            )
        array = np.array(getattr(stitch, name), np.float32)  # a copy: torch wants it writable
        if array.shape != shape:
            raise ValueError(
                f"stitch.{name}: shape {array.shape}, expected {shape} for model_a of width {d_a} "
                f"and model_b of width {d_b}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"stitch.{name}: holds NaN or infinity, expected finite values")
        weights[name] = torch.from_numpy(array)

    def through(matrix: Tensor, bias: Tensor) -> Any:
        def apply(rows: Tensor) -> Tensor:
            return rows @ matrix.to(rows.device) + bias.to(rows.device)

        return apply

    return {
        "up": through(weights["P_up"], weights["b_up"]),
        "down": through(weights["P_down"], weights["b_down"]),
    }


def _check_same(a: Corpus, b: Corpus) -> None:
    hint = "a stitch joins models that read the same tokens: the tokenizers must agree"
    for number, (one, other) in enumerate(zip(a.sequences, b.sequences, strict=False)):
        shared = min(len(one), len(other))
        differing = np.flatnonzero(one[:shared] != other[:shared])
        if len(differing):
            at = int(differing[0])
            raise ValueError(
                f"tokenizer_b: token id {other[at]} in sequence {number}, position {at}, "
                f"expected {one[at]} as tokenizer gives: {hint}"
            )
        if len(one) != len(other):
            raise ValueError(
                f"tokenizer_b: {len(other)} tokens in sequence {number}, expected {len(one)} as "
                f"tokenizer gives: {hint}"
            )
    if len(a.sequences) != len(b.sequences):
        raise ValueError(
            f"tokenizer_b: {len(b.sequences)} sequences, expected {len(a.sequences)}: {hint}"
        )
    if a.special_ids != b.special_ids:
        raise ValueError(
            f"tokenizer_b: special ids {sorted(b.special_ids)}, expected "
            f"{sorted(a.special_ids)} as tokenizer has: {hint}"
        )

# SPDX-License-Identifier: Apache-2.0
"""Whether what comes out of a model means what it is taken for, tried on a few tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._residual import (
    ResidualFunction,
    StreamError,
    check_seen,
    check_shape,
    residual_hooks,
    run,
    stream_width,
    unwrapped,
)

Read = Callable[[Tensor, Tensor], dict[int, Tensor]]
"""Runs a model on (batch, position) ids and mask; gives (batch, position, …) values by number."""

_TOKENS = 16
# Of the median row, relative to its norm, by whether numbers are of 32 bits or less. Rounding makes
# 1e-6 in float32 and 0.016 in bfloat16 in a model of 30 blocks (SmolLM2-135M), tokens that change
# their expert by it are few, and attention to later tokens makes tens of per cent.
_TOLERANCE, _HALF_TOLERANCE = 0.05, 0.1


def check_reading(
    model: nn.Module,
    blocks: nn.ModuleList,
    layers: Sequence[int],
    sequences: Sequence[Any],
    where: torch.device,
    names: tuple[str, str] = ("model", "layers"),
) -> None:
    """Runs the first tokens of one sequence and refuses, by name, a model whose rows would mislead.

    Every layer asked for must be run exactly once in a forward pass, over one residual stream
    (batch, position, d), and its rows must be those of the tokens up to theirs: the same whatever
    follows them, whatever they are batched with, and however they are padded.

    Raises:
        ValueError: naming the model and what is wrong with it, by the caller's `names`.
    """

    def read(ids: Tensor, mask: Tensor) -> dict[int, Tensor]:
        return _streams(model, blocks, layers, ids, mask)

    try:
        _check(model, "residual stream", read, sequences, where)
    except StreamError as error:
        argument, colon, words = str(error).partition(": ")
        known = dict(zip(("model", "layers"), names, strict=True))
        raise StreamError(known.get(argument, argument) + colon + words) from error.__cause__


def check_causal(model: nn.Module, sequences: Sequence[Any], where: torch.device) -> None:
    """The same of a model's logits, whatever it keeps between its blocks."""

    def read(ids: Tensor, mask: Tensor) -> dict[int, Tensor]:
        logits = getattr(_tried(model, ids, mask), "logits", None)
        # What has no logits is refused where they are needed, in words of the place.
        return {0: logits.float()} if isinstance(logits, Tensor) else {}

    _check(model, "prediction", read, sequences, where)


def _check(
    model: nn.Module, what: str, read: Read, sequences: Sequence[Any], where: torch.device
) -> None:
    ids = torch.as_tensor(max(sequences, key=len)[:_TOKENS])
    length = len(ids)
    half = max(1, length // 2)
    alone = read(ids[None, :half].to(where), torch.ones(1, half, dtype=ids.dtype).to(where))
    padded, mask = torch.zeros(2, length, dtype=ids.dtype), torch.ones(2, length, dtype=ids.dtype)
    padded[0], padded[1, :half], mask[1, half:] = ids, ids[:half], 0
    both = read(padded.to(where), mask.to(where))
    name = type(unwrapped(model)).__name__
    half_precision = any(parameter.dtype.itemsize < 4 for parameter in model.parameters())
    tolerance = _HALF_TOLERANCE if half_precision else _TOLERANCE
    if _difference(alone, both, 1) > tolerance:
        raise StreamError(
            f"model: the {what} of {name} changes with padding, or with what else is in the "
            "batch, expected one that a text alone decides"
        )
    if _difference(alone, both, 0) > tolerance:
        raise StreamError(
            f"model: the {what} of {name} at a token depends on the tokens after it, expected a "
            "causal language model (one that reads in both directions, if only its prompt, gives "
            "a token other rows in every length of the text)"
        )


def _streams(
    model: nn.Module, blocks: nn.ModuleList, layers: Sequence[int], ids: Tensor, mask: Tensor
) -> dict[int, Tensor]:
    """What all blocks are given, in a pass to the end."""
    seen: dict[int, Tensor] = {}
    shape = (*ids.shape, stream_width(model))

    def keep(layer: int) -> ResidualFunction:
        def function(stream: Tensor) -> None:
            check_shape(stream, shape, layer, blocks)
            if layer in seen and layer in layers:
                raise StreamError(
                    f"layers: {layer}: {type(unwrapped(model)).__name__} runs block "
                    f"{min(layer, len(blocks) - 1)} more than once in a forward pass, so that "
                    "its number names several streams, expected a block that runs once"
                )
            seen[layer] = stream.detach().float().clone()

        return function

    with residual_hooks(blocks, {n: keep(n) for n in range(len(blocks) + 1)}):
        _tried(model, ids, mask)
    check_seen(seen, layers, blocks)
    return seen


def _tried(model: nn.Module, ids: Tensor, mask: Tensor) -> Any:
    try:
        return run(model, ids, mask)
    except StreamError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, NotImplementedError) as error:
        raise StreamError(
            f"model: {type(unwrapped(model)).__name__} fails on token ids and an attention mask "
            f"({type(error).__name__}: {error}), expected a causal language model of text"
        ) from error


def _difference(alone: dict[int, Tensor], both: dict[int, Tensor], row: int) -> float:
    """The largest, over layers, of the median relative difference of the tokens they share."""
    worst = 0.0
    for layer in alone.keys() & both.keys():
        one = alone[layer][0]
        other = both[layer][row, : len(one)]
        relative = (one - other).norm(dim=-1) / one.norm(dim=-1).clamp_min(1e-30)
        worst = max(worst, float(relative.median()))
    return worst

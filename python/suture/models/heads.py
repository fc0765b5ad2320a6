# SPDX-License-Identifier: Apache-2.0
"""The unembedding W_U of a model: what its residual stream is read with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ._borrowing import META, stored
from ._residual import text_config

__all__ = ["unembedding"]

# Where the norm before the output head lives in the common families.
NORM_PATHS = (
    "gpt_neox.final_layer_norm",
    "transformer.ln_f",
    "transformer.norm_f",
    "model.norm",
    "model.final_layernorm",
    "model.final_layer_norm",
    "model.decoder.final_layer_norm",
    "backbone.norm_f",
    "model.language_model.norm",
    "language_model.model.norm",
)


def unembedding(model: nn.Module, *, fold_norm: bool = False) -> npt.NDArray[np.float32]:
    """W_U (d, vocabulary) of a causal language model: the weight of its output head, transposed.

    By default as it is, as in the paper (arXiv 2506.06609): attribution correlations and null
    spaces are of W_U itself. What stands between residual stream and logits is the final norm as
    well: with `fold_norm` its gain multiplies the rows, and where it is a LayerNorm each column is
    centred, so that `h @ W_U` are the logits up to the norm's scale (one positive number a token)
    and a shift that is the same for all tokens of the text. Promoted and suppressed tokens are
    usually read from that one; a centred W_U always has one direction of singular value zero. A
    bias of the head, caps and scales of the logits are left out.

    Args:
        model: a transformers causal language model.
        fold_norm: fold in the gain of the final norm, and its centring where it centres.

    Returns:
        (d, vocabulary) float32. The vocabulary is that of the head, which may be padded beyond the
        tokenizer's: cut it with `W_U[:, :len(tokenizer)]` where two models are padded differently.

    Raises:
        TypeError, ValueError: no transformers model, no output head, or with `fold_norm` a final
            norm that is not found or is none.

    >>> import suture.models
    >>> model, _, _ = suture.models.tiny_pair()
    >>> suture.models.unembedding(model).shape
    (16, 259)
    """
    text_config(model)
    if not isinstance(fold_norm, bool):
        raise TypeError(f"fold_norm: {fold_norm!r}, expected True or False")
    get = getattr(model, "get_output_embeddings", None)
    head: Any = get() if callable(get) else None
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(
            f"model: {type(model).__name__} has no output head with a matrix of weights, expected "
            "a causal language model (AutoModelForCausalLM)"
        )
    rows = stored(head, "weight", weight).float().cpu()
    if fold_norm:
        gain, centred = _norm(_final_norm(model), rows.shape[1])
        rows = rows * gain
        if centred:
            rows = rows - rows.mean(dim=1, keepdim=True)
    result: npt.NDArray[np.float32] = rows.numpy().T
    return result


def _final_norm(model: nn.Module) -> nn.Module:
    for path in NORM_PATHS:
        found: Any = model
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.Module):
            return found
    raise ValueError(
        f"model: the final norm of {type(model).__name__} was not found, expected one at "
        f"{', '.join(NORM_PATHS)}"
    )


def _norm(norm: nn.Module, d: int) -> tuple[Tensor, bool]:
    """Gain of a norm, and whether it centres its input, found by asking it: families differ in what
    they store (Gemma keeps the gain less one)."""
    # No zeros, mean 0.
    x = torch.ones(d, dtype=torch.float32)
    x[1::2] = -1
    if d % 2:
        x[-3:] = torch.tensor([1.0, 1.0, -2.0]) if d > 1 else 1.0
    example = next(norm.parameters(), x)
    # Where accelerate has offloaded the norm, it comes to its input.
    x = x.to("cpu" if example.device == META else example.device)

    def apply(value: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = norm(value.to(example.dtype)[None])
        return found[0].float()

    gain = (apply(x) - apply(-x)) / (2 * x) * x.square().mean().sqrt()
    shifted = (apply(x + 3) - apply(-x - 3)) / 2
    centred = torch.allclose(shifted, gain * x / x.square().mean().sqrt(), atol=1e-3, rtol=1e-2)
    if not torch.isfinite(gain).all():
        raise ValueError(f"model: {type(norm).__name__} is no norm that can be folded")
    return gain.cpu(), centred

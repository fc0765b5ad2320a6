# SPDX-License-Identifier: Apache-2.0
"""Queries and keys of single attention heads, in one form for every architecture that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ._borrowing import META
from ._residual import find_blocks, text_config


@dataclass(frozen=True)
class Rotation:
    """Rotary position embedding of the first coordinates of a head; the others are left alone.

    `cos` and `sin` are (position, rotated), the model's own numbers.
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, rows: Tensor, positions: Tensor) -> Tensor:
        """(…, d_head) rows, each turned by the angle of its position; positions broadcast."""
        cos, sin = self.cos[positions], self.sin[positions]
        size = cos.shape[-1]
        turned, rest = rows[..., :size], rows[..., size:]
        first, second = turned.chunk(2, dim=-1)
        turned = turned * cos + torch.cat((-second, first), dim=-1) * sin
        return torch.cat((turned, rest), dim=-1)


@dataclass(frozen=True)
class LayerHeads:
    """What turns the residual stream before a block into its heads' queries and keys.

    `query_weight` and `key_weight` are (n_heads, d, d_head), `query_bias` and `key_bias`
    (n_heads, d_head), all float32; `normed(stream) @ query_weight[h] + query_bias[h]` are the
    queries of head h, before any rotation.
    `scaling` is what their products with keys are multiplied by, 1 / sqrt(d_head) as a rule.
    """

    norm: nn.LayerNorm
    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    key_bias: Tensor
    scaling: float

    def normed(self, stream: Tensor) -> Tensor:
        """The layer norm, in float32 whatever the model computes in."""
        gain, bias = self.norm.weight, self.norm.bias
        return nn.functional.layer_norm(
            stream.float(),
            self.norm.normalized_shape,
            None if gain is None else gain.float(),
            None if bias is None else bias.float(),
            self.norm.eps,
        )

    def inverse_deviation(self, stream: Tensor) -> Tensor:
        """What the layer norm multiplies each centred row by, before its gain."""
        variance = stream.float().var(dim=-1, correction=0)
        return torch.rsqrt(variance + self.norm.eps)

    def linearised(self, directions: Tensor, scale: float) -> Tensor:
        """What the layer norm makes of a small step along (n, d) directions, its scale held."""
        centred = directions - directions.mean(dim=-1, keepdim=True)
        gain = self.norm.weight
        return centred * scale if gain is None else centred * scale * gain.float()

    def query(self, normed: Tensor, head: int) -> Tensor:
        return normed @ self.query_weight[head] + self.query_bias[head]

    def key(self, normed: Tensor, head: int) -> Tensor:
        return normed @ self.key_weight[head] + self.key_bias[head]


class FirstAttention:
    """Attention of one head to the first position, of queries that are given anew; its keys are
    those of a (batch, position, d) residual stream."""

    def __init__(
        self, part: LayerHeads, head: int, stream: Tensor, rotation: Rotation | None
    ) -> None:
        self._part, self._head, self._rotation = part, head, rotation
        self._places = torch.arange(stream.shape[1], device=stream.device)
        keys = part.key(part.normed(stream), head)
        self._keys = keys if rotation is None else rotation(keys, self._places)

    def __call__(self, rows: Tensor, sequence: Tensor, position: Tensor) -> Tensor:
        """(n,) probabilities, for (n, d) rows of the residual stream at these places."""
        query = self._part.query(self._part.normed(rows), self._head)
        if self._rotation is not None:
            query = self._rotation(query, position)
        probability = torch.empty(len(rows), device=rows.device)
        for number in set(sequence.tolist()):
            mine = sequence == number
            logits = query[mine] @ self._keys[number].T * self._part.scaling
            later = self._places[None, :] > position[mine][:, None]
            probability[mine] = logits.masked_fill(later, float("-inf")).softmax(dim=-1)[:, 0]
        return probability


@dataclass(frozen=True)
class Heads:
    """The attention heads of a model."""

    n_layers: int
    n_heads: int
    layer: Callable[[int], LayerHeads]
    rotation: Callable[[int, torch.device], Rotation | None]
    """For the positions 0 to n - 1, on a device; None where nothing is rotated."""


def find_heads(model: nn.Module) -> Heads:
    """The heads of a GPT-NeoX or GPT-2 model; others are refused by name."""
    blocks = find_blocks(model)
    config = text_config(model)
    if any(parameter.device == META for parameter in model.parameters()):
        raise ValueError(
            f"model: {type(model).__name__} has parameters on the meta device, expected a model "
            "that is not offloaded: its heads are read from their weights"
        )
    kind = getattr(config, "model_type", None)
    makers = {"gpt_neox": _gpt_neox, "gpt2": _gpt2}
    if kind not in makers:
        raise ValueError(
            f"model: {type(model).__name__} (model_type {kind!r}), expected one of "
            f"{', '.join(makers)}: the heads of other architectures cannot be read yet"
        )
    return makers[kind](model, blocks, config)


def _gpt_neox(model: Any, blocks: nn.ModuleList, config: Any) -> Heads:
    n_heads = int(config.num_attention_heads)

    def layer(number: int) -> LayerHeads:
        block: Any = blocks[number]
        linear = block.attention.query_key_value
        # Rows of the weight: for each head its query, its key, its value.
        weight = linear.weight.detach().float().unflatten(0, (n_heads, 3, -1))
        bias = _bias(linear, weight.shape[:3])
        return LayerHeads(
            norm=block.input_layernorm,
            query_weight=weight[:, 0].transpose(1, 2),
            query_bias=bias[:, 0],
            key_weight=weight[:, 1].transpose(1, 2),
            key_bias=bias[:, 1],
            scaling=float(block.attention.scaling),
        )

    def rotation(length: int, device: torch.device) -> Rotation:
        rows = torch.zeros(1, length, 1, device=device)
        positions = torch.arange(length, device=device)[None]
        cos, sin = model.base_model.rotary_emb(rows, position_ids=positions)
        return Rotation(cos[0], sin[0])

    return Heads(len(blocks), n_heads, layer, rotation)


def _gpt2(model: Any, blocks: nn.ModuleList, config: Any) -> Heads:
    n_heads = int(config.num_attention_heads)

    def layer(number: int) -> LayerHeads:
        block: Any = blocks[number]
        conv = block.attn.c_attn
        # A Conv1D holds (in, out); of its columns, first come all queries, then all keys.
        weight = conv.weight.detach().float().unflatten(1, (3, n_heads, -1)).permute(1, 2, 0, 3)
        bias = _bias(conv, (3, n_heads, weight.shape[-1]))
        return LayerHeads(
            norm=block.ln_1,
            query_weight=weight[0],
            query_bias=bias[0],
            key_weight=weight[1],
            key_bias=bias[1],
            scaling=float(block.attn.scaling),
        )

    return Heads(len(blocks), n_heads, layer, lambda length, device: None)


def _bias(module: Any, shape: tuple[int, ...]) -> Tensor:
    if module.bias is None:
        return torch.zeros(shape, device=module.weight.device)
    bias: Tensor = module.bias.detach().float().reshape(shape)
    return bias

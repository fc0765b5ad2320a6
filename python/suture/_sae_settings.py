# SPDX-License-Identifier: Apache-2.0
"""Words and numbers that describe a SAE, and what goes with what."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from . import _core
from ._arguments import integer, real
from ._inputs import Array, weight

Architecture = Literal["topk", "batchtopk", "jumprelu", "relu", "gated"]
Normalization = Literal["none", "fixed_scale", "token_norm", "layer_norm"]
ARCHITECTURES = ("topk", "batchtopk", "jumprelu", "relu", "gated")
NORMALIZATIONS = ("none", "fixed_scale", "token_norm", "layer_norm")
# Weights beside W_enc, W_dec and b_dec.
OWN_WEIGHTS = {
    "topk": ("b_enc",),
    "batchtopk": ("b_enc", "threshold"),
    "jumprelu": ("b_enc", "threshold"),
    "relu": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
}


def vector(array: Array, name: str) -> _core.Rows | None:
    return None if array is None and name != "b_dec" else weight(array, name, vector=True)


def latents(architecture: str, k: int | None) -> int:
    if architecture == "topk" or (architecture == "batchtopk" and k is not None):
        return integer("k", k, 1, 2**31 - 1)
    if k is not None:
        raise TypeError(f"k is {k!r}, expected None for {architecture}")
    return 0


def fixed_scale(normalization: str, scale: float | None) -> float:
    if normalization == "fixed_scale":
        return real("scale", scale, above=True)
    if scale is not None:
        raise TypeError(f"scale is {scale!r}, expected None for normalization {normalization!r}")
    return 0.0


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)

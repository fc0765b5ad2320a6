# SPDX-License-Identifier: Apache-2.0
"""What the main experiment can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told. Token counts are upper limits."""

    #: Tokens a sequence.
    context: int = 128
    #: Layer of A; None takes the middle one.
    layer_a: int | None = None
    #: Layer of B; None picks it by SVCCA, embeddings excluded.
    layer_b: int | None = None
    svcca_tokens: int = 50_000
    fit_tokens: int = 800_000
    held_out_tokens: int = 200_000
    loss_tokens: int = 60_000
    #: Weight of the stitch's inversion terms.
    alpha: float = 1.0
    d_sae: int = 4096
    k: int = 32
    sae_tokens: int = 2_000_000
    lr: float = 2e-3
    batch_size: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses at once what a later step would refuse after minutes of work."""
        for name in ("context", "svcca_tokens", "fit_tokens", "held_out_tokens", "loss_tokens"):
            _at_least(name, getattr(self, name), 2)
        for name in ("d_sae", "k", "sae_tokens", "batch_size"):
            _at_least(name, getattr(self, name), 1)
        if self.k > self.d_sae:
            raise ValueError(f"k is {self.k}, expected at most d_sae = {self.d_sae}")
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}, expected a finite number of at least 0")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}, expected a finite number above 0")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")

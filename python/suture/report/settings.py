# SPDX-License-Identifier: Apache-2.0
"""What the main experiment can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Objective = Literal["scaled", "raw"]


@dataclass(frozen=True)
class PairSettings:
    """What every experiment on a pair of models can be told. Token counts are upper limits."""

    #: Tokens a sequence.
    context: int = 128
    #: Layer of A; None takes the middle one.
    layer_a: int | None = None
    #: Layer of B; None picks it by SVCCA, embeddings excluded.
    layer_b: int | None = None
    #: SVCCA compares every so many-th layer, and those that are given.
    layer_step: int = 1
    svcca_tokens: int = 50_000
    #: Tokens to fit and train on; a longer training sees them several times.
    fit_tokens: int = 800_000
    #: Tokens among them that the stitch is fitted on; None: all.
    stitch_tokens: int | None = None
    held_out_tokens: int = 200_000
    #: Weight of the stitch's inversion terms.
    alpha: float = 1.0
    #: "scaled" divides each stream's errors by its variance, "raw" is the paper's (``Stitch.fit``).
    objective: Objective = "scaled"
    k: int = 32
    #: Tokens a SAE is trained on.
    sae_tokens: int = 2_000_000
    batch_size: int = 4096

    def __post_init__(self) -> None:
        """Refuses at once what a later step would refuse after minutes of work."""
        for name in ("context", "svcca_tokens", "fit_tokens", "held_out_tokens"):
            at_least(name, getattr(self, name), 2)
        if self.stitch_tokens is not None:
            at_least("stitch_tokens", self.stitch_tokens, 2)
        for name in ("k", "sae_tokens", "batch_size", "layer_step"):
            at_least(name, getattr(self, name), 1)
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha}, expected a finite number of at least 0")
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is {self.objective!r}, expected 'scaled' or 'raw'")


@dataclass(frozen=True)
class Settings(PairSettings):
    """What the main experiment can be told."""

    loss_tokens: int = 60_000
    d_sae: int = 4096
    lr: float = 2e-3
    seed: int = 0
    #: 1: train SAEs on activations scaled to a mean norm of √d, from their mean on, so that one
    #: learning rate suits streams of any size; 0: on activations as they are, as the paper does.
    scale_inputs: int = 0
    #: 1: train a SAE on B as well and carry it to A; 0: from A to B only.
    both_ways: int = 0

    def __post_init__(self) -> None:
        """Refuses at once what a later step would refuse after minutes of work."""
        super().__post_init__()
        at_least("loss_tokens", self.loss_tokens, 2)
        at_least("d_sae", self.d_sae, 1)
        if self.k > self.d_sae:
            raise ValueError(f"k is {self.k}, expected at most d_sae = {self.d_sae}")
        positive("lr", self.lr)
        for name in ("both_ways", "scale_inputs"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or 1")


def at_least(name: str, value: int, least: int) -> None:
    """Refuses a smaller value."""
    if value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")


def positive(name: str, value: float) -> None:
    """Refuses what is not a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}, expected a finite number above 0")

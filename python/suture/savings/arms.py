# SPDX-License-Identifier: Apache-2.0
"""Where a SAE on B can begin: one entry for each start of the experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from suture._train_options import TrainOptions

__all__ = ["ARMS", "Arm", "of_a", "swept"]


@dataclass(frozen=True)
class Arm:
    """A start, and how it is trained."""

    #: As figures and tables call it.
    label: str
    color: str
    #: Where its encoder comes from: nowhere, a SAE of A through the stitch, or by pairs of rows.
    source: Literal["random", "stitch", "pairs"]
    #: What is done before training: the decoder solved anew, or the encoder tied to it as well.
    mending: Literal["none", "refit", "tied"] = "none"
    #: What its learning rate is chosen for: the most explained variance at the end, or that with
    #: features that still are A's (`results.kept_lr`).
    goal: Literal["explained", "kept"] = "explained"
    #: The arm whose start it has; only its rate is another. It is tried at that arm's rates.
    like: str | None = None
    #: Trained at the first width only: a control.
    control: bool = False
    #: Settings of training beside rate, batch size and seed.
    options: TrainOptions = field(default_factory=lambda: TrainOptions())


ARMS = {
    "random": Arm("random", "#8a97a6", "random"),
    "transferred": Arm("transferred", "#2f6fab", "stitch"),
    "refitted": Arm("transferred, refitted", "#2a9d8f", "stitch", "refit"),
    "tied": Arm("transferred, tied", "#b5476d", "stitch", "tied"),
    "pairs": Arm("by pairs", "#d9622b", "pairs", "refit"),
    "pairs_kept": Arm("by pairs, low rate", "#7d9b1e", "pairs", "refit", "kept", like="pairs"),
    # What the mending is worth by itself.
    "random_refitted": Arm("random, refitted", "#e09f3e", "random", "refit", control=True),
    "random_tied": Arm("random, tied", "#7a5ea8", "random", "tied", control=True),
}


def of_a(arm: str) -> bool:
    """Whether a start comes from a SAE of A, with whose latents its own can be compared."""
    return ARMS[arm].source != "random"


def swept(arms: tuple[str, ...]) -> list[str]:
    """Those that have a start of their own, at which rates are tried."""
    return [arm for arm in arms if ARMS[arm].like is None]

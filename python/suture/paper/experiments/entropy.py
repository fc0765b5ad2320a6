# SPDX-License-Identifier: Apache-2.0
"""Section 5: features that write where no logit hears them, and whether their transfers do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper import measures
from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "Entropy features"
SECTION = "5"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Features that are active on fewer of the held-out tokens, in A or in B, are left out.
    least_active: int = 20
    #: The features with the largest null-space fractions in A that are followed to B.
    strongest: int = 20

    def __post_init__(self) -> None:
        for name in ("least_active", "strongest"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Null-space fraction and largest activation of every feature, before and after the
    transfer."""
    found = {side: measures.features(ground, which) for side, which in WHICH}
    tokens = ground.held_out_rows.result["tokens"]
    firing = np.minimum(found["a"]["frequency"], found["b"]["frequency"])
    kept = np.flatnonzero(firing * tokens >= settings.least_active)
    if len(kept) < 3:
        raise ValueError(
            f"least_active is {settings.least_active}, expected fewer: {len(kept)} features are "
            "active on so many held-out tokens"
        )
    values = {side: found[side]["null_space_fraction"][kept] for side, _ in WHICH}
    maxima = {side: found[side]["maximum"][kept] for side, _ in WHICH}
    strongest = np.argsort(-values["a"], kind="stable")[: settings.strongest]
    places = measures.ranks(values["b"]) / len(kept)
    return {
        "features": kept.tolist(),
        "left_out": len(firing) - len(kept),
        "fraction": {side: values[side].tolist() for side in values},
        "maximum": {side: maxima[side].tolist() for side in maxima},
        "null_space": {
            side: _null_space(found[side]["singular_values"], values[side]) for side in values
        },
        "rank_fraction": _or_none(measures.rank_correlation(values["a"], values["b"])),
        "rank_maximum": _or_none(measures.rank_correlation(maxima["a"], maxima["b"])),
        "rank_within": {
            side: _or_none(measures.rank_correlation(values[side], maxima[side])) for side in values
        },
        "strongest": {
            "places": strongest.tolist(),
            "percentile_in_b": (100 * places[strongest]).tolist(),
            "still_in_top_tenth": float(np.mean(places[strongest] > 0.9)),
        },
    }


#: Side of the pair, and the SAE there.
WHICH = (("a", "a"), ("b", "transferred"))


def _null_space(singular_values: measures.Floats, fractions: measures.Floats) -> dict[str, Any]:
    """How small its singular values are, and what random directions would have in it."""
    width = len(singular_values)
    count = max(1, round(measures.NULL_SPACE * width))
    # Squared parts of a random direction are chi-squared.
    rng = np.random.default_rng(0)
    shape = (101, len(fractions))
    inside = rng.chisquare(count, shape)
    outside = rng.chisquare(width - count, shape) if count < width else 0.0
    largest = float(np.median(np.sqrt(inside / (inside + outside)).max(axis=1)))
    return {
        "directions": count,
        "largest_by_chance": largest,
        "above_chance": int((fractions > largest).sum()),
        "relative_singular_value": float(
            singular_values[:count].mean() / np.median(singular_values)
        ),
    }


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 5a."""
    spaces = result["null_space"]
    stay = result["strongest"]["still_in_top_tenth"]
    rank = result["rank_fraction"]
    largest = {side: max(result["fraction"][side]) for side in spaces}
    present = spaces["a"]["above_chance"] > 0 and largest["a"] > 0.5
    kept = stay >= 0.5
    why = ""
    if not present:
        why = (
            "There is hardly an entropy feature to begin with. Beyond the largest of so many "
            f"random directions: {spaces['a']['above_chance']}; with most of the row in the null "
            f"space: {sum(value > 0.5 for value in result['fraction']['a'])}; the bottom "
            f"{measures.NULL_SPACE:.0%} of A's singular values are "
            f"{spaces['a']['relative_singular_value']:.2f} of the median one, where a null space "
            "would have about 0."
        )
    elif not kept:
        why = "The stitch does not map the null directions of A's unembedding to those of B's."
    return [
        Finding(
            "Fig. 5a",
            "Null-space fraction and largest activation, original and transferred",
            "Share of each decoder row in the effective null space of the unembedding (bottom 2 % "
            "of its singular values) against the largest activation, before and after. Expected: "
            "entropy features, with much of it there, keep that role.",
            f"Largest fraction {largest['a']:.2f} in A and {largest['b']:.2f} in B "
            f"({spaces['a']['directions']} and {spaces['b']['directions']} null directions; of as "
            f"many random directions the largest has {spaces['a']['largest_by_chance']:.2f} and "
            f"{spaces['b']['largest_by_chance']:.2f}). Of the "
            f"{len(result['strongest']['places'])} features with the largest fractions in A, "
            f"{stay:.0%} are in B's top tenth (10 % by chance). Rank correlation before and after: "
            f"fractions {_said(rank)}, largest activations {_said(result['rank_maximum'])}, "
            f"{len(result['features']):,} features.",
            verdict(reproduced=present and kept, partly=kept or (rank or 0.0) > 0.3),
            why,
        )
    ]


def _said(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"

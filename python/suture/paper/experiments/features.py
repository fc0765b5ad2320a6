# SPDX-License-Identifier: Apache-2.0
"""Section 5: single features, before and after the transfer, as pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper import measures

if TYPE_CHECKING:
    from suture.paper.finding import Finding
    from suture.paper.ground import Ground

TITLE = "Single features"
SECTION = "5"

#: Folder of the pages, beside the report.
FOLDER = "features"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Features with pages.
    count: int = 40
    #: Examples of each, and tokens of context before and after.
    examples: int = 8
    before: int = 16
    after: int = 6
    #: Promoted and suppressed tokens of each.
    words: int = 10
    #: Features that are active on fewer of the held-out tokens get no page.
    least_active: int = 20
    #: 1: with structural scores, where the texts say their language; 0: without.
    structural: int = 1
    #: 1: with the final norm folded into the unembedding; 0: W_U as it is.
    fold_norm: int = 0

    def __post_init__(self) -> None:
        for name in ("count", "examples", "words", "least_active"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("before", "after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        for name in ("structural", "fold_norm"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or 1")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Pages of some features, and how often every feature fires before and after."""
    from suture.analysis._pick import pick_features

    measured = {side: measures.features(ground, which) for side, which in WHICH}
    correlation = measures.attribution(ground)["correlation"]
    structural = _structural(ground) if settings.structural else None
    tokens = ground.held_out_rows.result["tokens"]
    frequency = {side: values["frequency"] for side, values in measured.items()}
    both = np.minimum(frequency["a"], frequency["b"])
    chosen = pick_features(
        both,
        min(settings.count, len(both)),
        correlation=correlation,
        structural=structural,
        least=(settings.least_active - 0.5) / tokens,
        seed=ground.settings.seed,
    )
    if not chosen:
        raise ValueError(
            f"least_active is {settings.least_active}, expected fewer: no feature is active on so "
            "many held-out tokens in both models"
        )
    folder = Path(ground.steps.folder).parent / FOLDER
    _write(ground, settings, chosen, correlation, structural, measured, folder)
    alive = np.flatnonzero((frequency["a"] > 0) & (frequency["b"] > 0))
    rank = measures.rank_correlation(frequency["a"][alive], frequency["b"][alive])
    return {
        "pages": f"{FOLDER}/index.html",
        "chosen": [{"feature": feature, "note": note} for feature, note in chosen],
        "tokens": tokens,
        "frequency": {side: frequency[side][alive].tolist() for side in frequency},
        "correlation": [None if np.isnan(c) else float(c) for c in correlation[alive]],
        "dead": {side: int((values == 0).sum()) for side, values in frequency.items()},
        "features": len(both),
        "rank_frequency": None if np.isnan(rank) else rank,
        "within_factor_two": float(
            np.mean(np.abs(np.log2(frequency["a"][alive] / frequency["b"][alive])) <= 1)
        ),
    }


#: Side of the pair, and the SAE there.
WHICH = (("a", "a"), ("b", "transferred"))


def _structural(ground: Ground) -> measures.Floats | None:
    """Structural scores of A's features; None where the texts do not allow them."""
    from suture import UnsupportedError
    from suture.paper.experiments import structure

    try:
        found: measures.Floats = structure.scores(ground, structure.Settings())
    except (ValueError, UnsupportedError):
        return None
    return found


def _write(
    ground: Ground,
    settings: Settings,
    chosen: list[tuple[int, str]],
    correlation: measures.Floats,
    structural: measures.Floats | None,
    measured: dict[str, dict[str, measures.Floats]],
    folder: Path,
) -> None:
    from suture import analysis

    summaries: dict[str, list[analysis.FeatureSummary]] = {}
    for side in measures.SIDES:
        head = ground.unembedding(side, fold_norm=bool(settings.fold_norm))
        summaries[side] = analysis.summarise_features(
            ground.sae(dict(WHICH)[side]),
            ground.activations("held_out", side),
            [feature for feature, _ in chosen],
            head,
            ground.tokenizer(side),
            layer=ground.layer(side),
            null_space=measured[side]["null_space_fraction"],
            words=min(settings.words, head.shape[1]),
            count=settings.examples,
            before=settings.before,
            after=settings.after,
            progress=ground.progress,
        )
    models = ground.models.result
    pairs = [
        analysis.FeaturePair(
            original=original,
            transferred=transferred,
            attribution_correlation=float(correlation[original.feature]),
            structural_score=None if structural is None else float(structural[original.feature]),
            note=note,
        )
        for original, transferred, (_, note) in zip(
            summaries["a"], summaries["b"], chosen, strict=True
        )
    ]
    index = analysis.write_feature_pages(
        pairs,
        folder,
        title=f"Features of {models['a']['name']}, moved to {models['b']['name']}",
        names=(f"original, {models['a']['name']}", f"transferred, {models['b']['name']}"),
    )
    # What a run with other settings has left.
    kept = {f"feature_{feature:05d}.html" for feature, _ in chosen}
    for page in index.parent.glob("feature_*.html"):
        if page.name not in kept:
            page.unlink()


def findings(result: dict[str, Any]) -> list[Finding]:
    """None: the paper has no figure of it. Pages and the drawing speak for themselves."""
    return []

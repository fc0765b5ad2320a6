# SPDX-License-Identifier: Apache-2.0
"""Beyond the paper: whether labels of features, read off their top examples in A, hold in B."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper import moved

if TYPE_CHECKING:
    from suture import analysis
    from suture.paper.finding import Finding
    from suture.paper.ground import Ground

TITLE = "Labels of features"
SECTION = "5"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Top examples of a feature that are compared.
    top: int = 20
    #: Features that are shown, and examples of each.
    shown: int = 3
    examples: int = 4
    #: Tokens of context before and after.
    before: int = 8
    after: int = 3

    def __post_init__(self) -> None:
        for name in ("top", "shown", "examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("before", "after"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Overlaps of top examples by the way of moving the SAE, and some features' examples."""
    names = list(moved.METHODS)
    saes = {name: moved.moved(ground, name) for name in names}

    def compute(folder: Path) -> dict[str, Any]:
        from suture import analysis

        def statistics(sae: Any, side: Any) -> analysis.FeatureStatistics:
            rows = ground.rows("held_out", side)
            return analysis.feature_statistics(sae, rows, settings.top, progress=ground.progress)

        original = ground.sae("a")
        first = statistics(original, "a")
        found = {name: statistics(saes[name][0], "b") for name in names}
        overlaps = {name: analysis.label_overlap(first, one) for name, one in found.items()}
        judged = overlaps["pairs"].judged
        if not judged:
            raise ValueError(
                f"top is {settings.top}, expected fewer: no feature is active on so many held-out "
                "tokens of A"
            )
        chosen = _spread(overlaps["pairs"].overlap, settings.shown)
        columns = {
            "A": (original, "a", first),
            "B, by stitch": (saes["stitch"][0], "b", found["stitch"]),
            "B, by pairs": (saes["pairs"][0], "b", found["pairs"]),
        }
        examples = {
            title: _examples(ground, settings, chosen, *column) for title, column in columns.items()
        }
        return {
            "top": settings.top,
            "judged": judged,
            "tokens": first.tokens,
            "methods": [_row(name, overlaps[name], settings.top) for name in names],
            "examples": [
                {
                    "feature": feature,
                    "overlap": {n: float(overlaps[n].overlap[feature]) for n in names},
                    "columns": {title: lines[place] for title, lines in examples.items()},
                }
                for place, feature in enumerate(chosen)
            ],
        }

    depends = ground.key("a", "held_out") | {
        "moved": {name: depends for name, (_, depends) in saes.items()},
        "settings": [
            settings.top, settings.shown, settings.examples, settings.before, settings.after
        ],
    }  # fmt: skip
    return ground.steps.run("labels", "Comparing top examples", depends, compute).result


def _row(name: moved.Method, found: analysis.LabelOverlap, top: int) -> dict[str, Any]:
    # Centres of the bins are the overlaps that there can be.
    edges = (np.arange(top + 2) - 0.5) / top
    counts = np.histogram(found.overlap[np.isfinite(found.overlap)], edges)[0]
    return {
        "method": name,
        "mean": found.mean,
        "share_kept": found.share_kept,
        "control_mean": None if np.isnan(found.control_mean) else found.control_mean,
        "control_share": None if np.isnan(found.control_share) else found.control_share,
        "counts": counts.tolist(),
    }


def _spread(overlap: Any, count: int) -> list[int]:
    """Features at evenly spaced places of the order by overlap: neither the best nor the worst."""
    judged = np.flatnonzero(np.isfinite(overlap))
    order = judged[np.argsort(overlap[judged], kind="stable")]
    places = (np.arange(1, count + 1) * len(order)) // (count + 1)
    return [int(feature) for feature in order[np.unique(places)][::-1]]


def _examples(
    ground: Ground, settings: Settings, chosen: list[int], sae: Any, side: Any, statistics: Any
) -> list[list[dict[str, Any]]]:
    from suture import analysis

    found = analysis.feature_examples(
        sae,
        ground.activations("held_out", side),
        chosen,
        statistics.example_rows[chosen],
        ground.tokenizer(side),
        layer=ground.layer(side),
        count=settings.examples,
        before=settings.before,
        after=settings.after,
    )
    return [
        [
            {
                "row": example.row,
                "before": "".join(example.tokens[: example.place]),
                "token": example.tokens[example.place],
                "after": "".join(example.tokens[example.place + 1 :]),
            }
            for example in examples
        ]
        for examples in found
    ]


def findings(result: dict[str, Any]) -> list[Finding]:
    """None: the paper does not ask it."""
    return []


#: Name of the figure.
OVERLAPS = "How many top examples in A are top examples in B"


def remarks(result: dict[str, Any]) -> dict[str, str]:
    """What the numbers say."""
    rows = {row["method"]: row for row in result["methods"]}
    said = "; ".join(
        f"{moved.METHODS[name]}: {row['share_kept']:.0%} keep at least half of them, mean overlap "
        f"{row['mean']:.2f}"
        for name, row in rows.items()
    )
    pairs = rows["pairs"]
    control = ""
    if pairs["control_mean"] is not None:
        control = (
            f" With the examples of another feature that fires as often the mean is "
            f"{pairs['control_mean']:.3f}, and {pairs['control_share']:.1%} share half."
        )
    best = max(rows, key=lambda name: rows[name]["share_kept"])
    return {
        OVERLAPS: f"A feature's label is read off the contexts in which it is most active. Of the "
        f"top {result['top']} contexts in A (held-out tokens, {result['judged']:,} features that "
        f"fire so often) so many are among the top {result['top']} in B: {said}.{control} "
        "Where half are shared, what was read in A still describes most of what B shows: for "
        f"{rows[best]['share_kept']:.0%} of the features at best ({moved.METHODS[best]}). Labels "
        "of the others want to be read again in B."
    }

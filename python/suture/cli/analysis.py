# SPDX-License-Identifier: Apache-2.0
"""``suture analyse``: what features do, in one model or before and after a transfer."""

from __future__ import annotations

import json
import math
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture import analysis
from suture.cli import inputs


def options(parser: ArgumentParser) -> None:
    parser.add_argument("sae", type=Path, help="folder of the SAE")
    parser.add_argument("acts", type=Path, help="activations it reads, an extracted folder")
    parser.add_argument("model", type=Path, help="folder of the model they come from")
    parser.add_argument(
        "--transferred", type=Path, nargs=3, metavar=("SAE", "ACTS", "MODEL"),
        help="the SAE moved to another model, with that model's activations of the same tokens",
    )  # fmt: skip
    parser.add_argument(
        "--layer", type=inputs.layer, nargs="+", help="layer of each folder of activations"
    )
    parser.add_argument("--features", type=int, nargs="+", help="features to write pages of")
    parser.add_argument("--count", type=int, default=40, help="pages, where none are named (40)")
    parser.add_argument("--examples", type=int, default=8, help="examples of each feature (8)")
    parser.add_argument(
        "--fold-norm", action="store_true",
        help="with the final norm folded into the unembedding (default: W_U as it is)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder for pages and numbers")


@dataclass
class _Side:
    """A SAE with the activations and the model it belongs to, and what was found of it."""

    sae: suture.SAE
    acts: suture.Activations
    layer: int
    W_U: Any
    tokenizer: Any
    statistics: analysis.FeatureStatistics
    null_space: Any


def run(options: Namespace) -> dict[str, Any]:
    pairs = [(options.sae, options.acts, options.model)]
    if options.transferred:
        pairs.append(tuple(options.transferred))
    layers = options.layer or [None] * len(pairs)
    if len(layers) != len(pairs):
        raise ValueError(f"layer has {len(layers)} entries, expected {len(pairs)}")
    if options.count < 1:
        raise ValueError(f"count is {options.count}, expected at least 1")
    sides = [_side(*paths, layer, options) for paths, layer in zip(pairs, layers, strict=True)]
    first = sides[0]
    known: dict[str, Any] = {"feature": list(range(first.sae.d_sae))}
    for name, side in zip(("original", "transferred"), sides, strict=False):
        known[name] = {
            "frequency": side.statistics.frequency,
            "mean": side.statistics.mean,
            "maximum": side.statistics.maximum,
            "null_space_fraction": side.null_space,
        }
    correlation = None
    if len(sides) == 2:
        second = sides[1]
        suture.check_paired(first.acts, second.acts)
        correlation = analysis.attribution_correlation(
            first.sae, first.acts.shards(first.layer), first.W_U,
            second.sae, second.acts.shards(second.layer), second.W_U,
            analysis.next_tokens(first.acts), progress=not options.quiet,
        ).correlation  # fmt: skip
        known["attribution_correlation"] = correlation
    chosen = _chosen(options, first, correlation)
    summaries = [_summaries(side, chosen, options) for side in sides]
    found = [
        analysis.FeaturePair(
            original=summaries[0][place],
            transferred=summaries[1][place] if len(sides) == 2 else None,
            attribution_correlation=None if correlation is None else float(correlation[feature]),
            note=note,
        )
        for place, (feature, note) in enumerate(chosen)
    ]
    index = analysis.write_feature_pages(
        found, options.out, title=f"Features of {options.sae.name}"
    )
    _dump(known, options.out / "analysis.json")
    result: dict[str, Any] = {
        "out": str(index),
        "features": first.sae.d_sae,
        "pages": len(found),
        "tokens": len(first.acts),
        "dead": int((first.statistics.maximum == 0).sum()),
    }
    if correlation is not None:
        usable = correlation[np.isfinite(correlation)]
        result["attribution_correlation"] = {
            "features": len(usable),
            "median": float(np.median(usable)) if len(usable) else None,
            "above_0.5": float((usable > 0.5).mean()) if len(usable) else None,
        }
    return result


def _side(sae: Path, acts: Path, model: Path, layer: int | None, options: Namespace) -> _Side:
    from suture.models import unembedding
    from suture.models.loading import load

    moved = suture.SAE.load(sae)
    rows = suture.Activations.open(acts)
    shards = inputs.rows(acts, layer, "layer")
    if layer is None:
        layer = rows.layers[0]
    loaded, tokenizer = load(model)
    W_U = unembedding(loaded, fold_norm=options.fold_norm)
    quiet = not options.quiet
    statistics = analysis.feature_statistics(moved, shards, 8 * options.examples, progress=quiet)
    null_space = analysis.null_space_fraction(moved, W_U, progress=quiet)
    return _Side(moved, rows, layer, W_U, tokenizer, statistics, null_space)


def _chosen(options: Namespace, side: _Side, correlation: Any) -> list[tuple[int, str]]:
    from suture.analysis._pick import pick_features

    if options.features:
        return [(feature, "") for feature in dict.fromkeys(options.features)]
    return pick_features(
        side.statistics.frequency,
        min(options.count, side.sae.d_sae),
        correlation=correlation,
        # At least some ten tokens: a correlation of fewer says little.
        least=10 / len(side.acts),
    )


def _summaries(
    side: _Side, chosen: list[tuple[int, str]], options: Namespace
) -> list[analysis.FeatureSummary]:
    return analysis.summarise_features(
        side.sae,
        side.acts,
        [feature for feature, _ in chosen],
        side.W_U,
        side.tokenizer,
        layer=side.layer,
        statistics=side.statistics,
        null_space=side.null_space,
        count=options.examples,
        progress=not options.quiet,
    )


def _dump(value: dict[str, Any], path: Path) -> None:
    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: plain(part) for name, part in item.items()}
        return [
            None if isinstance(x, float) and math.isnan(x) else x for x in np.asarray(item).tolist()
        ]

    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(plain(value), allow_nan=False), encoding="utf-8")
    os.replace(partial, path)

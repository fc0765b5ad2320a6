# SPDX-License-Identifier: Apache-2.0
"""The sub-command ``probe``: its options, and what it calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture.cli import inputs


def probe_options(parser: ArgumentParser) -> None:
    """The options of ``suture probe``."""
    parser.add_argument("acts", type=Path, help="activations: .npy, or an extracted folder")
    parser.add_argument("labels", type=Path, help="a label for each row: text lines, or .npy")
    parser.add_argument("--layer", type=inputs.layer, help="layer, where the folder holds several")
    parser.add_argument(
        "--pool",
        action="store_true",
        help="a label for each text: take the mean over its tokens",
    )
    parser.add_argument("--use", type=Path, metavar="PROBE", help="evaluate this one, fit none")
    parser.add_argument("--C", type=float, default=1.0, help="weight of the losses (1)")
    parser.add_argument("--k", type=int, help="use the k features whose means differ most")
    parser.add_argument(
        "--standardize", action="store_true", help="fit to columns of standard deviation 1"
    )
    parser.add_argument("--balanced", action="store_true", help="classes count the same")
    parser.add_argument(
        "--stitch", type=Path, help="carry the probe through this stitch (.safetensors)"
    )
    parser.add_argument("--direction", choices=["up", "down"], default="up", help="A to B, or back")
    parser.add_argument("--site", metavar="NAME", help=inputs.SITE)
    parser.add_argument(
        "--held-out",
        type=Path,
        nargs=2,
        metavar=("ACTS", "LABELS"),
        help="evaluate on these; with --stitch, ACTS are the new model's",
    )
    parser.add_argument("--held-layer", type=inputs.layer, help="layer of those ACTS")
    parser.add_argument("--out", type=Path, help="probe to write (.safetensors)")


def probe(options: Namespace) -> dict[str, Any]:
    """Runs ``suture probe``."""
    X = _samples(options.acts, options.layer, options.pool, "layer")
    y = _labels(options.labels)
    _same(X, y, options.labels, options.pool)
    result: dict[str, Any] = {}
    if options.use is not None:
        probe = suture.Probe.load(options.use)
    else:
        features = None if options.k is None else suture.select_features(X, y, options.k)
        probe = suture.Probe.fit(
            X,
            y,
            C=options.C,
            standardize=options.standardize,
            balanced=options.balanced,
            features=features,
            metadata=inputs.origin(options.acts, options.layer),
            progress=not options.quiet,
        )
        assert probe.report is not None
        result |= asdict(probe.report)
        if features is not None:
            result["features"] = features.tolist()
    result["accuracy"] = probe.accuracy(X, y, progress=not options.quiet)
    if options.stitch is not None:
        probe = suture.Stitch.load(options.stitch).transfer(
            probe, options.direction, site=options.site
        )
    if options.held_out is not None:
        acts, labels = options.held_out
        held = _samples(acts, options.held_layer, options.pool, "held-layer")
        truth = _labels(labels)
        _same(held, truth, labels, options.pool)
        result["held_out_accuracy"] = probe.accuracy(held, truth, progress=not options.quiet)
    if options.out is not None:
        probe.save(options.out)
        result["out"] = str(options.out)
    return result | {"d_in": probe.d_in, "classes": probe.classes.tolist()}


def _samples(path: Path, layer: int | None, pool: bool, name: str) -> Any:
    rows = inputs.rows(path, layer, name)
    if not pool:
        return rows
    if not path.is_dir():
        raise ValueError(
            f"pool needs an extracted folder, which knows its texts, not {str(path)!r}"
        )
    return suture.pool(rows)


def _same(X: Any, y: Any, path: Path, pool: bool) -> None:
    """Refuses another number of labels, and says what there is one of."""
    if pool and len(y) != len(X):
        raise ValueError(
            f"labels in {str(path)!r} are {len(y)}, expected {len(X)}, one for each text "
            "(one for each sequence in folders that an earlier version wrote)"
        )


def _labels(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    return path.read_text(encoding="utf-8").splitlines()

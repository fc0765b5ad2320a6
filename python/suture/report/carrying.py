# SPDX-License-Identifier: Apache-2.0
"""Whether the features of a moved SAE still are the same features, by the ways of moving it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import suture
from suture._progress import Progress

METHODS = ("stitch", "stitch, decoder refitted", "pairs")
"""What is compared: eq. 6 of the paper, the same with `refit_decoder`, and `suture.carry`."""


def carried(
    sae: suture.SAE,
    stitch: suture.Stitch,
    direction: str,
    train: dict[str, Any],
    held: dict[str, Any],
    *,
    progress: Progress,
    keep: Path,
) -> list[dict[str, Any]]:
    """A row for each of `METHODS`, from paired rows of source and target; held-out rows judge.

    Args:
        direction: of the stitch, "up" or "down".
        train, held: rows of the "source" and of the "target".
        keep: a folder for the SAE that was carried by pairs.
    """
    way: Any = direction
    ways: dict[str, Callable[[], suture.SAE]] = {
        METHODS[0]: lambda: stitch.transfer(sae, way),
        METHODS[1]: lambda: stitch.transfer(sae, way, refit=train["target"], progress=progress),
        METHODS[2]: lambda: suture.carry(
            sae, train["source"], train["target"], progress=progress
        )[0],
    }  # fmt: skip
    rows = []
    for label, make in ways.items():
        start = time.perf_counter()
        moved = make()
        seconds = time.perf_counter() - start
        if label == METHODS[2]:
            moved.save(keep)
        found = suture.fidelity(sae, held["source"], moved, held["target"], progress=progress)
        summary = found.summary()
        metrics = moved.evaluate(held["target"], progress=progress)
        rows.append(
            {
                "label": label,
                "explained_variance": metrics["explained_variance"],
                "explained_variance_ordinary": metrics["explained_variance_ordinary"],
                "correlation": [
                    summary.correlation.lower,
                    summary.correlation.median,
                    summary.correlation.upper,
                ],
                "control": summary.control.median,
                "f1": summary.f1.median,
                "share_active": summary.share_active,
                "judged": summary.judged,
                "rare": summary.rare,
                "silent": summary.silent,
                "seconds": seconds,
            }
        )
    return rows

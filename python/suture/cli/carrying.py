# SPDX-License-Identifier: Apache-2.0
"""The sub-commands ``carry`` and ``fidelity``: their options, and what each calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture.cli import inputs


def add_layers(parser: ArgumentParser, of: str = "") -> None:
    """Options that say a layer of the folders of A and of B."""
    for side in "ab":
        parser.add_argument(
            f"--layer-{side}",
            type=inputs.layer,
            help=f"layer of {of}{side.upper()}, where the folder holds several",
        )


def add_held_out(parser: ArgumentParser) -> None:
    """The option that names held-out activations of both models."""
    parser.add_argument(
        "--held-out", type=Path, nargs=2, metavar=("ACTS_A", "ACTS_B"),
        help="held-out activations of A and B on the same texts, to judge the result by",
    )  # fmt: skip


# -- carry ---------------------------------------------------------------------------------------


def carry_options(parser: ArgumentParser) -> None:
    """The options of ``suture carry``."""
    parser.add_argument("sae", type=Path, help="folder of the SAE, of the model of ACTS_A")
    parser.add_argument("acts_a", type=Path, help="activations of A: .npy, or an extracted folder")
    parser.add_argument("acts_b", type=Path, help="activations of B on the same texts")
    add_layers(parser)
    parser.add_argument("--site", metavar="NAME", help=inputs.SITE)
    parser.add_argument(
        "--rounds", type=int, default=2, help="regressions on what is still lacking (2)"
    )
    parser.add_argument("--ridge", type=float, help="relative to B's mean variance (chosen)")
    parser.add_argument(
        "--sample", type=int, default=65_536, help="pairs kept for calibration (65536)"
    )
    parser.add_argument(
        "--no-refit", action="store_true", help="leave the decoder at the regression on A's codes"
    )
    inputs.add_norm_bound(parser)
    add_held_out(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for the carried SAE")


def carry(options: Namespace) -> dict[str, Any]:
    """Carries, saves, and says what is known of the result."""
    sae = suture.SAE.load(options.sae)
    rows_a = inputs.rows(options.acts_a, options.layer_a, "layer-a")
    rows_b = inputs.rows(options.acts_b, options.layer_b, "layer-b")
    # Before the work, so that a wrong path is said at once.
    held = HeldOut.of(options, suture.width(rows_a), suture.width(rows_b))
    pairs = inputs.pairing(options.acts_a, options.acts_b)
    known = inputs.source(options.acts_b, options.layer_b)
    site = suture.Site(known["model"], known["layer"]) if known.get("model") else None
    carried, found = suture.carry(
        sae,
        rows_a,
        rows_b,
        pairs=pairs,
        rows=inputs.counted(options),
        site=options.site or site,
        rounds=options.rounds,
        ridge=options.ridge,
        sample=options.sample,
        refit=not options.no_refit,
        progress=not options.quiet,
    )
    carried.save(options.out)
    result: dict[str, Any] = {"out": str(options.out)}
    if pairs is not None:
        result["pairing"] = inputs.shares(pairs)
    result |= {
        "rows": found.rows,
        "held_out_rows": found.held_out_rows,
        "silent": found.silent,
        "unpredicted": found.unpredicted,
        "ridge": found.ridge,
        "r_squared": _middle(found.r_squared),
        "fidelity": asdict(found.fidelity.summary()),
    }
    if found.refit is not None:
        result["refit"] = asdict(found.refit)
    result["seconds"] = found.seconds
    if held is not None:
        result["held_out"] = held.judge(sae, carried, options)
    return result


def _middle(values: Any) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


class HeldOut:
    """Held-out activations of source and target, by which a moved SAE is judged."""

    def __init__(self, source: Any, target: Any, pairs: Any) -> None:
        self.source, self.target, self.pairs = source, target, pairs

    @classmethod
    def of(
        cls, options: Namespace, width_a: int, width_b: int, direction: str = "up"
    ) -> HeldOut | None:
        """What ``--held-out`` names, None where it is not given.

        Args:
            width_a, width_b: what their rows must have.
            direction: "up": A is the source; "down": B is.
        """
        if options.held_out is None:
            return None
        sides = []
        pairs: Any = inputs.pairing(*options.held_out)
        layers = (("layer-a", options.layer_a, width_a), ("layer-b", options.layer_b, width_b))
        for path, (name, layer, wanted) in zip(options.held_out, layers, strict=True):
            rows = inputs.rows(path, layer, name)
            width = suture.width(rows)
            if width != wanted:
                raise ValueError(
                    f"held-out {str(path)!r} has rows of width {width}, expected {wanted}"
                )
            sides.append(rows)
        if direction == "down":
            sides.reverse()
            pairs = None if pairs is None else (pairs.rows_b, pairs.rows_a)
        source, target = sides
        return cls(source, target, pairs)

    def judge(self, sae: suture.SAE, moved: suture.SAE, options: Namespace) -> dict[str, Any]:
        """How well it reconstructs, and whether its latents still are themselves."""
        metrics = moved.evaluate(self.target, progress=not options.quiet)
        found = suture.fidelity(
            sae, self.source, moved, self.target, pairs=self.pairs, progress=not options.quiet
        )
        result = {
            name: metrics[name] for name in ("explained_variance", "explained_variance_ordinary")
        }
        return result | {"fidelity": asdict(found.summary())}


# -- fidelity ------------------------------------------------------------------------------------


def fidelity_options(parser: ArgumentParser) -> None:
    """The options of ``suture fidelity``."""
    parser.add_argument("sae_a", type=Path, help="folder of the SAE on A")
    parser.add_argument("acts_a", type=Path, help="activations of A, best held-out ones")
    parser.add_argument("sae_b", type=Path, help="folder of what was moved of it to B")
    parser.add_argument("acts_b", type=Path, help="activations of B on the same texts")
    add_layers(parser)
    parser.add_argument(
        "--min-count", type=int, default=10, help="latents that fire so often in A are judged (10)"
    )


def fidelity(options: Namespace) -> dict[str, Any]:
    """Whether latent i of one SAE is latent i of the other."""
    if options.min_count < 1:
        raise ValueError(f"min-count is {options.min_count}, expected at least 1")
    pairs = inputs.pairing(options.acts_a, options.acts_b)
    found = suture.fidelity(
        suture.SAE.load(options.sae_a),
        inputs.rows(options.acts_a, options.layer_a, "layer-a"),
        suture.SAE.load(options.sae_b),
        inputs.rows(options.acts_b, options.layer_b, "layer-b"),
        pairs=pairs,
        progress=not options.quiet,
    )
    result = asdict(found.summary(options.min_count))
    return result if pairs is None else result | {"pairing": inputs.shares(pairs)}

# SPDX-License-Identifier: Apache-2.0
"""Activations behind the paths of a command line."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

import suture
from suture.rows import NORM_BOUND
from suture.site import residual_layer

SITE = (
    "stream that it comes from, such as blocks.4.hook_resid_pre, in place of what its metadata say"
)


def rows(path: Path, layer: int | None, name: str) -> Any:
    """Activation rows behind a path: an .npy file, or one layer of an extracted folder."""
    if not path.is_dir():
        return path
    acts = suture.Activations.open(path)
    if layer is None:
        if len(acts.layers) > 1:
            raise ValueError(
                f"{name} {str(path)!r} holds layers {list(acts.layers)}: say which by --{name}"
            )
        (layer,) = acts.layers
    if layer not in acts:
        raise ValueError(f"{name} is {layer}, expected one of {list(acts.layers)} in {str(path)!r}")
    return acts.shards(layer)


def pairing(path_a: Path, path_b: Path) -> suture.Pairing | None:
    """How the rows of two extracted folders go together: None where row i of both does, else by
    text and end. What has no tokens (.npy files) is taken as it is."""
    if not (path_a.is_dir() and path_b.is_dir()):
        return None
    a, b = suture.Activations.open(path_a), suture.Activations.open(path_b)
    try:
        suture.check_paired(a, b)
    except ValueError as unpaired:
        try:
            return a.pairs_with(b)
        except ValueError:
            raise unpaired from None
    return None


def shares(found: suture.Pairing) -> dict[str, Any]:
    """What is told of a pairing."""
    return {
        "pairs": len(found),
        "kept_a": found.kept_a,
        "kept_b": found.kept_b,
        "one_to_one": found.one_to_one,
    }


def source(path: Path, layer: int | None) -> dict[str, Any]:
    """Model name and layer of an extracted folder, as far as they are known."""
    if not path.is_dir():
        return {}
    acts = suture.Activations.open(path)
    only = acts.layers[0] if layer is None and len(acts.layers) == 1 else layer
    known = acts.metadata
    return {"model": known.get("model"), "layer": only, "n_layers": known.get("n_layers")}


def origin(path: Path, layer: int | None) -> dict[str, Any]:
    """The same, in the words of a SAE's metadata."""
    known = source(path, layer)
    return suture.Site(known.get("model") or None, known.get("layer")).metadata


def add_norm_bound(parser: ArgumentParser, text: str | None = None) -> None:
    """The option that says which norms count."""
    parser.add_argument(
        "--norm-bound",
        type=_multiple,
        default=NORM_BOUND,
        metavar="MULTIPLE",
        help=text
        or f"rows beyond so many times the median norm do not count, or 'none' ({NORM_BOUND:g})",
    )


def _multiple(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return suture.Rows(norm_bound=float(text)).norm_bound
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is neither a number above 0 nor 'none'") from None


def counted(options: Namespace) -> suture.Rows:
    """Which rows count."""
    return suture.Rows(norm_bound=options.norm_bound)


def layer(text: str) -> int:
    """An option that says a layer: its number, or a name of the residual stream before it."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return residual_layer("it", text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None

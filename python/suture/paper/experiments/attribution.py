# SPDX-License-Identifier: Apache-2.0
"""Section 5: whether a transferred feature does to the next token what the original does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper import measures, moved
from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "Attributions before and after the transfer"
SECTION = "5"

KINDS: tuple[measures.Kind, ...] = ("trained", "random")


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Latents of further SAEs on A, beside the one that all experiments share.
    other_d_sae: tuple[int, ...] = (256, 1024, 4096)
    #: Latents of these that are active at a token.
    other_k: int = 8
    #: Features that are active on fewer of the held-out tokens, in A or in B, are left out.
    least_active: int = 20
    #: Bins of the histograms, over -1 to 1.
    bins: int = 80

    def __post_init__(self) -> None:
        for name in ("other_k", "least_active", "bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if min(self.other_d_sae, default=self.other_k) < self.other_k:
            raise ValueError(
                f"other_d_sae is {self.other_d_sae}, expected at least other_k = {self.other_k}"
            )


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Attribution correlations of trained SAEs with their transfers, and of untrained ones."""
    common = measures.common_size(ground)
    others = [(d_sae, settings.other_k) for d_sae in settings.other_d_sae]
    sizes = [common, *(size for size in others if size != common)]
    held_out = ground.stitched.result["held_out"]
    return {
        "edges": np.linspace(-1, 1, settings.bins + 1).tolist(),
        "least_active": settings.least_active,
        "down_explained_variance": held_out["down_explained_variance"],
        "saes": [_of_size(ground, size, settings) for size in sizes],
        "methods": [_of_method(ground, method, settings) for method in moved.METHODS],
    }


def _of_size(ground: Ground, size: measures.Size, settings: Settings) -> dict[str, Any]:
    edges = np.linspace(-1, 1, settings.bins + 1)
    found: dict[str, Any] = {"d_sae": size[0], "k": size[1]}
    kept = []
    for kind in KINDS:
        measured = measures.attribution(ground, kind, size)
        values = measured["correlation"]
        usable = np.isfinite(values) & (
            np.minimum(measured["active_a"], measured["active_b"]) >= settings.least_active
        )
        if not usable.any():
            raise ValueError(
                f"least_active is {settings.least_active}, expected fewer: none of the {kind} "
                f"features of the SAE with {size[0]} latents is active on so many held-out tokens"
            )
        alone = measured["activations"][usable]
        values = values[usable]
        kept.append(values)
        found[kind] = {
            "features": len(values),
            "left_out": int((~usable).sum()),
            "median": float(np.median(values)),
            "quartiles": np.quantile(values, [0.25, 0.75]).tolist(),
            "above_half": float(np.mean(values > 0.5)),
            "median_of_activations": float(np.median(alone[np.isfinite(alone)])),
            "counts": np.histogram(values, edges)[0].tolist(),
        }
    # That a trained feature, drawn at random, is above an untrained one.
    found["above_random"] = _probability_above(*kept)
    return found


def _of_method(ground: Ground, method: moved.Method, settings: Settings) -> dict[str, Any]:
    """The SAE of all experiments, moved in another way. Every method is judged by the same
    features, those that A makes active often enough; one that is silent in B counts as 0."""
    measured = measures.attribution(ground, method=method)
    kept = measured["active_a"] >= settings.least_active
    values = np.nan_to_num(measured["correlation"][kept])
    return {
        "method": method,
        "features": len(values),
        "median": float(np.median(values)),
        "quartiles": np.quantile(values, [0.25, 0.75]).tolist(),
        "above_half": float(np.mean(values > 0.5)),
        "counts": np.histogram(values, np.linspace(-1, 1, settings.bins + 1))[0].tolist(),
    }


def _probability_above(x: measures.Floats, y: measures.Floats) -> float:
    """The share of pairs in which x is the larger; equal ones count half (Mann & Whitney 1947)."""
    sums = measures.ranks(np.concatenate([x, y]))[: len(x)].sum()
    return float((sums - len(x) * (len(x) + 1) / 2) / (len(x) * len(y)))


def label(sae: dict[str, Any]) -> str:
    """A SAE's size in words."""
    return f"{sae['d_sae']:,} latents, {sae['k']} active"


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 4a and Fig. 14."""
    first, *others = result["saes"]
    return [_transfers(result, first, others), _untrained(first, others)]


def _transfers(
    result: dict[str, Any], first: dict[str, Any], others: list[dict[str, Any]]
) -> Finding:
    found = first["trained"]
    low, high = found["quartiles"]
    more = ", ".join(
        f"{sae['trained']['median']:.2f} ({sae['trained']['above_half']:.0%}) with {label(sae)}"
        for sae in others
    )
    strong = [sae["trained"]["median"] > 0.5 for sae in (first, *others)]
    why = ""
    if not strong[0]:
        alone = found["median_of_activations"]
        why = f"The activations alone have a median correlation of {alone:.2f}: " + (
            "what is lost is lost in the stitch, which going down explains "
            f"{result['down_explained_variance']:.0%} of A's variance."
            if alone <= 0.5
            else "features fire alike, but do not promote the same tokens."
        )
    return Finding(
        "Fig. 4a",
        "Attribution correlation of features with their transfers",
        "Histogram of the correlations of all features (eq. 10). Expected where features keep "
        "their roles: most are high.",
        f"With {label(first)}, the SAE of all experiments: median {found['median']:.2f}, quartiles "
        f"{low:.2f} and {high:.2f}, {found['above_half']:.0%} of {found['features']:,} features "
        f"above 0.5 ({found['left_out']:,} that are active on fewer than "
        f"{result['least_active']} tokens in A or B are left out)."
        + (f" Median and share above 0.5 of others: {more}." if more else ""),
        verdict(reproduced=strong[0], partly=any(strong)),
        why,
    )


def _untrained(first: dict[str, Any], others: list[dict[str, Any]]) -> Finding:
    def far(sae: dict[str, Any]) -> bool:
        apart = sae["trained"]["median"] - sae["random"]["median"]
        return bool(sae["above_random"] > 0.8 and apart > 0.2)

    said = "; ".join(
        f"{label(sae)}: {sae['random']['median']:.2f}, {sae['random']['above_half']:.1%} and "
        f"{sae['above_random']:.0%} (trained: {sae['trained']['median']:.2f}, "
        f"{sae['trained']['above_half']:.0%})"
        for sae in (first, *others)
    )
    apart = [far(sae) for sae in (first, *others)]
    return Finding(
        "Fig. 14",
        "The same for SAEs that were never trained",
        "Compared against random SAEs. Expected where it is the features that transfer: those of "
        "random SAEs correlate far less.",
        "Median of an untrained SAE with its transfer, share of its features above 0.5, and in how "
        f"many pairs of a trained and an untrained feature the trained one is above: {said}.",
        verdict(reproduced=apart[0], partly=any(apart)),
        ""
        if apart[0]
        else "An untrained SAE goes through the same stitch, which alone carries so much over.",
    )


#: Name of the figure that compares the ways of moving a SAE.
BY_METHOD = "Attribution correlation by the way of moving the SAE"


def remarks(result: dict[str, Any]) -> dict[str, str]:
    """What is said of the figure that the paper does not have."""
    rows = result["methods"]
    said = "; ".join(
        f"{moved.METHODS[row['method']]}: {row['median']:.2f} ({row['quartiles'][0]:.2f}, "
        f"{row['quartiles'][1]:.2f}), {row['above_half']:.0%} above 0.5"
        for row in rows
    )
    return {
        BY_METHOD: f"Median and quartiles over the {rows[0]['features']:,} features that are "
        f"active on {result['least_active']} held-out tokens of A, one that is silent in B "
        f"counting as 0: {said}. Refitting changes what a feature promotes, not where it fires; "
        "pairs change both."
    }

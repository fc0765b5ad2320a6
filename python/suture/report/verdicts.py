# SPDX-License-Identifier: Apache-2.0
"""One sentence in plain language under each figure, computed from the numbers it sums up."""

from __future__ import annotations

from typing import Any


def svcca(value: dict[str, Any]) -> str:
    """Which layer of B was picked, and how clearly."""
    row = value["grid"][value["layers_a"].index(value["layer_a"])]
    ranked = sorted(zip(row, value["layers_b"], strict=True), reverse=True)
    best, layer = ranked[0]
    text = (
        f"Layer {layer} of B is the most alike to layer {value['layer_a']} of A, "
        f"with a mean canonical correlation of {best:.2f}"
    )
    if len(ranked) > 1:
        second, other = ranked[1]
        close = " (nearly a tie)" if best - second < 0.01 else ""
        text += f"; the runner-up, layer {other}, has {second:.2f}{close}"
    stitched = value["layer_b"]
    if stitched != layer:
        chosen = row[value["layers_b"].index(stitched)]
        text += f"; the stitch was told to take layer {stitched}, which has {chosen:.2f}"
    return text + "."


def losses(table1: dict[str, Any]) -> str:
    """What a detour through the other model costs."""
    change = {name: row["relative_change"] for name, row in table1["losses"].items()}
    return (
        f"Letting B finish what A began costs {change['A→B']:+.0%} of B's loss "
        f"({_place(change['A→B'], 0.09, 0.39)}), A finishing what B began {change['B→A']:+.0%} of "
        f"A's ({_place(change['B→A'], 0.08, 0.17)}), and going there and back costs "
        f"{change['A→B→A']:+.1%} and {change['B→A→B']:+.1%}."
    )


def _place(value: float, low: float, high: float) -> str:
    where = "below" if value < low else "above" if value > high else "within"
    return f"{where} the {low:+.0%} to {high:+.0%} of the paper's pairs"


def transfer(table2: list[dict[str, Any]]) -> str:
    """How much of the SAE survives the move."""
    original, moved, random = table2
    kept = moved["explained_variance"]
    worth = (
        "far better than chance"
        if moved["fvu"] < 0.7 * random["fvu"]
        else "better than chance"
        if moved["fvu"] < random["fvu"]
        else "no better than chance"
    )
    return (
        f"Trained on A, the SAE explains {original['explained_variance']:.0%} of A's variance; "
        f"moved to B without a single step of training there it explains {kept:.0%} of B's, "
        f"{worth}: a random SAE of the same size leaves {random['fvu']:.2f} of the variance "
        f"unexplained where the moved one leaves {moved['fvu']:.2f}. Spliced into B it adds "
        f"{moved['delta_loss']:.2f} nats to the loss, the random one {random['delta_loss']:.2f}."
    )


def objective(stitch: dict[str, Any]) -> str:
    """Whether the fit generalises, and what the inversion penalty bought."""
    fits = [stitch[key] for key in ("before", "after", "held_out")]
    before, after, held = (fit[stitch["minimised"]] for fit in fits)
    up, down = (fits[2][f"{way}_explained_variance"] for way in ("up", "down"))
    if not (before > 0 and after > 0):
        return "The two residual streams are affine images of each other: nothing is left to fit."
    gain = 1 - after / before
    gap = held / after - 1
    generalises = "it does not overfit" if gap < 0.1 else "a gap worth knowing"
    return (
        f"The exact joint fit lowers the objective by {gain:.1%} against separate least-squares "
        f"maps; on held-out rows it is {gap:+.1%} from the fitted value: {generalises}. "
        f"A linear map explains {up:.0%} of B's held-out variance from A, and {down:.0%} of A's "
        "from B."
    )


def training(history: list[dict[str, Any]], original: dict[str, Any]) -> str:
    """Where the SAE's training ended, and whether it had levelled off."""
    end = history[-1]["explained_variance"]
    earlier = history[int(len(history) * 0.8)]["explained_variance"]
    gain = end - earlier
    state = "was still rising" if gain >= 0.01 else "had levelled off"
    if gain <= -0.01:
        state = "was falling"
    return (
        f"After {history[-1]['tokens'] / 1e6:.1f} million tokens the SAE explains {end:.0%} of the "
        f"variance of its batches ({original['explained_variance']:.0%} on held-out text) with "
        f"{original['l0']:.0f} active latents a token, and {state}; "
        f"{original['dead_fraction']:.1%} of its latents never fire on held-out text."
    )

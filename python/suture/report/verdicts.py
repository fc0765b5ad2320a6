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
    source, target = (row["label"].split(" ")[-1] for row in (original, moved))
    kept = moved["explained_variance"]
    worth = (
        "far better than chance"
        if moved["fvu"] < 0.7 * random["fvu"]
        else "better than chance"
        if moved["fvu"] < random["fvu"]
        else "no better than chance"
    )
    return (
        f"Trained on {source}, the SAE explains {original['explained_variance']:.0%} of {source}'s "
        f"variance; moved to {target} without a single step of training there it explains "
        f"{kept:.0%} of {target}'s, "
        f"{worth}: a random SAE of the same size leaves {random['fvu']:.2f} of the variance "
        f"unexplained where the moved one leaves {moved['fvu']:.2f}. Spliced into {target} it "
        f"adds "
        f"{moved['delta_loss']:.2f} nats to the loss, the random one {random['delta_loss']:.2f}."
    )


def features(rows: list[dict[str, Any]], source: str, target: str) -> str:
    """Whether a moved latent still is the latent it was."""
    if not rows[0]["judged"]:
        return f"No latent fires often enough on {source}'s held-out rows to be judged."
    stitched, _, paired = (row["correlation"][1] for row in rows)
    return (
        f"Moved through the stitch, half of the latents agree with their originals on {source} at "
        f"a correlation above {stitched:.2f}, token by token; carried by the pairs of rows "
        f"themselves, above {paired:.2f}. On tokens that do not belong together it is "
        f"{rows[-1]['control']:.2f}. In {target}, {rows[0]['share_active']:.0%} and "
        f"{rows[-1]['share_active']:.0%} of what was active in {source} is active again."
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


def stitches(comparison: dict[str, Any]) -> str:
    """What large rows and unlike units do to a stitch, and which one to take."""
    raw, ordinary, scaled, *others = comparison["stitches"]
    values = ordinary["ordinary"]
    sizes = sorted((values["variance_a"], values["variance_b"]))
    large = " and ".join(
        f"{stream['rows']:.2%} of {name.upper()}'s rows, with {stream['variance']:.0%} of its "
        "variance"
        for name, stream in comparison["streams"].items()
    )

    def ways(row: dict[str, Any]) -> str:
        found = row["ordinary"]
        return f"{found['up_explained_variance']:.2f} and {found['down_explained_variance']:.2f}"

    def trips(row: dict[str, Any]) -> str:
        found = row["ordinary"]
        keys = ("a_round_trip_explained_variance", "b_round_trip_explained_variance")
        return " and ".join(f"{found[key]:.2f}" for key in keys)

    simpler = "; ".join(f"{row['label']}, {ways(row)}" for row in others)
    back = "; ".join(f"{row['label']}, {trips(row)}" for row in (scaled, *others))
    return (
        f"Norms above {comparison['bound']:g} times the median have {large}. Among the other rows "
        f"coordinates of one stream are {(sizes[1] / max(sizes[0], 1e-300)) ** 0.5:.3g} times as "
        "large as the other's. Of held-out ordinary rows the paper's objective, fitted to all "
        f"rows, explains {ways(raw)} (A→B and B→A); fitted to ordinary rows, {ways(ordinary)}; "
        f"with each stream's errors as shares of its variance, {ways(scaled)}. Simpler maps: "
        f"{simpler}. Round trips, A→B→A and B→A→B: {back}."
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

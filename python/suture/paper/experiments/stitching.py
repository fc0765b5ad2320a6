# SPDX-License-Identifier: Apache-2.0
"""Section 2: which layers to stitch, what a detour through the other model costs, and the weight of
the round trips."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    from suture.paper.ground import Ground, Name, Which

NAMES: tuple[Name, Name] = ("a", "b")

TITLE = "The stitch"
SECTION = "2"

#: What the paper's pairs cost, as relative change of the loss (Table 1).
TABLE1 = {
    "A→B": (0.09, 0.39),
    "B→A": (0.08, 0.17),
    "A→B→A": (0.0, 0.01),
    "B→A→B": (0.013, 0.14),
}


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Weights of the round trips that are compared (Fig. 7).
    alphas: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0)

    def __post_init__(self) -> None:
        if not self.alphas or min(self.alphas) < 0:
            raise ValueError(f"alphas is {self.alphas}, expected numbers of at least 0")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Layers by SVCCA (Fig. 6), the stitch, six losses (Table 1), fits with other α (Fig. 7)."""
    return {
        "svcca": ground.layers.result,
        "stitch": ground.stitched.result,
        "table1": ground.table1(ground.layers, ground.stitched).result,
        "alphas": _alphas(ground, settings),
    }


def _alphas(ground: Ground, settings: Settings) -> list[dict[str, Any]]:
    def compute(_: Path) -> dict[str, Any]:
        import suture

        def moments(which: Which, count: int | None) -> suture.Moments:
            acts_a, acts_b = (ground.first_rows(which, name, count) for name in NAMES)
            return suture.Moments(acts_a, acts_b, progress=ground.progress)

        fit = moments("fit", ground.settings.stitch_tokens)
        held_out = moments("held_out", None)
        found = []
        for alpha in settings.alphas:
            stitch = suture.Stitch.fit(
                moments=fit,
                alpha=alpha,
                objective=ground.settings.objective,
                progress=ground.progress,
            )
            assert stitch.report is not None
            found.append(
                {
                    "alpha": alpha,
                    "iterations": stitch.report.iterations,
                    "held_out": asdict(stitch.evaluate(held_out)),
                }
            )
        return {"fits": found}

    depends = ground.key("fit", "held_out") | {
        "alphas": list(settings.alphas),
        "objective": ground.settings.objective,
        "tokens": ground.settings.stitch_tokens,
    }
    fits: list[dict[str, Any]] = ground.steps.run(
        "alphas", "Fitting stitches with other weights", depends, compute
    ).result["fits"]
    return fits


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 6, Table 1 and Fig. 7."""
    return [_svcca(result["svcca"]), _table1(result["table1"]), _weights(result["alphas"])]


def _svcca(svcca: dict[str, Any]) -> Finding:
    grid, layers_a, layers_b = svcca["grid"], svcca["layers_a"], svcca["layers_b"]
    deepest = [layers_b[row.index(max(row))] for row in grid]
    rising = all(x <= y for x, y in pairwise(deepest))
    row = grid[layers_a.index(svcca["layer_a"])]
    spread = max(row) - min(row)
    picked = ", ".join(f"{a}→{b}" for a, b in zip(layers_a, deepest, strict=True))
    return Finding(
        "Fig. 6",
        "Which layers are alike",
        "A layer is most alike to one at a similar relative depth of the other model "
        "(pythia-70m.3→160m.4, gpt2-small.6→medium.10, gemma-2-2b.20→9b.33).",
        f"The most alike layers, A→B: {picked}. Stitched: {svcca['layer_a']}→{svcca['layer_b']}, "
        f"mean canonical correlation {max(row):.2f} (the least alike layer of B has "
        f"{min(row):.2f}).",
        verdict(reproduced=rising and len(set(deepest)) > 1 and spread > 0.01, partly=rising),
        "" if rising else "The order of the layers is not kept.",
    )


def _table1(table1: dict[str, Any]) -> Finding:
    changes = {name: row["relative_change"] for name, row in table1["losses"].items()}
    # No worse than the paper's worst pair, with its worst rounding.
    within = {name: changes[name] <= high + 0.005 for name, (_, high) in TABLE1.items()}
    missed = [name for name, good in within.items() if not good]
    said = ", ".join(f"{name} {changes[name]:+.1%}" for name in TABLE1)
    return Finding(
        "Table 1",
        "Text through both models",
        "Relative change of the loss: A→B +9 to +39 %, B→A +8 to +17 %, A→B→A below 1 %, "
        "B→A→B +1.4 to +13 %.",
        f"{said}, on {table1['tokens']:,} held-out tokens.",
        verdict(reproduced=not missed, partly=len(missed) <= len(TABLE1) / 2),
        f"Above the paper's pairs: {', '.join(missed)}." if missed else "",
    )


def _weights(fits: list[dict[str, Any]]) -> Finding:
    """α trades the error of one passage against that of round trips."""
    ordered = sorted(fits, key=lambda row: float(row["alpha"]))

    def trips(row: dict[str, Any]) -> float:
        return float(row["held_out"]["a_round_trip"] + row["held_out"]["b_round_trip"])

    def passages(row: dict[str, Any]) -> float:
        return float(row["held_out"]["up"] + row["held_out"]["down"])

    falls = [trips(x) >= trips(y) for x, y in pairwise(ordered)]
    said = "; ".join(
        f"α {row['alpha']:g}: passages {passages(row):.3f}, round trips {trips(row):.3f}"
        for row in ordered
    )
    return Finding(
        "Fig. 7",
        "The weight of the round trips",
        "α = 1 in all experiments; α of 0, 0.1 and 10 are compared with it. A higher one "
        "buys better round trips.",
        f"Held-out mean squared errors: {said}.",
        verdict(reproduced=bool(falls) and all(falls), partly=any(falls)),
    )

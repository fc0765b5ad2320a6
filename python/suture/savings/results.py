# SPDX-License-Identifier: Apache-2.0
"""From the curves of all runs to the figures that are reported: `savings.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from suture.savings import analysis

#: Starts that are trained at the first width only, with the rate of another start.
AT_FIRST_WIDTH = {"random_refitted": "random", "tied": "refitted", "random_tied": "refitted"}

Run = dict[str, Any]

#: Held-out explained variances whose costs are compared (Fig. 2a).
LEVELS = [round(0.5 + 0.02 * step, 2) for step in range(25)]
#: The share of the smallest run's budget below which no line is fitted: before, starts differ.
LINE_FROM = 0.05


def costs(run: Run, *, with_sae_on_a: bool = False) -> list[float]:
    """Operations up to each point of a run's curve, with all that its start took."""
    before = float(sum(run["spent"].values()))
    if with_sae_on_a and "sae_on_a" in run:
        before += float(run["sae_on_a"]["flops"])
    return [before + float(flops) for flops in run["curve"]["flops"]]


def best_lr(sweep: list[Run], arm: str) -> float:
    """The rate at which an arm explains most of the held-out variance at the end of its budget."""
    ends = {run["lr"]: run["curve"]["held_out"][-1] for run in sweep if run["arm"] == arm}
    best: float = max(ends, key=lambda lr: float(ends[lr]))
    return best


def headline(runs: list[Run]) -> list[dict[str, Any]]:
    """Costs to reach what the random start of the same width and seed reaches at the end.

    The random start's own cost is the one at which its curve first comes there: it is not charged
    for what it trains without gain. `training` compares moving averages on the training tokens, as
    the paper does, `with_sae_on_a` adds the training of the SAE on A.
    """
    found = []
    for random in _of(runs, arm="random"):
        for run in _of(runs, d_sae=random["d_sae"], seed=random["seed"]):
            if run["arm"] == "random":
                continue
            row = {name: run[name] for name in ("arm", "d_sae", "seed")}
            for name, curve, with_a in (
                ("held_out", "held_out", False),
                ("training", "training", False),
                ("with_sae_on_a", "held_out", True),
            ):
                target = random["curve"][curve][-1]
                reference, cost = (
                    _reach(which, curve, target, with_sae_on_a=with_a) for which in (random, run)
                )
                row[name] = {
                    "target": target,
                    "random": reference,
                    "cost": cost,
                    "saved": analysis.saved(cost, reference),
                }
            found.append(row)
    return found


def _reach(run: Run, curve: str, target: float, *, with_sae_on_a: bool = False) -> float | None:
    spent = costs(run, with_sae_on_a=with_sae_on_a)
    levels = run["curve"][curve]
    if levels[0] is None:  # there is no average over training tokens before the first step
        spent, levels = spent[1:], levels[1:]
    return analysis.cost_to_reach(spent, levels, target)


def thresholds(runs: list[Run]) -> list[dict[str, Any]]:
    """Share of operations saved at each level that all seeds of both starts reach (Fig. 2a)."""
    found = []
    for arm, d_sae in _kinds(runs):
        if arm == "random":
            continue
        for level in LEVELS:
            shares = []
            for run in _of(runs, arm=arm, d_sae=d_sae):
                [random] = _of(runs, arm="random", d_sae=d_sae, seed=run["seed"])
                reference = _reach(random, "held_out", level)
                shares.append(analysis.saved(_reach(run, "held_out", level), reference))
            spread = analysis.spread(shares)
            if spread is not None:
                found.append({"arm": arm, "d_sae": d_sae, "level": level} | spread)
    return found


def lines(runs: list[Run]) -> list[dict[str, Any]]:
    """Frontier of unexplained variance over operations, and its line (Fig. 1c, Table 4).

    The frontier is over all widths and over medians of the seeds.
    """
    widest = {d_sae for _, d_sae in _kinds(runs)}
    least = min(run["curve"]["flops"][-1] for run in runs) * LINE_FROM
    found = []
    for arm in dict.fromkeys(run["arm"] for run in runs):
        if {d_sae for kind, d_sae in _kinds(runs) if kind == arm} != widest:
            continue
        points = [
            (cost, 1 - level)
            for curve in medians(runs)
            if curve["arm"] == arm
            for cost, level in zip(curve["flops"], curve["median"], strict=True)
            if cost >= least
        ]
        flops, fvu = analysis.frontier(*zip(*points, strict=True))
        line = analysis.power_law(flops, fvu) if len(flops) > 1 else (None, None)
        found.append({"arm": arm, "flops": flops, "fvu": fvu, "A": line[0], "beta": line[1]})
    return found


def medians(runs: list[Run]) -> list[dict[str, Any]]:
    """Held-out curves of each arm and width: median, least and greatest over the seeds."""
    found = []
    for arm, d_sae in _kinds(runs):
        group = _of(runs, arm=arm, d_sae=d_sae)
        levels = np.array([run["curve"]["held_out"] for run in group])
        found.append(
            {
                "arm": arm,
                "d_sae": d_sae,
                # Starts of one kind cost the same but for the iterations of a refit.
                "flops": np.median([costs(run) for run in group], axis=0).tolist(),
                "tokens": group[0]["curve"]["tokens"],
                "median": np.median(levels, axis=0).tolist(),
                "min": levels.min(axis=0).tolist(),
                "max": levels.max(axis=0).tolist(),
            }
        )
    return found


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """One row an arm and width: what was saved, ends, starts, cosines, dead latents."""
    compared = headline(runs)
    found = []
    for arm, d_sae in _kinds(runs):
        group = _of(runs, arm=arm, d_sae=d_sae)
        row: dict[str, Any] = {
            "arm": arm,
            "d_sae": d_sae,
            "end": analysis.spread([run["held_out"]["explained_variance"] for run in group]),
            "zero_shot": analysis.spread([run["zero_shot"] for run in group]),
            "start": analysis.spread([run["curve"]["held_out"][0] for run in group]),
            "dead_fraction": analysis.spread([run["held_out"]["dead_fraction"] for run in group]),
            "cosine": analysis.spread([run["cosine"]["median"] for run in group]),
            "cosine_counts": np.sum([run["cosine"]["counts"] for run in group], axis=0).tolist(),
            "spent": {
                name: analysis.spread([run["spent"][name] for run in group])
                for name in group[0]["spent"]
            },
        }
        if arm != "random":
            rows = _of(compared, arm=arm, d_sae=d_sae)
            row["saved"] = {
                name: analysis.spread([row[name]["saved"] for row in rows])
                for name in ("held_out", "training", "with_sae_on_a")
            }
        found.append(row)
    return found


def rates(sweep: list[Run]) -> dict[str, Any]:
    """The sweep of learning rates.

    Each row compares twice: `saved` with what the random start reaches at its best rate, and the
    least that any of its rates took to come there; `saved_alike` with the random start's end and
    cost at the row's own rate.
    """
    lr = best_lr(sweep, "random")
    [best] = _of(sweep, arm="random", lr=lr)
    target = best["curve"]["held_out"][-1]
    reference = min(_known(_reach(run, "held_out", target) for run in _of(sweep, arm="random")))
    rows = []
    for run in sweep:
        cost = _reach(run, "held_out", target)
        [random] = _of(sweep, arm="random", lr=run["lr"])
        end = random["curve"]["held_out"][-1]
        alike = analysis.saved(_reach(run, "held_out", end), _reach(random, "held_out", end))
        rows.append(
            {
                "arm": run["arm"],
                "lr": run["lr"],
                "end": run["curve"]["held_out"][-1],
                "cosine": run["cosine"]["median"],
                "cost": cost,
                "saved": analysis.saved(cost, reference),
                "saved_alike": alike,
            }
        )
    tried = dict.fromkeys(run["arm"] for run in sweep)
    best_of = {arm: best_lr(sweep, arm) for arm in tried}
    best_of |= {arm: best_of[like] for arm, like in AT_FIRST_WIDTH.items()}
    return {"lrs": best_of, "target": target, "random": reference, "rows": rows}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _of(runs: list[Run], **wanted: Any) -> list[Run]:
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def _kinds(runs: list[Run]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((run["arm"], run["d_sae"]) for run in runs))

# SPDX-License-Identifier: Apache-2.0
"""From the curves of all runs to the figures that are reported: `savings.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from suture.savings import analysis
from suture.savings.arms import ARMS, of_a

Run = dict[str, Any]

#: Held-out explained variances whose costs are compared (Fig. 2a).
LEVELS = [round(0.5 + 0.02 * step, 2) for step in range(25)]
#: Likeness below the floor that is rounding: a refit leaves codes alike, not equal.
ROUNDING = 1e-6
#: Shares of the training at which the table of both answers looks.
LOOKS = (0.0, 0.2, 0.6, 1.0)
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


def kept_lr(sweep: list[Run], arm: str) -> float:
    """The rate at which an arm explains most at the end among those that leave its features, in the
    median, at least as much like A's as the best stitched start is before training; where none
    does, the one that leaves them most alike."""

    def worth(run: Run) -> tuple[bool, float]:
        end, alike = run["curve"]["held_out"][-1], run["curve"]["correlation"][-1]
        return (True, float(end)) if keeps(sweep, run) else (False, float(alike))

    best: float = max(_of(sweep, arm=arm), key=worth)["lr"]
    return best


def keeps(sweep: list[Run], run: Run) -> bool:
    """Whether a run with the first seed ends at or above the floor of `kept_lr`."""
    return bool(run["curve"]["correlation"][-1] >= _floors(sweep).get(0, -1.0) - ROUNDING)


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
    """Held-out curves of each arm and width: median, least and greatest over the seeds; of starts
    from a SAE of A also the medians of what tells whether features still are A's."""
    found = []
    for arm, d_sae in _kinds(runs):
        group = _of(runs, arm=arm, d_sae=d_sae)
        levels = np.array([run["curve"]["held_out"] for run in group])
        curve = {
            "arm": arm,
            "d_sae": d_sae,
            # Starts of one kind cost the same but for the iterations of a refit.
            "flops": np.median([costs(run) for run in group], axis=0).tolist(),
            "tokens": group[0]["curve"]["tokens"],
            "median": np.median(levels, axis=0).tolist(),
            "min": levels.min(axis=0).tolist(),
            "max": levels.max(axis=0).tolist(),
        }
        if of_a(arm):
            for name in ("correlation", "correlation_lower", "correlation_upper", "share_active"):
                values = np.array([run["curve"][name] for run in group])
                curve[name] = np.median(values, axis=0).tolist()
        found.append(curve)
    return found


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """One row an arm and width: what was saved, ends, starts, cosines, dead latents, fidelity."""
    compared = headline(runs)
    found = []
    for arm, d_sae in _kinds(runs):
        group = _of(runs, arm=arm, d_sae=d_sae)
        row: dict[str, Any] = {
            "arm": arm,
            "d_sae": d_sae,
            "lr": group[0]["lr"],
            "seeds": len(group),
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
        if of_a(arm):
            row["fidelity"] = _fidelity(group)
        found.append(row)
    return found


def _fidelity(group: list[Run]) -> dict[str, Any]:
    """At the end, over seeds; the median correlation also before training."""
    ends = [run["fidelity"] for run in group]
    return {
        "rows": ends[0]["rows"],
        "start": analysis.spread([run["curve"]["correlation"][0] for run in group]),
        **{
            name: analysis.spread([end["correlation"][name] for end in ends])
            for name in ("lower", "median", "upper")
        },
        "f1": analysis.spread([end["f1"]["median"] for end in ends]),
        "control": analysis.spread([end["control"]["median"] for end in ends]),
        **{
            name: analysis.spread([end[name] for end in ends])
            for name in ("share_active", "judged", "rare", "silent")
        },
    }


def answers(runs: list[Run]) -> list[dict[str, Any]]:
    """The experiment's two answers at each width, from runs with the same seeds from every start.

    *Explained*: the cheapest way to the explained variance that the random start has at its end,
    whatever the latents have become; costs as in `headline`, medians over seeds.

    *Kept*: the cheapest way to a level of explained variance with features that still are A's. A
    start answers if, where its curve first comes to the level, the median correlation of its
    latents with A's is at least the floor: that of the best stitched start before any training,
    with the same seed. All seeds have to. Levels are `LEVELS`, and the random start's end (`level`
    None).

    *Looks*: explained variance and likeness of each start along its training: median correlation,
    and the share of A's active latents that are active in B too.
    """
    compared = headline(runs)
    found = []
    for d_sae in dict.fromkeys(run["d_sae"] for run in runs):
        group = _of(runs, d_sae=d_sae)
        explained = []
        for arm in dict.fromkeys(run["arm"] for run in group):
            parts = [row["held_out"] for row in _of(compared, arm=arm, d_sae=d_sae)]
            if parts:
                names = ("cost", "saved")
                spreads = {name: analysis.spread([part[name] for part in parts]) for name in names}
                explained.append({"arm": arm} | spreads)
        floors = _floors(group)
        kept = [row for level in (None, *LEVELS) for row in _at(group, level, floors)]
        found.append(
            {
                "d_sae": d_sae,
                "target": analysis.spread(
                    [run["curve"]["held_out"][-1] for run in _of(group, arm="random")]
                ),
                "explained": explained,
                "cheapest": _cheapest(explained),
                "floor": analysis.spread(list(floors.values())),
                "kept": kept,
                "cheapest_kept": [
                    {"level": level, "arm": arm}
                    for level in (None, *LEVELS)
                    if _of(kept, level=level)
                    for arm in [_cheapest([row for row in _of(kept, level=level) if row["holds"]])]
                ],
                "looks": [look for curve in medians(group) for look in _looks(curve)],
            }
        )
    return found


def _floors(group: list[Run]) -> dict[int, float]:
    """By seed, the median correlation of the best stitched start before training."""
    floors: dict[int, float] = {}
    for run in group:
        if ARMS[run["arm"]].source == "stitch":
            alike = float(run["curve"]["correlation"][0])
            seed = run.get("seed", 0)
            floors[seed] = max(alike, floors.get(seed, -1.0))
    return floors


def _at(group: list[Run], level: float | None, floors: dict[int, float]) -> list[dict[str, Any]]:
    """Starts from a SAE of A that come to a level with all seeds: cost and likeness there."""
    targets = {
        run["seed"]: run["curve"]["held_out"][-1] if level is None else level
        for run in _of(group, arm="random")
    }
    rows = []
    for arm in dict.fromkeys(run["arm"] for run in group if of_a(run["arm"])):
        own = _of(group, arm=arm)
        reached = [_reach(run, "held_out", targets[run["seed"]]) for run in own]
        if None in reached:
            continue
        alike = [
            float(np.interp(cost, costs(run), run["curve"]["correlation"]))
            for run, cost in zip(own, _known(reached), strict=True)
        ]
        rows.append(
            {
                "arm": arm,
                "level": level,
                "cost": analysis.spread(reached),
                "correlation": analysis.spread(list(alike)),
                "holds": all(
                    value >= floors.get(run["seed"], -1.0) - ROUNDING
                    for run, value in zip(own, alike, strict=True)
                ),
            }
        )
    return rows


def _cheapest(rows: list[dict[str, Any]]) -> str | None:
    """The arm with the least median cost among those that have one."""
    known = [row for row in rows if row["cost"] is not None]
    return min(known, key=lambda row: row["cost"]["median"])["arm"] if known else None


def _looks(curve: dict[str, Any]) -> list[dict[str, Any]]:
    """A start's medians at `LOOKS`, linear between checkpoints."""
    found = []
    for share in LOOKS:
        tokens = share * curve["tokens"][-1]
        names = {"explained_variance": "median"} | {
            name: name for name in ("flops", "correlation", "share_active")
        }
        values = {
            name: float(np.interp(tokens, curve["tokens"], curve[source]))
            for name, source in names.items()
            if source in curve
        }
        found.append({"arm": curve["arm"], "tokens": round(tokens)} | values)
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
        # A rate that only others were tried at has no random start to compare with.
        alike = None
        for random in _of(sweep, arm="random", lr=run["lr"]):
            end = random["curve"]["held_out"][-1]
            alike = analysis.saved(_reach(run, "held_out", end), _reach(random, "held_out", end))
        rows.append(
            {
                "arm": run["arm"],
                "lr": run["lr"],
                "end": run["curve"]["held_out"][-1],
                "correlation": run["curve"]["correlation"][-1] if of_a(run["arm"]) else None,
                "cosine": run["cosine"]["median"],
                "cost": cost,
                "saved": analysis.saved(cost, reference),
                "saved_alike": alike,
            }
        )
    best_of = {arm: best_lr(sweep, arm) for arm in dict.fromkeys(run["arm"] for run in sweep)}
    for arm, kind in ARMS.items():
        if kind.like is not None and kind.like in best_of:
            choose = kept_lr if kind.goal == "kept" else best_lr
            best_of[arm] = choose(sweep, kind.like)
    return {"lrs": best_of, "target": target, "random": reference, "rows": rows}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _of(runs: list[Run], **wanted: Any) -> list[Run]:
    return [run for run in runs if all(run[name] == value for name, value in wanted.items())]


def _kinds(runs: list[Run]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((run["arm"], run["d_sae"]) for run in runs))

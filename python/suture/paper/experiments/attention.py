# SPDX-License-Identifier: Apache-2.0
"""Section 5: features that turn attention heads to BOS, before and after the transfer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from suture.paper.finding import Finding, verdict
from suture.paper.measures import rank_correlation

if TYPE_CHECKING:
    import suture
    from suture.models import DeactivationScores, PathAblation
    from suture.paper.ground import Ground, Name

TITLE = "Features that deactivate attention heads"
SECTION = "5"

Sign = Literal["positive", "negative"]

#: A feature turns a head to BOS ("positive" score) or away from it.
SIGNS: tuple[Sign, Sign] = ("positive", "negative")
#: Fewer tokens say little of one feature.
EXAMPLE_TOKENS = 100
#: A smaller mean change of p(BOS), or correlation with the activation, is called weak.
EXAMPLE_CHANGE = 0.005
EXAMPLE_CORRELATION = 0.1


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Tokens for the heuristic scores: mean keys, and which features are frequent.
    score_tokens: int = 30_000
    #: Held-out tokens that features are ablated on.
    ablation_tokens: int = 60_000
    #: Features of each sign, and as many drawn at random to compare with.
    features: int = 16
    #: Features that are active on a smaller share of the tokens, in either model, are left out.
    least_frequency: float = 0.002
    #: So are heads with less attention to BOS, in the mean.
    least_p_bos: float = 0.2
    #: 1: of models that are run without BOS, take what stands first in a sequence in its place.
    first_position: int = 0
    #: Points of a scatter plot that are kept.
    points: int = 300

    def __post_init__(self) -> None:
        for name in ("score_tokens", "ablation_tokens", "features", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("least_frequency", "least_p_bos"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 to 1")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """The features of A with the strongest scores, each with its best head; the same features in B
    after the transfer, with their best heads of the same sign; and features at random."""
    depends = ground.key("models", "layers", "a", "transferred", "fit", "held_out")
    return ground.steps.run(
        "attention",
        "Ablating features from the queries of attention heads",
        depends | asdict(settings),
        lambda _: _compute(ground, settings),
    ).result


def _compute(ground: Ground, settings: Settings) -> dict[str, Any]:
    from suture.models import ablate_paths, deactivation_scores

    saes: dict[Name, suture.SAE] = {"a": ground.sae("a"), "b": ground.sae("transferred")}
    texts = {
        which: [record["text"] for record in ground.records(which)] for which in ("fit", "held_out")
    }
    shared: dict[str, Any] = {
        "context": ground.settings.context,
        "first_position": bool(settings.first_position),
        "progress": ground.progress,
    }
    scores: dict[Name, DeactivationScores] = {}
    frequent = np.ones(saes["a"].d_sae, bool)
    for name, sae in saes.items():
        tokens = settings.score_tokens
        rows = ground.first_rows("fit", name, tokens)
        metrics = sae.evaluate(rows, features=True, progress=ground.progress)
        frequent &= np.asarray(metrics["feature_frequency"]) >= settings.least_frequency
        scores[name] = deactivation_scores(
            ground.model(name), sae, ground.layer(name), texts["fit"], ground.tokenizer(name),
            max_tokens=tokens, **shared,
        )  # fmt: skip
        if scores[name].p_bos.max() < settings.least_p_bos:
            raise ValueError(
                f"no head of model {name} from layer {ground.layer(name)} on attends to BOS with "
                f"{settings.least_p_bos:g} or more: the most is {scores[name].p_bos.max():.3f}"
            )
    entries = _chosen(scores, np.flatnonzero(frequent), settings, ground.settings.seed)
    for name, sae in saes.items():
        found = ablate_paths(
            ground.model(name), sae, ground.layer(name), [entry[name] for entry in entries],
            texts["held_out"], ground.tokenizer(name), max_tokens=settings.ablation_tokens,
            **shared,
        )  # fmt: skip
        for entry, result in zip(entries, found, strict=True):
            entry[name] = _summary(result, scores[name], settings.points)
    return {
        "frequent": int(frequent.sum()),
        "d_sae": saes["a"].d_sae,
        "heads": {name: _heads(found, settings) for name, found in scores.items()},
        "distance": {name: found.distance for name, found in scores.items()},
        "rank_correlation": _rank_correlations(scores, frequent, settings),
        "features": _without_points(entries),
        "examples": [_example(entries, sign) for sign in SIGNS],
    }


def _chosen(
    scores: dict[Name, DeactivationScores],
    frequent: Any,
    settings: Settings,
    seed: int,
) -> list[dict[str, Any]]:
    """Features with a head in either model: the strongest of A by sign, then random ones."""
    taken: list[int] = []

    def entry(path: Any, kind: str) -> dict[str, Any] | None:
        sign = SIGNS[scores["a"].score(*path) < 0]
        in_b = scores["b"].strongest(
            1, sign=sign, features=[path.feature], least_p_bos=settings.least_p_bos
        )
        if not in_b:
            return None
        taken.append(path.feature)
        return {"feature": path.feature, "sign": sign, "kind": kind, "a": path, "b": in_b[0]}

    found = []
    for sign in SIGNS:
        paths = scores["a"].strongest(
            settings.features, sign=sign, features=frequent, least_p_bos=settings.least_p_bos
        )
        found += [entry(path, "strongest") for path in paths if path.feature not in taken]
    rest = np.setdiff1d(frequent, taken)
    count = min(2 * settings.features, len(rest))
    for feature in np.random.default_rng(seed).choice(rest, count, replace=False):
        for path in scores["a"].strongest(1, features=[feature], least_p_bos=settings.least_p_bos):
            found.append(entry(path, "random"))
    entries = [one for one in found if one is not None]
    if not entries:
        raise ValueError(
            f"none of {len(frequent)} frequent features has a score for a head that attends to BOS"
        )
    return entries


def _summary(result: PathAblation, scores: DeactivationScores, points: int) -> dict[str, Any]:
    n = len(result.rows)
    kept = np.linspace(0, n - 1, min(n, points)).astype(int)
    varies = n > 1 and result.activation.std() > 0 and result.change.std() > 0
    return {
        "layer": result.layer,
        "head": result.head,
        "score": scores.score(result.feature, result.layer, result.head),
        "tokens": n,
        "p_bos": float(result.p_bos.mean()) if n else None,
        "change": float(result.change.mean()) if n else None,
        "correlation": float(np.corrcoef(result.activation, result.change)[0, 1])
        if varies
        else None,
        "points": [
            [round(float(x), 4), round(float(y), 6)]
            for x, y in zip(result.activation[kept], result.change[kept], strict=True)
        ],
    }


def _heads(scores: DeactivationScores, settings: Settings) -> list[dict[str, Any]]:
    """Attention to BOS of every head, and whether it is looked at."""
    return [
        {
            "layer": scores.layer + layer,
            "head": head,
            "p_bos": float(value),
            "used": bool(value >= settings.least_p_bos),
        }
        for (layer, head), value in np.ndenumerate(scores.p_bos)
    ]


def _rank_correlations(
    scores: dict[Name, DeactivationScores], frequent: Any, settings: Settings
) -> dict[str, float | None]:
    """Spearman's correlation, over frequent features, of the best score in A and in B, by sign."""
    found: dict[str, float | None] = {}
    for sign, factor in zip(SIGNS, (1, -1), strict=True):
        best = []
        for name in ("a", "b"):
            used = scores[name].p_bos >= settings.least_p_bos
            best.append((factor * scores[name].scores[frequent][:, used]).max(axis=1))
        rho = rank_correlation(*best) if frequent.sum() > 2 else float("nan")
        found[sign] = None if np.isnan(rho) else rho
    return found


def _without_points(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def shorter(part: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in part.items() if key != "points"}

    return [{**entry, "a": shorter(entry["a"]), "b": shorter(entry["b"])} for entry in entries]


def _example(entries: list[dict[str, Any]], sign: str) -> dict[str, Any] | None:
    """The feature of this sign with the strongest score in A, of those active often enough."""
    for entry in entries:
        if (
            entry["kind"] == "strongest"
            and entry["sign"] == sign
            and min(entry[name]["tokens"] for name in ("a", "b")) >= EXAMPLE_TOKENS
        ):
            return entry
    return None


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 5b and Fig. 16."""
    return [_single(result["examples"]), _many(result)]


def toward(entry: dict[str, Any], name: str) -> float | None:
    """How far p(BOS) moves as the score's sign says when the feature is taken out: a feature that
    turns the head to BOS leaves less of it, one that turns it away leaves more."""
    change: float | None = entry[name]["change"]
    if change is None:
        return None
    return -change if entry["sign"] == "positive" else change


def _single(examples: list[dict[str, Any] | None]) -> Finding:
    shown = [example for example in examples if example is not None]
    said, weak, against = [], [], []
    for example in shown:
        parts = []
        for name in ("a", "b"):
            part = example[name]
            relation = part["correlation"]
            place = f"{name.upper()} {part['layer']}.{part['head']}"
            shown_relation = "-" if relation is None else f"{relation:+.2f}"
            parts.append(f"{place} {part['change']:+.3f} (correlation {shown_relation})")
            moved = toward(example, name)
            grows = 0.0 if relation is None else relation * (-1) ** (example["sign"] == "positive")
            if moved is None or moved <= 0:
                against.append(f"feature {example['feature']} in {place}")
            elif moved < EXAMPLE_CHANGE or grows < EXAMPLE_CORRELATION:
                weak.append(f"feature {example['feature']} in {place}")
        said.append(f"feature {example['feature']}: {', '.join(parts)}")
    why = [] if shown else [f"Few tokens: fewer than {EXAMPLE_TOKENS} each."]
    why += [f"Against its score: {', '.join(against)}."] if against else []
    why += [f"Weak: {', '.join(weak)}."] if weak else []
    return Finding(
        "Fig. 5b",
        "What one feature does to a head's attention to BOS",
        "Change of p(BOS) against a feature's activation, before and after. Expected: taking a "
        "feature with a strong score out of a head's query changes the attention to BOS, more "
        "where it is more active, and after the transfer does so to a head of the other model.",
        "Mean change of p(BOS) where the feature is active, and its correlation with the "
        f"activation: {'; '.join(said) or 'no feature is active often enough'}.",
        verdict(
            reproduced=bool(shown) and not (weak or against), partly=bool(shown) and not against
        ),
        " ".join(why),
    )


def _many(result: dict[str, Any]) -> Finding:
    numbers = agreement(result["features"])
    strong, random = numbers["strongest"], numbers["random"]
    lift = strong["b"]["median"] / max(random["b"]["median"], 1e-9)
    good = min(strong["a"]["share"], strong["b"]["share"]) >= 0.75 and lift >= 1.5
    partly = strong["b"]["share"] >= 0.6 and lift >= 1
    ranks = [value for value in result["rank_correlation"].values() if value is not None]
    return Finding(
        "Fig. 16",
        "Features that deactivate heads, before and after",
        "The same for more features. Expected: those that deactivate or activate heads of A do so "
        "to heads of B after the transfer.",
        f"p(BOS) moves as the score says for {strong['a']['share']:.0%} of the strongest features "
        f"in A and {strong['b']['share']:.0%} of the same in B (features at random: "
        f"{random['a']['share']:.0%} and {random['b']['share']:.0%}), in the median by "
        f"{strong['a']['median']:.4f} in A and {strong['b']['median']:.4f} in B (at random: "
        f"{random['a']['median']:.4f} and {random['b']['median']:.4f}). Rank correlation of best "
        f"scores in A and B: {', '.join(f'{value:.2f}' for value in ranks) or '-'}.",
        verdict(reproduced=good, partly=partly),
        ""
        if good
        else "The strongest features of A stand out less among random ones in B than in A."
        if strong["b"]["share"] >= 0.75
        else "In B p(BOS) often does not move as the score says.",
    )


def agreement(features: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """By kind and model: the share of features that move p(BOS) as their score says, and the
    median of how far."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in ("strongest", "random"):
        found[kind] = {}
        for name in ("a", "b"):
            moves = [toward(entry, name) for entry in features if entry["kind"] == kind]
            # Never active on the held-out tokens: moves nothing.
            numbers = [0.0 if move is None else move for move in moves] or [0.0]
            found[kind][name] = {
                "share": float(np.mean([number > 0 for number in numbers])),
                "median": float(np.median(numbers)),
            }
    return found

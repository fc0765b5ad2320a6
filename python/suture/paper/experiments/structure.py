# SPDX-License-Identifier: Apache-2.0
"""Section 5: structural and semantic features, and how well either kind transfers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper.finding import Finding, verdict

if TYPE_CHECKING:
    import suture
    from suture.paper.ground import Ground, Name
    from suture.report.steps import Step

TITLE = "Structural and semantic features"
SECTION = "5"

KINDS = ("structural", "semantic")
#: A smaller Kolmogorov-Smirnov distance is no noticeable difference.
NOTICEABLE = 0.15
#: Where the tail of the Kolmogorov distribution is 0.01.
KOLMOGOROV_1 = 1.63

# Before a small letter a full stop is that of an abbreviation, and so it is after a single letter.
_END = re.compile(r"(?<=[.!?;:])\s+(?![a-zß-öø-ÿ])|\n+")
_WHOLE = re.compile(r".*(?:[!?;:]|\w{2}[\W_]*\.)")
#: What is a sentence and not a table, a title or a list of options.
LONGEST = 240
LEAST_WORDS = 3
_BLOCK = 100


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Sentences, the same number of each language as far as the texts go.
    sentences: int = 1000
    #: Variants of each.
    variants: int = 5
    #: Features that are active in fewer sentences are left out.
    least_sentences: int = 5
    #: Held-out tokens for the attribution correlations.
    attribution_tokens: int = 100_000

    def __post_init__(self) -> None:
        for name in ("sentences", "variants", "least_sentences"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.attribution_tokens < 2:
            raise ValueError(
                f"attribution_tokens is {self.attribution_tokens}, expected at least 2"
            )


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Structural scores and attribution correlations of the SAE on A, moved up (Fig. 4b), and of
    the one on B, moved down (Fig. 15)."""
    return _step(ground, settings).result


def scores(ground: Ground, settings: Settings) -> Any:
    """Structural score of each feature of A's SAE, (d_sae,); NaN where it is active in too few
    sentences to tell."""
    with np.load(_step(ground, settings).folder / "scores.npz", allow_pickle=False) as stored:
        return stored["up"]


def _step(ground: Ground, settings: Settings) -> Step:
    ground.needs_one_tokenizer("attribution correlations")
    depends = ground.key("models", "layers", "stitch", "a", "b", "fit", "held_out")
    return ground.steps.run(
        "structure",
        "Telling structural from semantic features",
        depends | asdict(settings) | {"keeps": "scores"},
        lambda folder: _compute(ground, settings, folder),
    )


def _compute(ground: Ground, settings: Settings, folder: Path) -> dict[str, Any]:
    texts, languages = _texts(ground, settings)
    names: tuple[Name, Name] = ("a", "b")
    W_U = {name: ground.unembedding(name) for name in names}
    stitch, own = ground.stitch(), {"a": ground.sae("a"), "b": ground.sae("b")}
    pairs: dict[str, tuple[Name, suture.SAE, suture.SAE]] = {
        "up": ("a", own["a"], stitch.transfer(own["a"])),
        "down": ("b", stitch.transfer(own["b"], direction="down"), own["b"]),
    }
    found: dict[str, Any] = {
        "languages": languages,
        "sentences": len(texts) // (settings.variants + 1),
        "example": texts[: settings.variants + 1],
    }
    kept = {}
    for direction, (name, sae_a, sae_b) in pairs.items():
        score, unrelated = _scores(ground, name, own[name], texts, languages, settings)
        correlation, frequency = _attribution(ground, sae_a, sae_b, W_U, settings)
        used = score.in_any >= settings.least_sentences
        kept[direction] = np.where(used, score.score, np.nan)
        found[direction] = compared(score.score, used, correlation, frequency)
        found[direction]["unrelated"] = _unrelated(score, unrelated, used, correlation)
    np.savez(folder / "scores.npz", up=kept["up"], down=kept["down"])
    return found


def sentences(text: str, function_words: frozenset[str]) -> Iterator[str]:
    """Parts of a text that look like a sentence with content in it.

    >>> text = "NAME\\n\\nThe option, e.g. the second, opens a file. Then it (i.e. B. "
    >>> list(sentences(text, frozenset(["the", "a", "it"])))
    ['The option, e.g. the second, opens a file.']
    """
    from suture._words import pieces

    for part in _END.split(text):
        sentence = " ".join(part.split())
        if len(sentence) > LONGEST or not _WHOLE.fullmatch(sentence):
            continue
        parts = pieces(sentence, function_words)
        content = sum(piece.kind == "word" for piece in parts)
        structure = sum(piece.text.lower() in function_words for piece in parts)
        if min(content, structure) >= LEAST_WORDS:
            yield sentence


def _texts(ground: Ground, settings: Settings) -> tuple[list[str], dict[str, int]]:
    """Sentences, each followed by its variants; and how many there are by language."""
    from suture.variants import ContentWordSwapper, function_words

    held_out, fit = ground.records("held_out"), ground.records("fit")
    languages = sorted({str(record["lang"]) for record in held_out if record.get("lang")})
    if not languages:
        raise ValueError("texts say no language ('lang'), which variants of sentences need")
    each = -(-settings.sentences // len(languages))
    texts: list[str] = []
    counts = {}
    for language in languages:
        kept = function_words(language)
        corpus, fresh = (
            [str(record["text"]) for record in records if record.get("lang") == language]
            for records in (fit, held_out)
        )
        swap = ContentWordSwapper(corpus + fresh, kept, seed=ground.settings.seed)
        # Unseen texts first; each part in an order of its own, so that no page takes it all.
        random = np.random.default_rng(ground.settings.seed)
        candidates: list[str] = []
        for part in (fresh, corpus):
            new = sorted({one for text in part for one in sentences(text, kept)} - {*candidates})
            candidates += [new[i] for i in random.permutation(len(new))]
        counts[language] = 0
        for sentence in candidates:
            if counts[language] == each:
                break
            variants = swap(sentence, k=settings.variants)
            if len(variants) == settings.variants:
                texts += [sentence, *variants]
                counts[language] += 1
    if not texts:
        raise ValueError(f"texts have no sentences in {', '.join(languages)}, expected some")
    return texts, counts


def _scores(
    ground: Ground,
    name: Name,
    sae: suture.SAE,
    texts: list[str],
    languages: dict[str, int],
    settings: Settings,
) -> tuple[suture.analysis.StructuralScore, suture.analysis.StructuralScore]:
    """By sentences and their variants; and by sentences and unrelated ones of the same language."""
    import suture
    from suture.analysis import StructuralScore
    from suture.models import extract

    each = settings.variants + 1
    score, unrelated = StructuralScore(sae.d_sae), StructuralScore(sae.d_sae)
    indices, values, lengths = [], [], []
    for start in range(0, len(texts), each * _BLOCK):
        block = texts[start : start + each * _BLOCK]
        acts = extract(
            ground.model(name), ground.tokenizer(name), block, ground.layer(name),
            context=ground.settings.context, chunking="truncate", progress=ground.progress,
        )  # fmt: skip
        tokens = np.bincount(acts.text, minlength=len(block))
        codes = sae.encode(acts[ground.layer(name)], progress=ground.progress)
        score.update(codes, tokens, each)
        first = np.flatnonzero(acts.text % each == 0)
        indices.append(codes.indices[first])
        values.append(codes.values[first])
        lengths.append(tokens[::each])
    tokens = np.concatenate(lengths)
    order = companions(list(languages.values()), each)
    starts = np.cumsum(tokens) - tokens
    rows = np.concatenate([np.arange(starts[i], starts[i] + tokens[i]) for i in order])
    originals = suture.SparseCodes(np.concatenate(indices), np.concatenate(values), sae.d_sae)
    unrelated.update(originals[rows], tokens[order], each)
    return score, unrelated


def companions(counts: list[int], each: int) -> Any:
    """Numbers of sentences: each with the ones after it, in a circle within its language.

    >>> companions([3, 1], 2).tolist()
    [0, 1, 1, 2, 2, 0, 3, 3]
    """
    start, found = 0, []
    for count in counts:
        steps = np.arange(count)[:, None] + np.arange(each)[None, :]
        found.append(start + steps.ravel() % max(count, 1))
        start += count
    return np.concatenate(found)


def _unrelated(score: Any, unrelated: Any, used: Any, correlation: Any) -> dict[str, Any]:
    """How many structural features would be so with unrelated sentences for variants, and the
    median correlation of the others."""
    structural = used & (score.score >= 0.5) & np.isfinite(correlation)
    anywhere = structural & (unrelated.score >= 0.5)
    return {
        "structural": int(anywhere.sum()),
        "median_of_others": _median(correlation[structural & ~anywhere]),
    }


def _attribution(
    ground: Ground, sae_a: suture.SAE, sae_b: suture.SAE, W_U: Any, settings: Settings
) -> tuple[Any, Any]:
    """Correlation of each feature's attribution in A and in B, and how often it is active."""
    from suture.analysis import attribution_correlation, next_tokens

    count = settings.attribution_tokens
    following = next_tokens(ground.activations("held_out", "a"))[:count]
    found = attribution_correlation(
        sae_a, ground.first_rows("held_out", "a", count), W_U["a"],
        sae_b, ground.first_rows("held_out", "b", count), W_U["b"],
        following, progress=ground.progress,
    )  # fmt: skip
    active = np.minimum(found.active_a, found.active_b)
    return found.correlation, active / max(found.tokens, 1)


def compared(score: Any, used: Any, correlation: Any, frequency: Any) -> dict[str, Any]:
    """Correlations of either kind of feature, and how far apart they are.

    "distance" is that of Kolmogorov and Smirnov, "limit" what it exceeds by chance once in a
    hundred times; "difference" is of the medians, structural minus semantic, and "matched" the
    same among features that are active about as often (a mean over tenths of the frequencies).
    """
    used = used & np.isfinite(correlation) & np.isfinite(score)
    score, correlation, frequency = score[used], correlation[used], frequency[used]
    structural = score >= 0.5
    values = {"structural": correlation[structural], "semantic": correlation[~structural]}
    sizes = [len(values[kind]) for kind in KINDS]
    found: dict[str, Any] = {
        "values": {kind: np.round(np.sort(values[kind]), 4).tolist() for kind in KINDS},
        "median": {kind: _median(values[kind]) for kind in KINDS},
        "frequency": {
            "structural": _median(frequency[structural]),
            "semantic": _median(frequency[~structural]),
        },
        "distance": None,
        "limit": None,
        "difference": None,
        "matched": None,
    }
    if min(sizes) > 0:
        everything = np.sort(correlation)
        steps = [
            np.searchsorted(np.sort(values[kind]), everything, side="right") / len(values[kind])
            for kind in KINDS
        ]
        found["distance"] = float(np.abs(steps[0] - steps[1]).max())
        found["limit"] = float(KOLMOGOROV_1 * np.sqrt(sum(sizes) / (sizes[0] * sizes[1])))
        found["difference"] = found["median"]["structural"] - found["median"]["semantic"]
        found["matched"] = _matched(structural, correlation, frequency)
    return found


def _median(values: Any) -> float | None:
    return float(np.median(values)) if len(values) else None


def _matched(structural: Any, correlation: Any, frequency: Any) -> float | None:
    tenth = np.argsort(np.argsort(frequency, kind="stable"), kind="stable") * 10 // len(frequency)
    differences, weights = [], []
    for part in range(10):
        kinds = [correlation[(tenth == part) & kind] for kind in (structural, ~structural)]
        if min(map(len, kinds)) >= 5:
            differences.append(np.median(kinds[0]) - np.median(kinds[1]))
            weights.append(min(map(len, kinds)))
    return float(np.average(differences, weights=weights)) if weights else None


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 4b and Fig. 15."""
    first = result["up"]["difference"]
    return [
        _finding("Fig. 4b", "Features of A's SAE, moved to B", result, "up", None),
        _finding("Fig. 15", "The same for B's SAE, moved to A", result, "down", first),
    ]


def _anywhere(found: dict[str, Any]) -> str:
    """What a control says of the structural features."""
    others = found["unrelated"]["median_of_others"]
    return (
        f"{found['unrelated']['structural']:,} of the structural ones are active in unrelated "
        "sentences too" + ("." if others is None else f"; the others have {others:.2f}.")
    )


def _finding(
    figure: str, title: str, result: dict[str, Any], direction: str, other: float | None
) -> Finding:
    found = result[direction]
    paper = (
        "Densities of the attribution correlation for both kinds. Expected: structural and "
        "semantic features transfer noticeably differently."
    )
    counts = {kind: len(found["values"][kind]) for kind in KINDS}
    if found["distance"] is None:
        missing = " or ".join(kind for kind in KINDS if not counts[kind])
        return Finding(
            figure, title, paper, f"No {missing} features among {sum(counts.values())}.", "differs"
        )
    median, difference, matched = found["median"], found["difference"], found["matched"]
    certain = found["distance"] > found["limit"]
    noticeable = certain and found["distance"] >= NOTICEABLE
    agrees = other is None or other * difference > 0
    better = KINDS[difference < 0]
    reasons = []
    if not certain:
        reasons.append("The distance is within chance.")
    elif not noticeable:
        reasons.append("The two kinds are distributed about alike.")
    elif not agrees:
        reasons.append("The other kind transfers better than with the SAE of A.")
    if noticeable and matched is not None and matched * difference < 0.5 * difference**2:
        reasons.append(
            "Most of the difference goes with how often features are active: it is "
            f"{matched:+.2f} among features of like frequency."
        )
    return Finding(
        figure,
        title,
        paper,
        f"Median attribution correlation {median['structural']:.2f} of "
        f"{counts['structural']:,} structural and {median['semantic']:.2f} of "
        f"{counts['semantic']:,} semantic features ({better} transfer better; "
        f"Kolmogorov-Smirnov distance {found['distance']:.2f}, by chance up to "
        f"{found['limit']:.2f}"
        + ("" if matched is None else f"; at like frequency {matched:+.2f}")
        + f"). {_anywhere(found)} From {result['sentences']:,} sentences in "
        f"{', '.join(result['languages'])}.",
        verdict(reproduced=noticeable and agrees, partly=certain),
        " ".join(reasons),
    )

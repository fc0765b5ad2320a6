# SPDX-License-Identifier: Apache-2.0
"""Section 4: vectors that steer to a language, native and transferred."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from suture._extras import needs
from suture.paper.finding import Finding, verdict
from suture.paper.measures import rank_correlation

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "Steering to other languages"
SECTION = "4"

#: Transferred vectors that reach this share of what native ones do are nearly as good.
NEARLY = 0.8
#: Native vectors that raise the share in the language by less do not steer.
STEERS = 0.2
#: Relative gaps below and above these are near 0 and near 1.
FAILS, WORKS = 0.25, 0.75
#: Fewer languages say nothing of a trend: none of them could be significant.
LEAST_LANGUAGES = 5
#: A smaller rank correlation is called weak.
TREND = 0.5
NO_STEERING = "Native vectors do not steer here: there is nothing to transfer."
#: Real texts of each language that langdetect is tried on.
TRIED = 100
#: What a model with a chat template is asked, where prompts go through it.
ASKED = "Continue this text:\n\n{text}"


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Language of the prompts, as the texts call it.
    source_language: str = "en"
    #: Prompts: beginnings of paragraphs of held-out text; as many as there are, at least 24.
    prompts: int = 96
    #: Tokens of a prompt.
    prompt_tokens: int = 16
    #: Tokens of a response.
    new_tokens: int = 48
    #: Factors of z_mean.
    strengths: tuple[float, ...] = (1.0, 2.0)
    #: Tokens of either side of a difference of means, at most.
    vector_tokens: int = 20_000
    #: Pages that a language has in common with the source language, from which on only those count.
    least_pages: int = 10
    #: Of the sampling.
    temperature: float = 1.0
    #: 1: prompts go through the chat template of a tokenizer that has one; 0: as they are.
    chat: int = 0

    def __post_init__(self) -> None:
        least = {"prompts": 24, "prompt_tokens": 1, "new_tokens": 1, "vector_tokens": 1}
        for name, bound in (least | {"least_pages": 1}).items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {bound}")
        if not self.strengths or not all(0 < strength < 100 for strength in self.strengths):
            raise ValueError(f"strengths is {self.strengths}, expected numbers above 0")
        if not 0 < self.temperature < 100:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")
        if self.chat not in (0, 1):
            raise ValueError(f"chat is {self.chat}, expected 0 or 1")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """Shares of responses in each language, by the vectors of each model and those of the other."""
    with needs("paper"):
        import langdetect  # noqa: F401  # before minutes of work
        import scipy  # noqa: F401
    depends = ground.key("models", "layers", "stitch", "texts_fit", "texts_held_out")
    depends |= {"langdetect": version("langdetect")}
    common = {"context": ground.settings.context, "seed": ground.settings.seed}
    return ground.steps.run(
        "steering",
        "Steering to other languages",
        depends | asdict(settings) | common,
        lambda _: _compute(ground, settings),
    ).result


def _compute(ground: Ground, settings: Settings) -> dict[str, Any]:
    from suture.models.languages import beginnings, detect_language, interval, language_steering

    records = {which: ground.records(which) for which in ("fit", "held_out")}
    if not all("lang" in record for part in records.values() for record in part):
        raise ValueError('texts have no languages, expected JSON lines with a "lang" member')
    source = settings.source_language
    tokenizer = ground.tokenizer()
    held: dict[str, list[str]] = {}
    for record in records["held_out"]:
        held.setdefault(record["lang"], []).append(record["text"])
    prompts = beginnings(held.get(source, []), tokenizer, settings.prompt_tokens)
    if len(prompts) < 24:
        raise ValueError(
            f"held-out texts have {len(prompts)} paragraphs of {settings.prompt_tokens} tokens in "
            f"{source!r}, expected at least 24 to begin responses with"
        )
    prompts = prompts[: settings.prompts]
    asked = {
        name: in_chat(ground.tokenizer(name), prompts) if settings.chat else prompts
        for name in ("a", "b")
    }
    found, unsteered = language_steering(
        ground.model("a"),
        ground.model("b"),
        tokenizer,
        ground.stitch(),
        ground.layer("a"),
        ground.layer("b"),
        records["fit"],
        asked["a"],
        tokenizer_b=ground.tokenizer("b"),
        prompts_b=asked["b"],
        source_language=source,
        strengths=settings.strengths,
        max_tokens=settings.vector_tokens,
        least_pages=settings.least_pages,
        max_new_tokens=settings.new_tokens,
        temperature=settings.temperature,
        batch_size=96,
        context=ground.settings.context,
        seed=ground.settings.seed,
        progress=ground.progress,
    )
    # What langdetect makes of real text of the length of a response: no share can be better.
    real = {}
    for language in [source, *dict.fromkeys(row.language for row in found)]:
        texts = list(
            islice(beginnings(held.get(language, []), tokenizer, settings.new_tokens), TRIED)
        )
        hits = sum(detect_language(text) == language for text in texts)
        if texts:
            low, high = interval(hits, len(texts))
            real[language] = {
                "hits": hits, "n": len(texts), "share": hits / len(texts), "low": low, "high": high,
            }  # fmt: skip
    return {
        "source_language": source,
        "prompts": len(prompts),
        "new_tokens": settings.new_tokens,
        "strengths": list(settings.strengths),
        "layers": {name: ground.layer(name) for name in ("a", "b")},
        "langdetect": version("langdetect"),
        "rows": [row.to_dict() for row in found],
        "unsteered": unsteered,
        "real": real,
        "frequency": _frequencies(records["fit"], tokenizer),
    }


def in_chat(tokenizer: Any, prompts: list[str], asked: str = ASKED) -> list[str]:
    """The prompts as a user's messages, where the tokenizer has a template for such."""
    if not getattr(tokenizer, "chat_template", None):
        return prompts
    return [
        str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": asked.format(text=text)}],
                add_generation_prompt=True,
                tokenize=False,
            )
        )
        for text in prompts
    ]


def _frequencies(records: list[dict[str, Any]], tokenizer: Any) -> dict[str, float]:
    """Share of the tokens in each language."""
    tokens: dict[str, int] = {}
    for start in range(0, len(records), 100):
        part = records[start : start + 100]
        ids = tokenizer([r["text"] for r in part], add_special_tokens=False, verbose=False)
        for record, sequence in zip(part, ids["input_ids"], strict=True):
            tokens[record["lang"]] = tokens.get(record["lang"], 0) + len(sequence)
    total = sum(tokens.values())
    return {language: count / total for language, count in tokens.items()}


# -- Findings ----------------------------------------------------------------------------------


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 3b, 3c, Tables 5 and 6, Fig. 11."""
    return [_success(result), _gaps(result), _tables(result), _trend(result)]


def shares(result: dict[str, Any], kind: str, strength: float | None) -> list[dict[str, Any]]:
    """The share of one kind and strength in each row, in their order."""
    return [
        next(s for s in row["shares"] if s["kind"] == kind and s["strength"] == strength)
        for row in result["rows"]
    ]


def _mean(found: list[dict[str, Any]]) -> float:
    return float(np.mean([share["share"] for share in found]))


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def _success(result: dict[str, Any]) -> Finding:
    none = _mean(shares(result, "none", None))
    said = []
    ratios = []
    for strength in result["strengths"]:
        native, moved = (shares(result, kind, strength) for kind in ("native", "transferred"))
        said.append(
            f"at {strength:g} z̄ native {_mean(native):.2f} "
            f"({_range([s['share'] for s in native])} by language), transferred "
            f"{_mean(moved):.2f} ({_range([s['share'] for s in moved])})"
        )
        ratios.append(_mean(moved) / max(_mean(native), 1e-9))
    cosines = [row["cosine"] for row in result["rows"]]
    steers = _native_steers(result)
    good = steers and ratios[0] >= NEARLY
    return Finding(
        "Fig. 3b",
        "Responses in the language that is steered to",
        "Share of free responses to English prompts in the target language by langdetect: none, "
        "native, transferred, with 95 % intervals. Expected where vectors cross: as often by "
        "transferred vectors as by the model's own.",
        f"Mean share of {result['prompts']} responses over languages and both directions: none "
        f"{none:.2f}; {'; '.join(said)}. Cosine of transferred and native vector "
        f"{_range(cosines)}.",
        verdict(reproduced=good, partly=steers and ratios[0] >= 0.5),
        "" if good else NO_STEERING if not steers else "Transferred vectors steer clearly less.",
    )


def _native_steers(result: dict[str, Any]) -> bool:
    """Whether there is anything to transfer: a gap says nothing where native vectors do nothing."""
    native = shares(result, "native", result["strengths"][0])
    return _mean(native) - _mean(shares(result, "none", None)) >= STEERS


def _first_gaps(result: dict[str, Any]) -> list[float]:
    key = f"{result['strengths'][0]:g}"
    return [row["gaps"][key] for row in result["rows"]]


def _gaps(result: dict[str, Any]) -> Finding:
    gaps = _first_gaps(result)
    low, high = sum(gap <= FAILS for gap in gaps), sum(gap >= WORKS for gap in gaps)
    between = len(gaps) - low - high
    steers = _native_steers(result)
    bimodal = steers and low > between and high > between
    why = ""
    if not steers:
        why = NO_STEERING
    elif not bimodal:
        why = (
            "Only the upper of the two modes: no language fails."
            if low == 0 and high >= between
            else "They do not fall into two groups."
        )
    return Finding(
        "Fig. 3c",
        "Relative transfer gap over languages",
        "Bimodal over languages.",
        f"Of {len(gaps)} (languages in either direction), {high} are at least {WORKS:g}, {low} at "
        f"most {FAILS:g}, {between} between; median {float(np.median(gaps)):.2f}.",
        verdict(reproduced=bimodal, partly=steers and high > between),
        why,
    )


def _tables(result: dict[str, Any]) -> Finding:
    strength = result["strengths"][0]
    native, moved = (shares(result, kind, strength) for kind in ("native", "transferred"))
    means: dict[str, list[tuple[float, float]]] = {}
    said: dict[str, list[str]] = {}
    apart = 0
    for row, own, other in zip(result["rows"], native, moved, strict=True):
        way = f"{row['source'].upper()} to {row['target'].upper()}"
        means.setdefault(way, []).append((own["share"], other["share"]))
        said.setdefault(way, []).append(
            f"{row['language']} {own['share']:.2f} / {other['share']:.2f}"
        )
        apart += other["high"] < own["low"]
    ratios = [
        sum(m for _, m in pairs) / max(sum(n for n, _ in pairs), 1e-9) for pairs in means.values()
    ]
    source = result["source_language"]
    plain = ", ".join(
        f"{name.upper()} {counts.get(source, 0) / result['prompts']:.2f}"
        for name, counts in result["unsteered"].items()
    )
    real = ", ".join(f"{name} {known['share']:.2f}" for name, known in result["real"].items())
    steers = _native_steers(result)
    both = steers and all(ratio >= NEARLY for ratio in ratios) and apart * 2 < len(native)
    one = steers and any(ratio >= NEARLY for ratio in ratios)
    why = ""
    if not both:
        why = (
            NO_STEERING
            if not steers
            else "Some languages cross clearly worse."
            if one
            else "Transferred vectors steer clearly less."
        )
    return Finding(
        "Tables 5 and 6",
        "Languages one by one, in both directions",
        "Shares with 95 % intervals: none, native, transferred; vectors go from the small model to "
        "the large one and back.",
        "Native / transferred at "
        f"{strength:g} z̄: "
        + "; ".join(f"{way}: {', '.join(parts)}" for way, parts in said.items())
        + f". Intervals lie apart in {apart} of {len(native)}. langdetect itself finds "
        f"{source!r} in unsteered responses of {plain}, and the right language in real text of "
        f"that length: {real}.",
        verdict(reproduced=both, partly=one),
        why,
    )


def _trend(result: dict[str, Any]) -> Finding:
    points = by_language(result)
    frequencies, gaps = zip(*((f, g) for _, f, g in points), strict=True)
    rho = rank_correlation(np.array(frequencies), np.array(gaps))
    enough = len(points) >= LEAST_LANGUAGES
    steers = _native_steers(result)
    listed = ", ".join(f"{language} {f:.0%} {g:.2f}" for language, f, g in points)
    why = ""
    if not steers:
        why = NO_STEERING
    elif np.isnan(rho):
        why = "There is no trend in gaps that are all the same."
    elif not enough:
        why = f"{len(points)} languages are too few to tell a trend from chance."
    elif rho < TREND:
        why = "It hardly grows with the frequency." if rho > 0 else "It does not grow with it."
    return Finding(
        "Fig. 11",
        "Relative transfer gap against frequency",
        "Grows with the language's frequency in the training data.",
        f"Rank correlation over {len(points)} languages: "
        f"{'none, all gaps are the same' if np.isnan(rho) else format(rho, '+.2f')} (share of the "
        f"text, mean gap: {listed}).",
        verdict(
            reproduced=steers and enough and rho >= TREND,
            # Of few languages a weak one means nothing at all.
            partly=steers and rho > (0 if enough else TREND),
        ),
        why,
    )


def by_language(result: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Language, its share of the text, and the mean gap over both directions; rarest first."""
    gaps: dict[str, list[float]] = {}
    for row, gap in zip(result["rows"], _first_gaps(result), strict=True):
        gaps.setdefault(row["language"], []).append(gap)
    found = [
        (language, result["frequency"][language], float(np.mean(values)))
        for language, values in gaps.items()
    ]
    return sorted(found, key=lambda point: point[1])

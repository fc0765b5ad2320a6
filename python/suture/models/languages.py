# SPDX-License-Identifier: Apache-2.0
"""Steering models to other languages, by vectors of their own and by transferred ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import nn

from .._arguments import instance, integer
from .._extras import needs
from ..rows import Rows, both_sides
from ..steering import SteeringVector
from ..stitch import Stitch
from .extraction import extract
from .steering import Mode, generate, steer

_WAYS: tuple[tuple[str, str, Literal["up", "down"]], ...] = (("a", "b", "up"), ("b", "a", "down"))

Record = Mapping[str, Any]
Detector = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Share:
    """How many of `n` responses are in a language, with the 95 % interval of Clopper and Pearson.

    Attributes:
        kind: "none" (not steered), "native" (a vector of the model's own) or "transferred".
        strength: factor of z_mean; None where not steered.
        hits: responses in the language; of those that are not, `undetected` had no language.
    """

    kind: str
    strength: float | None
    hits: int
    n: int
    undetected: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class LanguageSteering:
    """What steering one model to one language did (`language_steering`).

    Attributes:
        source, target: names of the models: the vector comes from the first, and steers the second.
        language: that is steered to.
        paired: whether vectors were fitted on pages that both languages have.
        positive_tokens, negative_tokens: they were fitted on.
        cosine: of the transferred and the target's own vector.
        z_native, z_transferred: z_mean of both; the second on activations of the target.
        z_mapped: what z_mean of the transferred vector is without activations of the target.
        shares: by kind and strength.
        gaps: clip(transferred / native, 0, 1) by strength; 0 / 0 is 0.
        examples: one steered response by kind and strength.

    >>> native = Share("native", 1.0, hits=18, n=24, undetected=1, share=0.75, low=0.53, high=0.90)
    >>> found = LanguageSteering("small", "large", "fr", paired=True, positive_tokens=20_000,
    ...     negative_tokens=20_000, cosine=0.98, z_native=3.1, z_transferred=3.0, z_mapped=2.9,
    ...     shares=[native], gaps={"1": 0.96}, examples=[])
    >>> [(share.kind, share.hits, share.n) for share in found.shares]
    [('native', 18, 24)]
    """

    source: str
    target: str
    language: str
    paired: bool
    positive_tokens: int
    negative_tokens: int
    cosine: float
    z_native: float
    z_transferred: float
    z_mapped: float
    shares: list[Share]
    gaps: dict[str, float]
    examples: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of Clopper and Pearson for a share of `hits` in `n`. Needs scipy.

    >>> import pytest
    >>> _ = pytest.importorskip("scipy")
    >>> [round(bound, 4) for bound in interval(0, 24)]
    [0.0, 0.1425]
    """
    trials = integer("n", n, 1)
    found = integer("hits", hits, 0, trials)
    with needs("paper"):
        from scipy.stats import beta
    low = 0.0 if found == 0 else float(beta.ppf(0.025, found, trials - found + 1))
    high = 1.0 if found == trials else float(beta.ppf(0.975, found + 1, trials - found))
    return low, high


def relative_gap(transferred: float, native: float) -> float:
    """clip(transferred / native, 0, 1); 0 / 0 is 0.

    >>> relative_gap(0.3, 0.6), relative_gap(0.7, 0.6), relative_gap(0, 0)
    (0.5, 1.0, 0.0)
    """
    return min(1.0, transferred / native) if native > 0 else 1.0 if transferred > 0 else 0.0


def detect_language(text: str) -> str | None:
    """The language of a text by langdetect ("en", "de", …), or None for one that has no letters to
    tell by. The same text always gives the same answer. Needs langdetect.

    >>> import pytest
    >>> _ = pytest.importorskip("langdetect")
    >>> detect_language("Die Datei wird nicht gefunden."), detect_language("12 = 3")
    ('de', None)
    """
    with needs("paper"):
        from langdetect import DetectorFactory, LangDetectException, detect
    before = DetectorFactory.seed
    # It draws at random; the seed is one of the class.
    DetectorFactory.seed = 0
    try:
        return str(detect(text))
    except LangDetectException:
        return None
    finally:
        DetectorFactory.seed = before


def beginnings(texts: Iterable[str], tokenizer: Any, tokens: int, rest: int = 0) -> list[str]:
    """First `tokens` tokens of paragraphs that have `rest` more, from each text in turn.

    Only of running text: indented paragraphs, which are mostly examples, and those with much else
    than letters are left out, and so is a heading in capitals before the first line.

    >>> import suture.models
    >>> _, _, tokenizer = suture.models.tiny_pair()  # a token a byte
    >>> beginnings(["One paragraph.\\n\\nx = 3;\\n\\nAnother one."], tokenizer, tokens=7)
    ['One par', 'Another']
    """
    length = integer("tokens", tokens, 1)
    more = integer("rest", rest, 0)
    queues: list[list[str]] = []
    for text in texts:
        found = []
        for paragraph in text.split("\n\n"):
            lines = paragraph.split("\n")
            while lines and not any(letter.islower() for letter in lines[0]):
                lines.pop(0)
            kept = "\n".join(lines)
            if not kept[:1].isalpha():
                continue
            ids = tokenizer(kept, add_special_tokens=False, verbose=False)["input_ids"]
            if len(ids) < length + more:
                continue
            start = str(tokenizer.decode(ids[:length]))
            if sum(letter.isalpha() or letter.isspace() for letter in start) >= 0.85 * len(start):
                found.append(start)
        queues.append(found)
    return [
        queue[turn]
        for turn in range(max(map(len, queues), default=0))
        for queue in queues
        if turn < len(queue)
    ]


def language_steering(
    model_a: nn.Module,
    model_b: nn.Module,
    tokenizer: Any,
    stitch: Stitch,
    layer_a: int,
    layer_b: int,
    records: Sequence[Record],
    prompts: Sequence[str],
    *,
    tokenizer_b: Any = None,
    prompts_b: Sequence[str] | None = None,
    source_language: str = "en",
    languages: Sequence[str] | None = None,
    strengths: Sequence[float] = (1.0, 2.0),
    mode: Mode = "clamp",
    max_tokens: int = 20_000,
    least_pages: int = 10,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    batch_size: int = 64,
    context: int | None = 128,
    rows: Any = None,
    steered_rows: Rows | None = None,
    detect: Detector = detect_language,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[list[LanguageSteering], dict[str, dict[str, int]]]:
    """Steers two stitched models to each language of some texts, by vectors of their own and by
    transferred ones, in both directions (Fig. 3b of arXiv 2506.06609).

    Vectors are differences of mean activations, the language's texts less those of
    `source_language`: of pages that both languages have where there are at least `least_pages`,
    else of all texts. A transferred vector gets its z_mean from activations of the model it steers,
    as in the paper. Responses that `detect` finds no language in count as not in the language.

    Args:
        model_a, model_b: transformers causal language models.
        tokenizer: that of both models, or A's where B has another one.
        stitch: between their layers `layer_a` and `layer_b`.
        layer_a, layer_b: where vectors are fitted and the models steered.
        records: texts as `suture.read_records` gives them: each has "text" and "lang", and where
            pages are to be paired "page".
        prompts: texts in the source language, rendered by a chat template or as they are.
        tokenizer_b: B's tokenizer; None: that of A.
        prompts_b: what B is asked, where that is not what A is asked: an instruction model answers
            best in its chat template, which others do not know. As many as `prompts`.
        languages: to steer to; None: all of the records but the source language.
        strengths: factors of z_mean.
        mode: see `steer`.
        max_tokens: most tokens of each side of a difference.
        least_pages: pages in common from which on only those are taken.
        max_new_tokens: tokens of a response; none ends before, since little text tells no language.
        temperature, batch_size, seed: see `generate`.
        context: tokens in a sequence that activations are taken from.
        rows: which rows vectors are fitted to, as for `extract`; or (rows_a, rows_b), where they
            leave out token ids.
        steered_rows: which rows are steered, the `rows` of `steer`. None: all.
        detect: tells a text's language, or None.
        progress: bars on stderr; None: only for what takes more than two seconds.

    Returns:
        A `LanguageSteering` for each direction and language, and for each model ("a" and "b") how
        many responses without steering were found to be in each language ("" for none).

    Raises:
        TypeError, ValueError: an argument is not usable; the message names it, its value and what
            was expected.

    >>> import numpy as np, pytest, suture, suture.models
    >>> _ = pytest.importorskip("scipy")
    >>> model_a, model_b, tokenizer = suture.models.tiny_pair()
    >>> stitch = suture.Stitch(np.eye(16, 24), np.zeros(24), np.eye(24, 16), np.zeros(16))
    >>> found, baseline = suture.models.language_steering(
    ...     model_a, model_b, tokenizer, stitch, 1, 2,
    ...     [{"text": "a text", "lang": "en"}, {"text": "ein Text", "lang": "de"}],
    ...     ["a prompt"], max_new_tokens=3, strengths=[1.0], context=32, detect=lambda text: None,
    ... )
    >>> [(row.source, row.target, row.language, row.gaps) for row in found]
    [('a', 'b', 'de', {'1': 0.0}), ('b', 'a', 'de', {'1': 0.0})]
    >>> baseline
    {'a': {'': 1}, 'b': {'': 1}}
    """
    instance("stitch", stitch, Stitch, "suture.Stitch")
    texts = _by_language(records, source_language, languages)
    if not len(strengths):
        raise ValueError("strengths: empty, expected at least one")
    asked = {"a": prompts, "b": prompts if prompts_b is None else prompts_b}
    if len(asked["b"]) != len(prompts):
        raise ValueError(
            f"prompts_b: {len(asked['b'])} prompts, expected {len(prompts)}, as many as prompts"
        )
    tokenizers = {"a": tokenizer, "b": tokenizer if tokenizer_b is None else tokenizer_b}
    places = {"a": (model_a, layer_a), "b": (model_b, layer_b)}

    counted = dict(zip("ab", both_sides(rows), strict=True))

    def read(name: str, chosen: list[str]) -> Any:
        model, layer = places[name]
        acts = extract(
            model, tokenizers[name], chosen, layer, context=context, max_tokens=max_tokens,
            batch_size=32, rows=counted[name], progress=progress,
        )  # fmt: skip
        return acts[layer]

    def respond(name: str) -> list[str]:
        return generate(
            places[name][0], tokenizers[name], asked[name], max_new_tokens=max_new_tokens,
            min_new_tokens=max_new_tokens, temperature=temperature, batch_size=batch_size,
            seed=seed, progress=progress,
        )  # fmt: skip

    def steered(name: str, vector: SteeringVector, strength: float) -> list[str]:
        model, layer = places[name]
        with steer(
            model, vector, layer, mode, strength, rows=steered_rows, tokenizer=tokenizers[name]
        ):
            return respond(name)

    plain = {name: [detect(text) for text in respond(name)] for name in places}
    found: list[LanguageSteering] = []
    for language, sides in texts.items():
        positive, negative, paired = _sides(sides, least_pages)
        # The same texts for all languages would do where they are not paired; they are read anew,
        # since what is kept would be the activations of a corpus.
        acts = {name: (read(name, positive), read(name, negative)) for name in places}
        own = {name: SteeringVector.fit(*pair, progress=False) for name, pair in acts.items()}
        for source, target, direction in _WAYS:
            moved = stitch.transfer(own[source], direction, acts=acts[target][0])
            mapped = stitch.transfer(own[source], direction)
            shares = [_share("none", None, plain[target], language)]
            gaps: dict[str, float] = {}
            examples = []
            for strength in strengths:
                pair = {}
                for kind, vector in (("native", own[target]), ("transferred", moved)):
                    answers = steered(target, vector, strength)
                    said = [detect(answer) for answer in answers]
                    pair[kind] = _share(kind, strength, said, language)
                    shares.append(pair[kind])
                    examples.append(
                        {
                            "kind": kind,
                            "strength": strength,
                            "prompt": asked[target][0],
                            "response": answers[0],
                            "found": said[0],
                        }
                    )
                gaps[f"{strength:g}"] = relative_gap(
                    pair["transferred"].share, pair["native"].share
                )
            found.append(
                LanguageSteering(
                    source=source,
                    target=target,
                    language=language,
                    paired=paired,
                    positive_tokens=len(acts[target][0]),
                    negative_tokens=len(acts[target][1]),
                    cosine=float(moved.vector.astype(np.float64) @ own[target].vector),
                    z_native=own[target].z_mean,
                    z_transferred=moved.z_mean,
                    z_mapped=mapped.z_mean,
                    shares=shares,
                    gaps=gaps,
                    examples=examples,
                )
            )
    return found, {
        name: {language or "": n for language, n in Counter(said).most_common()}
        for name, said in plain.items()
    }


def _share(kind: str, strength: float | None, said: list[str | None], language: str) -> Share:
    hits, n = sum(word == language for word in said), len(said)
    low, high = interval(hits, n)
    undetected = sum(word is None for word in said)
    return Share(kind, strength, hits, n, undetected, hits / n, low, high)


_Sides = tuple[list[Record], list[Record]]


def _by_language(
    records: Sequence[Record], source: str, languages: Sequence[str] | None
) -> dict[str, _Sides]:
    """Records of each language, beside those of the source language."""
    by: dict[str, list[Record]] = {}
    for number, record in enumerate(records):
        if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
            raise TypeError(f"records[{number}] is {record!r}, expected a mapping with a text")
        if not isinstance(record.get("lang"), str):
            raise ValueError(
                f'records[{number}] has the language {record.get("lang")!r}, expected a "lang" '
                "such as 'en'"
            )
        by.setdefault(record["lang"], []).append(record)
    if source not in by:
        raise ValueError(
            f"source_language: {source!r}, expected one of {sorted(by)}, the languages of records"
        )
    wanted = [name for name in sorted(by) if name != source] if languages is None else languages
    for name in wanted:
        if name not in by or name == source:
            raise ValueError(
                f"languages: has {name!r}, expected some of {sorted(set(by) - {source})}"
            )
    if not wanted:
        raise ValueError(f"records: all are in {source!r}, expected another language to steer to")
    return {name: (by[name], by[source]) for name in wanted}


def _sides(sides: _Sides, least_pages: int) -> tuple[list[str], list[str], bool]:
    """Texts of a language and of the source language, of pages in common where there are enough;
    shuffled, so that the first tokens are of many pages."""
    pages = [{record["page"] for record in side if "page" in record} for side in sides]
    common = pages[0] & pages[1]
    paired = len(common) >= integer("least_pages", least_pages, 1)
    texts = []
    for side in sides:
        kept = [r["text"] for r in side if not paired or r.get("page") in common]
        random.Random(0).shuffle(kept)
        texts.append(kept)
    return texts[0], texts[1], paired

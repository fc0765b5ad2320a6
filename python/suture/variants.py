# SPDX-License-Identifier: Apache-2.0
"""Variants of a text that keep its structure and replace its content.

They tell structural from semantic features (section 5 of arXiv 2506.06609): a feature that is
active in a sentence and in all its variants is structural there. A *variant maker* is anything
that is called as :class:`VariantMaker` says; :class:`ContentWordSwapper` needs nothing but a
corpus, :class:`suture.models.ModelVariants` asks an instruction model.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple, Protocol

from ._arguments import integer
from ._extras import needs
from ._words import case_of, pieces, with_case

__all__ = ["ContentWordSwapper", "VariantMaker", "function_words"]

# Lengths of the endings that are looked for in turn.
_ENDINGS = (3, 2, 0)


class VariantMaker(Protocol):
    """What makes variants: any function or object that is called like this."""

    def __call__(self, text: str, k: int = 5) -> list[str]:
        """At most k distinct variants of a text, none of them the text itself: fewer where there
        are no more, none where the text has no content word. The same call gives the same."""
        ...


def function_words(language: str) -> frozenset[str]:
    """The words of a language that carry structure: articles, pronouns, prepositions, auxiliaries.

    They are the stop-word list of the package stopwordsiso (58 languages), in lower case. Such
    lists are generous: the English one has 1298 words, with some nouns and verbs among them
    ("system", "number", "provides"), which swapping then keeps. Give a list of your own where
    that matters.

    Args:
        language: its two-letter code (ISO 639-1): "en", "de", "fr", …

    Raises:
        ValueError: there is no list for this language.
        ImportError: stopwordsiso is missing: ``pip install 'suture[variants]'``.

    >>> {"the", "don't"} <= function_words("en"), "kernel" in function_words("en")
    (True, False)
    """
    with needs("variants"):
        import stopwordsiso
    if not isinstance(language, str):
        raise TypeError(f"language is {language!r}, expected a two-letter code")
    words = stopwordsiso.stopwords(language)
    if not words:
        listed = ", ".join(sorted(stopwordsiso.langs()))
        raise ValueError(f"language is {language!r}, expected one of {listed}")
    return frozenset(word.lower() for word in words)


class _Candidates(NamedTuple):
    words: list[str]
    cumulative: list[int]


class ContentWordSwapper:
    """Replaces the content words of a text by others of the same corpus; a variant maker.

    Function words, punctuation, spaces, single letters and the pattern of capitals stay; digits
    become other digits, as many. A replacement is drawn by frequency from the words that the
    corpus has with the same capitals (German nouns for German nouns) and the same last three
    letters, or last two, or from all, whichever has enough. A word that recurs in the text becomes
    the same word each time, and another in each variant as long as there are enough. Identifiers
    (`O_RDONLY`, `getName`) are replaced part by part; scripts without spaces a run at a time.

    Args:
        texts: the corpus, in the language of the texts that variants will be made of.
        function_words: a language's code, for :func:`function_words`, or the words themselves.
        seed: of the draws; they depend on it and the text only, not on earlier calls.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected; also where
            the corpus has no content word.

    >>> corpus = ["Open the file and read the line.", "Close the pipe, then lock the table."]
    >>> swap = ContentWordSwapper(corpus, ["the", "and", "then"])
    >>> variants = swap("Lock the file and open the pipe!", k=2)
    >>> [variant.split()[1] for variant in variants], variants[0].endswith("!")
    (['the', 'the'], True)
    >>> swap("and then?")
    []
    """

    def __init__(
        self, texts: Iterable[str], function_words: str | Iterable[str], *, seed: int = 0
    ) -> None:
        self._kept = checked_words(function_words)
        self._seed = integer("seed", seed, 0)
        counts: Counter[tuple[str, str]] = Counter()
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise TypeError(f"texts is a {type(texts).__name__}, expected a list of texts")
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"texts[{number}] is a {type(text).__name__}, expected a text")
            for piece in pieces(text, self._kept):
                if piece.kind == "word":
                    counts[case_of(piece.text), piece.text.lower()] += 1
        if not counts:
            raise ValueError("texts have no content word, expected some")
        groups: dict[tuple[str, str], Counter[str]] = {}
        for (case, word), count in sorted(counts.items()):
            for size in _ENDINGS:
                ending = word[-size:] if size else ""
                for group in ((case, ending), ("", ending)):
                    groups.setdefault(group, Counter())[word] += count
        self._groups = {
            group: _Candidates(list(words), list(accumulate(words.values())))
            for group, words in groups.items()
        }

    @property
    def vocabulary(self) -> frozenset[str]:
        """The content words of the corpus, in lower case."""
        return frozenset(self._groups["", ""].words)

    def __call__(self, text: str, k: int = 5) -> list[str]:
        """At most k distinct variants of a text, none of them the text itself.

        Fewer where the vocabulary gives no more, an empty list where the text has no content word:
        then there is nothing to compare. More variants begin with the same ones.

        >>> swap = ContentWordSwapper(["one two three four"], [])
        >>> len(swap("two", k=5)), swap("12 + 30", k=5)
        (3, [])
        """
        if not isinstance(text, str):
            raise TypeError(f"text is a {type(text).__name__}, expected a text")
        wanted = integer("k", k, 1)
        parts = pieces(text, self._kept)
        words = {part.text.lower(): part.text for part in parts if part.kind == "word"}
        if not words:
            return []
        numbers = dict.fromkeys(part.text for part in parts if part.kind == "number")
        digest = hashlib.blake2b(f"{self._seed} {text}".encode("utf-8", "surrogatepass"))
        draw = random.Random(digest.digest())
        used: dict[str, set[str]] = {word: {word} for word in words}
        found: list[str] = []
        # Beyond k tries only where a small vocabulary gives the same again.
        for _ in range(4 * wanted + 8):
            new = {word: self._draw(word, form, used[word], draw) for word, form in words.items()}
            digits = {number: _digits(number, draw) for number in numbers}
            variant = "".join(
                with_case(new[part.text.lower()], part.text)
                if part.kind == "word"
                else digits[part.text]
                if part.kind == "number"
                else part.text
                for part in parts
            )
            if variant != text and variant not in found:
                found.append(variant)
            if len(found) == wanted:
                break
        return found

    def _draw(self, word: str, form: str, used: set[str], draw: random.Random) -> str:
        """Another word, not drawn before where there is one; noted in `used`."""
        case = case_of(form)
        for group in self._places(word, case):
            candidates = self._groups.get(group)
            if candidates is None:
                continue
            fresh = _pick(candidates, used, draw)
            if fresh is not None:
                used.add(fresh)
                return fresh
        others = _pick(self._groups["", ""], {word}, draw)
        return word if others is None else others

    @staticmethod
    def _places(word: str, case: str) -> list[tuple[str, str]]:
        # An ending leaves at least two letters of the word.
        sizes = [size for size in _ENDINGS if size == 0 or len(word) >= size + 2]
        return [(c, word[-size:] if size else "") for c in (case, "") for size in sizes]


def checked_words(words: str | Iterable[str]) -> frozenset[str]:
    """Function words by language or as they are, in lower case."""
    if isinstance(words, str):
        return function_words(words)
    expected = "a language's code or words"
    if not isinstance(words, Iterable):
        raise TypeError(f"function_words is a {type(words).__name__}, expected {expected}")
    found = list(words)
    for number, word in enumerate(found):
        if not isinstance(word, str):
            raise TypeError(
                f"function_words[{number}] is a {type(word).__name__}, expected {expected}"
            )
    return frozenset(word.lower() for word in found)


def _pick(candidates: _Candidates, used: set[str], draw: random.Random) -> str | None:
    """One of the candidates by frequency, none of those used."""
    for _ in range(8):
        (word,) = draw.choices(candidates.words, cum_weights=candidates.cumulative)
        if word not in used:
            return word
    # Rare: nearly all are used, or one is far more frequent than all others together.
    rest = [word for word in candidates.words if word not in used]
    return draw.choice(rest) if rest else None


def _digits(number: str, draw: random.Random) -> str:
    """Other digits, as many; zeros in front stay."""
    body = number.lstrip("0")
    if not body:
        return number
    other = str(draw.randint(1, 9)) + "".join(str(draw.randint(0, 9)) for _ in body[1:])
    return "0" * (len(number) - len(body)) + other

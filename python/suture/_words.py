# SPDX-License-Identifier: Apache-2.0
"""Text as pieces: words that carry content, numbers, and all that carries structure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import cache
from typing import Literal, NamedTuple

Kind = Literal["kept", "word", "number"]
Case = Literal["lower", "upper", "title", "mixed", "uncased"]

_APOSTROPHES = "'\u2019\u02bc"
_HYPHENS = "-\u2010\u2011"


class Piece(NamedTuple):
    """A part of a text: a content word or a part of one, digits, or what stays as it is."""

    text: str
    kind: Kind


class _Patterns(NamedTuple):
    compound: re.Pattern[str]
    part: re.Pattern[str]
    run: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    # `\w` leaves out combining marks: accents of decomposed text, vowel signs of Indic scripts.
    marks = [chr(c) for c in range(0x300, 0x10000) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    mark = re.escape("".join(marks))
    word = rf"[\w{mark}]+"
    return _Patterns(
        compound=re.compile(rf"\w[\w{mark}]*(?:[{_APOSTROPHES}{re.escape(_HYPHENS)}]{word})*"),
        part=re.compile(rf"{word}|[^\w{mark}]+"),
        run=re.compile(rf"[^\W\d_](?:[^\W\d_]|[{mark}])*|\d+|.", re.DOTALL),
    )


def pieces(text: str, function_words: Set[str]) -> list[Piece]:
    """The parts of a text in order; joined they are the text.

    Kept are function words (in lower case in `function_words`, with ' as the apostrophe), also
    those elided (l'option, dell'opzione) or contracted (don't, file's); single letters; all that
    is no letter and no digit. Identifiers come apart at digits, underscores and where a capital
    follows a small letter.
    """
    found: list[Piece] = []
    end = 0
    for match in _patterns().compound.finditer(text):
        found.append(Piece(text[end : match.start()], "kept"))
        if _plain(match[0]) in function_words:
            found.append(Piece(match[0], "kept"))
        else:
            found += _parts(match[0], function_words)
        end = match.end()
    found.append(Piece(text[end:], "kept"))
    return [piece for piece in found if piece.text]


def _plain(word: str) -> str:
    """As lists of function words have it."""
    for apostrophe in _APOSTROPHES[1:]:
        word = word.replace(apostrophe, "'")
    return word.lower()


def _parts(compound: str, function_words: Set[str]) -> list[Piece]:
    parts = _patterns().part.findall(compound)
    found: list[Piece] = []
    for number, part in enumerate(parts):
        before = parts[number - 1] if number else ""
        after = parts[number + 1] if number + 1 < len(parts) else ""
        plain = _plain(part)
        elided = after[:1] in _APOSTROPHES and bool(after) and plain + "'" in function_words
        # What a contraction ends with: 's, 't, 're, 'll.
        ending = before[-1:] in _APOSTROPHES and bool(before) and len(part) <= 2
        if plain in function_words or elided or ending:
            found.append(Piece(part, "kept"))
        else:
            found += [_piece(run, function_words) for run in _runs(part)]
    return found


def _runs(part: str) -> list[str]:
    """Letters, digits and the rest of an identifier, letters apart at small-capital borders."""
    runs: list[str] = []
    for run in _patterns().run.findall(part):
        start = 0
        for place in range(1, len(run)):
            if run[place].isupper() and run[place - 1].islower():
                runs.append(run[start:place])
                start = place
        runs.append(run[start:])
    return runs


def _piece(run: str, function_words: Set[str]) -> Piece:
    if run.isascii() and run.isdigit():
        return Piece(run, "number")
    letters = [c for c in run if not unicodedata.category(c).startswith("M")]
    if len(letters) < 2 or not all(map(str.isalpha, letters)) or run.lower() in function_words:
        return Piece(run, "kept")
    return Piece(run, "word")


def case_of(word: str) -> Case:
    """The pattern of capitals.

    >>> [case_of(word) for word in ("file", "FILE", "File", "DATEIen", "語")]
    ['lower', 'upper', 'title', 'mixed', 'uncased']
    """
    if word.lower() == word.upper():
        return "uncased"
    if word == word.lower():
        return "lower"
    if word == word.upper():
        return "upper"
    return "title" if word[1:] == word[1:].lower() else "mixed"


def with_case(word: str, pattern: str) -> str:
    """A word with another's pattern of capitals.

    >>> with_case("kernel", "DATEIen"), with_case("KERNEL", "File"), with_case("straße", "FILE")
    ('KERNel', 'Kernel', 'STRASSE')
    """
    case = case_of(pattern)
    if case == "lower":
        return word.lower()
    if case == "upper":
        return word.upper()
    if case == "title":
        return word.capitalize()
    if case == "mixed":
        small = next(n for n, c in enumerate(reversed(pattern)) if c == c.upper())
        border = max(len(word) - small, 1)
        return word[:border].upper() + word[border:].lower()
    return word

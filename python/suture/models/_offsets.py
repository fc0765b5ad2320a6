# SPDX-License-Identifier: Apache-2.0
"""Texts as token ids, with the bytes of the text that each token covers."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_TEXTS_AT_ONCE = 256


@dataclass(frozen=True)
class TokenisedText:
    """The tokens of one text, special ones that the text itself spells out among them.

    Attributes:
        ids: (n,) token ids.
        begins, ends: (n,) bytes of the UTF-8 text where a token begins, white space before it left
            out, and ends; -1 where that is unknown, within a character, or nowhere (tokens without
            text).
        generated: (n,) truth values, of a (prompt, continuation) pair; else None.
        blank: whether the text has nothing but white space.
    """

    ids: Ids
    begins: Ids
    ends: Ids
    generated: Bools | None
    blank: bool


class TextReader:
    """Tokenises texts without adding special tokens."""

    def __init__(self, tokenizer: Any, argument: str) -> None:
        self._tokenizer = tokenizer
        self._argument = argument
        #: Whether the tokenizer can tell which part of the text a token is.
        self.has_offsets = bool(getattr(tokenizer, "is_fast", False))
        self.eos = getattr(tokenizer, "eos_token_id", None)
        self._plain = _untrimmed(tokenizer) if self.has_offsets else None
        self._hash = hashlib.blake2b(digest_size=8)
        self._digests: dict[int, str] = {}
        self._latest = (0, "")

    def read(self, texts: Iterable[Any]) -> Iterator[TokenisedText]:
        """The tokens of each text, in order; of empty ones too."""
        items = iter(texts)
        number = 0
        while group := list(itertools.islice(items, _TEXTS_AT_ONCE)):
            parts = [self._checked(number + at, text) for at, text in enumerate(group)]
            number += len(group)
            whole = [prompt + continuation for prompt, continuation in parts]
            encoded = self._encoded(whole, number - len(group))
            for at, (text, ids) in enumerate(zip(whole, encoded["input_ids"], strict=True)):
                spans = encoded["offset_mapping"][at] if self.has_offsets else None
                if spans is not None and self._plain is not None:
                    plain = self._plain.encode(text, add_special_tokens=False)
                    if plain.ids == list(ids):
                        spans = plain.offsets
                self._note(number - len(group) + at + 1, text)
                prompt = parts[at][0] if isinstance(group[at], tuple) else None
                yield _tokenised(text, ids, spans, prompt)

    def _note(self, count: int, text: str) -> None:
        whole = text.encode()
        self._hash.update(len(whole).to_bytes(8) + whole)
        self._latest = count, self._hash.hexdigest()
        if count & (count - 1) == 0:
            self._digests[count] = self._latest[1]

    def digests(self, texts: int) -> dict[str, str]:
        """What the first so many texts were, of the `texts` that were read: for each power of two,
        and all of them. So two extractions that stop at different places can be compared."""
        found = {str(count): text for count, text in self._digests.items() if count <= texts}
        if self._latest[0] == texts and texts:
            found[str(texts)] = self._latest[1]
        return found

    def _encoded(self, texts: list[str], first: int) -> Any:
        # verbose=False: no warning about texts longer than the model, they are cut later.
        options: dict[str, Any] = {"add_special_tokens": False, "verbose": False}
        if self.has_offsets:
            options["return_offsets_mapping"] = True
        try:
            return self._tokenizer(texts, **options)
        except Exception:
            for at, text in enumerate(texts):
                try:
                    self._tokenizer([text], **options)
                except Exception as error:
                    raise ValueError(
                        f"{self._argument}[{first + at}]: {text!r:.60}, which the tokenizer "
                        f"{type(self._tokenizer).__name__} cannot encode ({error})"
                    ) from error
            raise

    def _checked(self, number: int, text: Any) -> tuple[str, str]:
        """(prompt, continuation); a text alone is a continuation."""
        name = f"{self._argument}[{number}]"
        parts = text if isinstance(text, tuple) else ("", text)
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            found = type(text).__name__
            if isinstance(text, tuple):
                found = f"({', '.join(type(part).__name__ for part in text)})"
            raise TypeError(
                f"{name}: {found}, expected a str like the first, or (prompt, continuation)"
            )
        if isinstance(text, tuple) and not self.has_offsets:
            raise ValueError(
                f"{name}: (prompt, continuation), expected texts, for the tokenizer "
                f"{type(self._tokenizer).__name__} cannot tell which part of a text a token is"
            )
        for part in parts:
            try:
                part.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{name}: {part[error.start]!r} at character {error.start}, expected text that "
                    "UTF-8 can say (a lone surrogate is half of a character)"
                ) from None
        return parts[0], parts[1]


def _tokenised(text: str, ids: Any, spans: Any, prompt: str | None) -> TokenisedText:
    tokens = np.array(ids, np.int64)
    blank = not text.strip()
    if spans is None:
        unknown = np.full(len(tokens), -1, np.int64)
        return TokenisedText(tokens, unknown, unknown, None, blank)
    begins, ends, reach = byte_spans(text, np.array(spans, np.int64).reshape(-1, 2))
    generated = None if prompt is None else reach > len(prompt.encode())
    return TokenisedText(tokens, begins, ends, generated, blank)


def byte_spans(text: str, spans: Ids) -> tuple[Ids, Ids, Ids]:
    """Where tokens begin and end in the UTF-8 bytes of `text`, from their (n, 2) spans of
    characters, and how far the text has been read after each.

    A token that ends within a character has the character's whole span, and so has the one that
    goes on with it: two that overlap meet inside a character (or inside what a normaliser made of
    one), and neither the end of the first nor the beginning of the second is a place of the text.
    The same holds for a prefix that a tokenizer puts before the first character.

    >>> [x.tolist() for x in byte_spans("é 日", np.array([[0, 1], [0, 1], [1, 3], [3, 3]]))]
    [[0, -1, 3, -1], [-1, 2, 6, -1], [2, 2, 6, 6]]
    """
    places = _byte_places(text)
    begins, ends = spans[:, 0].copy(), spans[:, 1].copy()
    real = np.flatnonzero(ends > begins)
    low, high = begins[real], ends[real]
    read = np.maximum.accumulate(high) if len(real) else high
    bad_end = np.zeros(len(real), np.bool_)
    bad_begin = np.zeros(len(real), np.bool_)
    overlap = low[1:] < read[:-1]
    bad_begin[1:] = overlap
    bad_end[:-1] = overlap
    bad_end |= high < read
    for at in np.flatnonzero(~bad_begin):
        place = int(low[at])
        if text[place].isspace():
            while place < high[at] and text[place].isspace():
                place += 1
            low[at] = low[at] if place == high[at] else place
    out_begins, out_ends = np.full(len(spans), -1, np.int64), np.full(len(spans), -1, np.int64)
    out_begins[real] = np.where(bad_begin, -1, places[low])
    out_ends[real] = np.where(bad_end, -1, places[high])
    reach = np.zeros(len(spans), np.int64)
    reach[real] = places[read]
    return out_begins, out_ends, np.maximum.accumulate(reach) if len(reach) else reach


def _byte_places(text: str) -> Ids:
    """(characters + 1,) the byte at which each character begins, and the number of bytes."""
    if text.isascii():
        return np.arange(len(text) + 1, dtype=np.int64)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _untrimmed(tokenizer: Any) -> Any:
    """A tokenizer of the same tokens whose spans are not cut at white space, where the given one's
    are: there a token of nothing but blanks has no span."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    try:
        state = backend.post_processor.__getstate__()  # type: ignore[union-attr]
        if b'"trim_offsets":true' not in state:
            return None
        plain = copy.deepcopy(backend)
        plain.post_processor = None  # type: ignore[union-attr]
        plain.no_truncation()  # type: ignore[union-attr]
        plain.no_padding()  # type: ignore[union-attr]
    except Exception:
        # Parts written in Python cannot be copied; spans are then as the tokenizer gives them.
        return None
    return plain

# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF003
"""Bytes of the text that tokens cover, for every kind of tokenizer and text that is hard for it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers_zoo import KINDS, TEXTS, tokenizer  # noqa: E402

import suture  # noqa: E402
from suture.models._offsets import TextReader, byte_spans  # noqa: E402

#: What undoes a tokenizer's own spelling of its tokens; the others change the text.
LOSSLESS = ("byte-level BPE", "byte-level BPE, trimmed", "BPE with byte fallback", "characters")


def tokens_of(kind: str, text: str) -> Any:
    (found,) = TextReader(tokenizer(kind), "texts").read([text])
    return found


def spelt(kind: str, token: str) -> bytes:
    """What a token of a lossless tokenizer stands for."""
    if kind.startswith("byte-level"):
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        back = {letter: byte for byte, letter in bytes_to_unicode().items()}
        return bytes(back[letter] for letter in token)
    if kind == "BPE with byte fallback":
        if token.startswith("<0x"):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()
    return token.encode()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_ends_are_the_bytes_that_the_tokens_spell(kind: str, name: str) -> None:
    """Ends against sums of the tokens' own bytes, which know nothing of offsets."""
    text = TEXTS[name]
    found = tokens_of(kind, text)
    whole = text.encode()
    names = tokenizer(kind).convert_ids_to_tokens(found.ids.tolist())
    pieces = [spelt(kind, token) for token in names]
    at = -1 if kind == "BPE with byte fallback" else 0  # its prefix is no byte of the text
    assert b"".join(pieces)[-at:] == whole
    characters = {0, *np.cumsum([len(letter.encode()) for letter in text]).tolist()}
    for token, piece, begin, end in zip(names, pieces, found.begins, found.ends, strict=True):
        first, at = max(at, 0), at + len(piece)
        if at in characters and at > 0:
            assert end == at, token
        else:
            assert end == -1, token
        if first in characters and begin >= 0:
            rest = whole[first:].decode()
            lead = len(rest[: len(rest) - len(rest.lstrip())].encode())
            assert begin == (first if first + lead >= at else first + lead), token
        elif first not in characters:
            assert begin == -1, token


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_ends_ascend_and_lie_between_characters(kind: str, name: str) -> None:
    text = TEXTS[name]
    found = tokens_of(kind, text)
    known = found.ends[found.ends >= 0]
    assert len(known)
    assert (np.diff(known) > 0).all()
    characters = {0, *np.cumsum([len(letter.encode()) for letter in text]).tolist()}
    assert set(known.tolist()) <= characters
    assert (found.begins < np.where(found.ends >= 0, found.ends, len(text.encode()))).all()


@pytest.mark.parametrize("pair", list(itertools.combinations(KINDS, 2)), ids=" / ".join)
def test_pairs_have_read_the_same_text(pair: tuple[str, str]) -> None:
    """At a shared end both have read the same prefix: tokenised by itself it gives the same tokens
    up to there, in tokenizers whose tokens do not depend on what follows."""
    for text in TEXTS.values():
        a, b = (tokens_of(kind, text) for kind in pair)
        rows = []
        for side in (a, b):
            rows.append(np.flatnonzero(side.ends >= 0))
        at_a, at_b = suture.align(a.ends[rows[0]], b.ends[rows[1]])
        rows_a, rows_b = rows[0][at_a], rows[1][at_b]
        assert (a.ends[rows_a] == b.ends[rows_b]).all()
        for kind, side, chosen in zip(pair, (a, b), (rows_a, rows_b), strict=True):
            if kind != "characters":
                continue
            for row in chosen:
                prefix = text.encode()[: side.ends[row]].decode()
                again = tokenizer(kind)(prefix, add_special_tokens=False)["input_ids"]
                assert again == side.ids[: row + 1].tolist()


def test_texts_that_a_normaliser_changes() -> None:
    # '…' becomes '...', '½' '1⁄2': whatever tokens these are cut into, the last ends with them.
    found = tokens_of("Unigram", "a…½b")
    assert set(found.ends.tolist()) <= {-1, 1, 4, 6, 7}
    assert {4, 6} & set(found.ends.tolist()) or found.ends[-1] == 7
    # Accents go, case goes, and the ends are those of the text as it was.
    text = "Café ÉTÉ"
    ends = tokens_of("WordPiece", text).ends
    assert len(text.encode()) == 11
    assert 5 in ends
    assert 11 in ends


def test_overlaps_and_what_has_no_width() -> None:
    # Three bytes of one character, one token over its last byte and a letter, one of no width.
    spans = np.array([[0, 1], [1, 2], [1, 2], [1, 3], [3, 3], [3, 4]])
    begins, ends, reach = byte_spans("a語bc", spans)
    assert begins.tolist() == [0, 1, -1, -1, -1, 5]
    assert ends.tolist() == [1, -1, -1, 5, -1, 6]
    assert reach.tolist() == [1, 4, 4, 5, 5, 6]


def test_prompts_and_continuations() -> None:
    reader = TextReader(tokenizer("characters"), "texts")
    (found,) = reader.read([("The ", "fox")])
    assert found.generated.tolist() == [False] * 4 + [True] * 3
    with pytest.raises(TypeError, match=r"texts\[1\]: \(str, int\), expected"):
        list(reader.read(["a", ("b", 3)]))


def test_a_text_that_cannot_be_encoded_is_named() -> None:
    with pytest.raises(ValueError, match=r"texts\[1\]: '\\ud83d' at character 2, expected text"):
        list(TextReader(tokenizer("Unigram"), "texts").read(["a", "ab\ud83d"]))

    class Broken:
        def __call__(self, texts: list[str], **options: object) -> Any:
            if any("x" in text for text in texts):
                raise RuntimeError("no token for x")
            return {"input_ids": [[1] for _ in texts]}

    with pytest.raises(ValueError, match=r"texts\[2\]: 'ax', which the tokenizer Broken cannot"):
        list(TextReader(Broken(), "texts").read(["a", "b", "ax"]))

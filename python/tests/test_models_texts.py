# SPDX-License-Identifier: Apache-2.0
"""What becomes of texts: their numbers, what was generated of them, and BOS once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers_zoo import model, tokenizer  # noqa: E402

import suture  # noqa: E402
from suture.models import extract, tiny_pair  # noqa: E402


def test_generate_puts_bos_once() -> None:
    a, _, byte = tiny_pair()
    seen: list[Any] = []
    handle = a.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(given["input_ids"].tolist()), with_kwargs=True
    )
    prompts = ["<bos>ab", "ab"]
    try:
        for option, lengths in ((None, [3, 3]), (True, [4, 3]), (False, [3, 2])):
            for prompt, length in zip(prompts, lengths, strict=True):
                seen.clear()
                suture.models.generate(
                    a, byte, [prompt], max_new_tokens=1, prepend_bos=option, progress=False
                )
                assert len(seen[0][0]) == length
                assert seen[0][0].count(0) == length - 2
    finally:
        handle.remove()


def test_an_empty_and_a_split_text_do_not_shift_labels() -> None:
    a, _, byte = tiny_pair()
    texts = ["first", "long enough for several windows " * 6, "b"]
    acts = extract(a, byte, texts, 1)
    assert acts.sequence.max() > 2
    pooled = suture.pool(acts.shards(1))
    assert pooled.shape == (3, 16)
    for number in range(3):
        np.testing.assert_allclose(pooled[number], acts[1][acts.text == number].mean(0), atol=1e-5)
    with_empty = extract(a, byte, ["", *texts[1:]], 1)
    assert np.unique(with_empty.text).tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"no token of text 0 \(1 such of 3\)"):
        suture.pool(with_empty)
    np.testing.assert_allclose(
        suture.pool(with_empty[1], np.where(with_empty.text == 1, 0, 1)), pooled[1:], atol=1e-5
    )
    # An empty text at the end counts too.
    assert extract(a, byte, ["b", ""], 1).metadata["texts"] == 2


def test_chat_masks_say_what_was_generated() -> None:
    a, _, byte = tiny_pair()
    encoded = {
        "input_ids": [[0, 50, 51, 52], [0, 60, 61]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1]],
        "assistant_masks": [[0, 0, 1, 1], [0, 0, 1]],
    }
    acts = extract(a, byte, encoded, 1)
    assert acts.generated.tolist() == [False, True, True, False, True]
    only = extract(a, byte, encoded, 1, rows=suture.Rows(positions="generated"))
    assert only.token_ids.tolist() == [51, 52, 61]
    np.testing.assert_allclose(only[1], acts[1][acts.generated], atol=1e-6)
    last = extract(a, byte, encoded, 1, rows=suture.Rows(positions="last"))
    assert last.token_ids.tolist() == [52, 61]
    masked = extract(a, byte, encoded, 1, rows=[False, True, False, True, False, False, True])
    assert masked.token_ids.tolist() == [50, 52, 61]
    with pytest.raises(ValueError, match=r"rows.mask has shape \(3,\), expected \(7,\)"):
        extract(a, byte, encoded, 1, rows=[True, False, True])
    with pytest.raises(ValueError, match=r"rows\.leave_out has 999, expected 0 to 258"):
        extract(a, byte, encoded, 1, rows=suture.Rows(leave_out=[999]))
    encoded["assistant_masks"] = [[0, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"assistant mask of shape \(2,\), expected \(4,\)"):
        extract(a, byte, encoded, 1)


def test_bos_once() -> None:
    kind = "byte-level BPE"
    texts = ["<s>chat", "plain"]
    for option, expected in ((None, [[1], [1]]), (True, [[1, 1], [1]]), (False, [[1], []])):
        acts = extract(
            model(kind), tokenizer(kind), texts, 1, prepend_bos=option, rows=suture.Rows.all()
        )
        for number, head in enumerate(expected):
            ids = acts.token_ids[acts.text == number].tolist()
            count = next((at for at, token in enumerate(ids) if token != 1), len(ids))
            assert ids[:count] == head
    # What is split goes on with BOS.
    acts = extract(
        model(kind), tokenizer(kind), ["<s>" + "abcdefgh" * 4], 1, context=8, rows=suture.Rows.all()
    )
    first = np.flatnonzero(acts.positions == 0)
    assert (acts.token_ids[first] == 1).all()
    assert (acts.token_ids == 1).sum() == len(first)

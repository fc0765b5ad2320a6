# SPDX-License-Identifier: Apache-2.0
"""stitched_loss of two tokenizers, against the loop written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers_zoo import model, tokenizer  # noqa: E402

import suture  # noqa: E402
from suture.models import tiny_pair  # noqa: E402


def random_stitch(d_a: int, d_b: int) -> suture.Stitch:
    rng = np.random.default_rng(2)
    return suture.Stitch(
        rng.normal(size=(d_a, d_b)), rng.normal(size=d_b), rng.normal(size=(d_b, d_a)),
        rng.normal(size=d_a),
    )  # fmt: skip


def test_stitched_loss_of_two_tokenizers_is_the_loop_written_out() -> None:
    kinds = ("byte-level BPE", "BPE with byte fallback")
    texts = ["The quick brown fox", "jumps over the lazy dog and then", "a"]
    models = {"a": model(kinds[0]), "b": model(kinds[1], 24)}
    tokens = {"a": tokenizer(kinds[0]), "b": tokenizer(kinds[1])}
    stitch = random_stitch(16, 24)
    maps = {
        "b": lambda x: x @ torch.tensor(stitch.P_up) + torch.tensor(stitch.b_up),
        "a": lambda x: x @ torch.tensor(stitch.P_down) + torch.tensor(stitch.b_down),
    }
    sums: dict[str, list[float]] = {}
    rows_seen = {"a": 0, "b": 0}

    def losses(side: str, ids: Any, new: Any, at: list[int]) -> list[float]:
        """Of the predictions made at `at`, with these rows before block 1 replaced."""

        def put(_: Any, args: Any) -> Any:
            if new is None:
                return None
            stream = args[0].clone()
            stream[0, at] = new
            return (stream, *args[1:])

        handle = models[side].gpt_neox.layers[1].register_forward_pre_hook(put)
        try:
            with torch.no_grad():
                logits = models[side](ids).logits[0]
        finally:
            handle.remove()
        scores = torch.log_softmax(logits.double(), -1)
        return [-float(scores[p, ids[0, p + 1]]) for p in at if p + 1 < ids.shape[1]]

    for text in texts:
        ids, ends, rows = {}, {}, {}
        for side in "ab":
            found = tokens[side](text, add_special_tokens=False, return_offsets_mapping=True)
            ids[side] = torch.tensor([[1, *found["input_ids"]]])
            spans = found["offset_mapping"]
            # The prefix of the second tokenizer covers the first letter that the next token has.
            ends[side] = {
                end: at + 1
                for at, (begin, end) in enumerate(spans)
                if end > begin and not (at + 1 < len(spans) and spans[at + 1][0] < end)
            }
            rows_seen[side] += len(spans)
        shared = sorted(ends["a"].keys() & ends["b"].keys())
        at = {side: [ends[side][end] for end in shared] for side in "ab"}
        for side in "ab":
            with torch.no_grad():
                states = models[side](ids[side], output_hidden_states=True).hidden_states
            rows[side] = states[1][0, at[side]]
            sums.setdefault(side, []).extend(losses(side, ids[side], None, at[side]))
        up, down = maps["b"](rows["a"]), maps["a"](rows["b"])
        for name, side, new in (
            ("a_to_b", "b", up),
            ("b_to_a", "a", down),
            ("a_to_b_to_a", "a", maps["a"](up)),
            ("b_to_a_to_b", "b", maps["b"](down)),
        ):
            sums.setdefault(name, []).extend(losses(side, ids[side], new, at[side]))
        sums.setdefault("pairs", []).append(len(shared))
    found = suture.models.stitched_loss(
        models["a"], models["b"], stitch, 1, 1, texts, tokens["a"], tokenizer_b=tokens["b"]
    )
    for name in ("a", "b", "a_to_b", "b_to_a", "a_to_b_to_a", "b_to_a_to_b"):
        assert getattr(found, name) == pytest.approx(np.mean(sums[name]), rel=1e-5), name
    assert (found.tokens, found.tokens_b) == (len(sums["a"]), len(sums["b"]))
    assert found.share_a == sum(sums["pairs"]) / rows_seen["a"]
    assert found.share_b == sum(sums["pairs"]) / rows_seen["b"]
    assert found.share_b < 1
    assert "replaced at shared ends" in str(found)
    assert found.to_dict()["share_b"] == found.share_b
    with pytest.raises(ValueError, match="special: 'stitch', expected 'own'"):
        suture.models.stitched_loss(
            models["a"], models["b"], stitch, 1, 1, texts, tokens["a"], tokenizer_b=tokens["b"],
            special="stitch",
        )  # fmt: skip


def test_stitched_loss_of_equal_tokenizers_is_that_of_one() -> None:
    a, b, byte = tiny_pair()
    stitch = random_stitch(16, 24)
    once = suture.models.stitched_loss(a, b, stitch, 1, 2, iter(["some text", "é"]), byte)
    twice = suture.models.stitched_loss(
        a, b, stitch, 1, 2, iter(["some text", "é"]), byte, tokenizer_b=byte
    )
    assert once == twice

# SPDX-License-Identifier: Apache-2.0
"""next_token_loss, stitched_loss and spliced_loss against loops written out in torch."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from suture.models import (  # noqa: E402
    extract,
    next_token_loss,
    spliced_loss,
    stitched_loss,
    tiny_pair,
)

A, B, TOKENIZER = tiny_pair()
TEXTS = ["a first text", "2nd", "a third one, longer"]
TOKENS = sum(len(text) - 1 for text in TEXTS)


def random_stitch(seed: int = 0, d_a: int = 16, d_b: int = 24) -> SimpleNamespace:
    random = np.random.default_rng(seed)

    def array(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    return SimpleNamespace(
        P_up=array(d_a, d_b), b_up=array(d_b), P_down=array(d_b, d_a), b_down=array(d_a)
    )


def finish(model: Any, layer: int, stream: Any) -> Any:
    """Logits of a GPT-NeoX model whose block `layer` reads `stream`, without any hook."""
    body = model.gpt_neox
    positions = torch.arange(stream.shape[1])[None]
    angles = body.rotary_emb(stream, position_ids=positions)
    for block in body.layers[layer:]:
        stream = block(
            stream, attention_mask=None, position_ids=positions, position_embeddings=angles
        )
    return model.get_output_embeddings()(body.final_layer_norm(stream))


def by_hand(edit: Any, finishing: Any, layer: int) -> float:
    """Mean loss over text tokens; `edit(ids)` gives the stream that `finishing` reads."""
    losses = []
    for text in TEXTS:
        ids = torch.tensor([[0, *TOKENIZER(text)["input_ids"]]])
        with torch.no_grad():
            logits = finish(finishing, layer, edit(ids))[0]
        losses.append(torch.nn.functional.cross_entropy(logits[1:-1], ids[0, 2:], reduction="none"))
    return float(torch.cat(losses).mean())


def stream_of(model: Any, layer: int, ids: Any) -> Any:
    with torch.no_grad():
        return model(ids, output_hidden_states=True, use_cache=False).hidden_states[layer]


def test_next_token_loss() -> None:
    expected = by_hand(lambda ids: stream_of(A, 1, ids), A, 1)
    for size in (1, 2, 16):
        loss = next_token_loss(A, TEXTS, TOKENIZER, batch_size=size)
        assert loss == pytest.approx(expected, rel=1e-5)
    with_bos = next_token_loss(A, TEXTS, TOKENIZER, score_special=True)
    assert with_bos != pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("special", ["own", "stitch"])
def test_stitched_loss_is_the_loop_written_out(special: Any) -> None:
    stitch = random_stitch()
    up = lambda x: x @ torch.from_numpy(stitch.P_up) + torch.from_numpy(stitch.b_up)  # noqa: E731
    down = lambda x: x @ torch.from_numpy(stitch.P_down) + torch.from_numpy(stitch.b_down)  # noqa: E731

    def mapped(start: Any, start_layer: int, end: Any, end_layer: int, maps: Any) -> Any:
        def edit(ids: Any) -> Any:
            new = maps(stream_of(start, start_layer, ids))
            if special == "own":
                new[:, 0] = stream_of(end, end_layer, ids)[:, 0]
            return new

        return edit

    expected = {
        "a": by_hand(lambda ids: stream_of(A, 1, ids), A, 1),
        "b": by_hand(lambda ids: stream_of(B, 2, ids), B, 2),
        "a_to_b": by_hand(mapped(A, 1, B, 2, up), B, 2),
        "b_to_a": by_hand(mapped(B, 2, A, 1, down), A, 1),
        "a_to_b_to_a": by_hand(mapped(A, 1, A, 1, lambda x: down(up(x))), A, 1),
        "b_to_a_to_b": by_hand(mapped(B, 2, B, 2, lambda x: up(down(x))), B, 2),
    }
    for size in (1, 3):
        loss = stitched_loss(A, B, stitch, 1, 2, TEXTS, TOKENIZER, special=special, batch_size=size)
        for field, value in expected.items():
            assert getattr(loss, field) == pytest.approx(value, rel=1e-5), field
        assert loss.tokens == TOKENS
        assert loss.relative["a_to_b"] == pytest.approx(
            expected["a_to_b"] / expected["b"] - 1, abs=1e-5
        )
        assert loss.relative["b_to_a"] == pytest.approx(
            expected["b_to_a"] / expected["a"] - 1, abs=1e-5
        )


def test_skipped_positions_are_neither_mapped_nor_scored() -> None:
    stitch = random_stitch()
    loss = stitched_loss(A, B, stitch, 1, 2, TEXTS, TOKENIZER, skip_positions=3)
    assert loss.tokens == sum(max(0, len(text) - 3) for text in TEXTS)
    nothing = SimpleNamespace(**{k: np.full_like(v, 7.0) for k, v in vars(stitch).items()})
    all_own = [[0, 50, 51, 52, 53]]
    changed = stitched_loss(A, B, nothing, 1, 2, all_own, TOKENIZER, skip_positions=3)
    assert changed.tokens == 1


def test_end_of_text_is_predicted_but_predicts_nothing() -> None:
    class PaddedWithEos:
        all_special_ids = (0, 1)
        bos_token_id, eos_token_id, pad_token_id = 0, 1, 1

    ids = [[0, 50, 51, 1, 1, 1]]
    loss = stitched_loss(A, B, random_stitch(), 1, 2, ids, PaddedWithEos())
    assert loss.tokens == 2
    assert loss.a == pytest.approx(next_token_loss(A, [[0, 50, 51, 1]], TOKENIZER))


def test_table_and_dictionary() -> None:
    loss = stitched_loss(A, B, random_stitch(), 1, 2, TEXTS, TOKENIZER)
    table = str(loss).splitlines()
    assert table[0] == f"next-token loss, {TOKENS} predictions; A.1, B.2"
    assert [line.split()[0] for line in table[2:]] == ["A", "B", "A→B", "B→A", "A→B→A", "B→A→B"]
    assert table[4].endswith("of B")
    assert table[7].endswith("of B")
    assert "%" in table[4]
    record = json.loads(json.dumps(loss.to_dict()))
    assert record["a_to_b"] == loss.a_to_b
    assert record["relative"] == loss.relative


def test_layers_up_to_the_last() -> None:
    eye, zero = np.eye(16, dtype=np.float32), np.zeros(16, np.float32)
    same = SimpleNamespace(P_up=eye, b_up=zero, P_down=eye, b_down=zero)
    loss = stitched_loss(A, A, same, 3, 3, TEXTS, TOKENIZER)
    assert loss.a_to_b == loss.a


def test_pairs_that_read_other_tokens_are_refused() -> None:
    class Other:
        """TOKENIZER, but "t" is another token, or spaces are dropped, or EOS is special no more."""

        bos_token_id, eos_token_id, pad_token_id = 0, 1, 2

        def __init__(self, swap: int = 0, drop: bool = False, special: tuple = (0, 1, 2)) -> None:
            self.swap, self.drop, self.all_special_ids = swap, drop, special

        def __call__(self, texts: list[str], **options: Any) -> dict[str, Any]:
            if self.drop:
                texts = [text.replace(" ", "") for text in texts]
            ids = TOKENIZER(texts, **options)["input_ids"]
            (t,) = TOKENIZER("t")["input_ids"]
            return {"input_ids": [[i + self.swap * (i == t) for i in row] for row in ids]}

    def run(other: Any) -> None:
        stitched_loss(
            A, B, random_stitch(), 1, 2, iter(TEXTS), TOKENIZER, tokenizer_b=other, chunking="split"
        )

    run(Other())
    with pytest.raises(
        ValueError, match=r"tokenizer_b: token id .* in sequence 0, position 7, exp"
    ):
        run(Other(swap=1))
    with pytest.raises(ValueError, match=r"tokenizer_b: .* in sequence 0.*tokenizers must agree"):
        run(Other(drop=True))
    with pytest.raises(ValueError, match=r"tokenizer_b: special ids \[0, 2\]"):
        run(Other(special=(0, 2)))
    small = tiny_pair()[1]
    small.resize_token_embeddings(60)
    with pytest.raises(ValueError, match="expected 0 to 59, the vocabulary of model_b"):
        stitched_loss(A, small, random_stitch(), 1, 2, TEXTS, TOKENIZER)


BAD_STITCH: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "swapped models": (ValueError, r"P_up: shape \(16, 24\), expected \(24, 16\)", {}),
    "P_down": (ValueError, r"stitch.P_down: shape \(3,\)", {"P_down": np.zeros(3)}),
    "b_up": (ValueError, r"stitch.b_up: shape \(\), expected \(24,\)", {"b_up": 0.0}),
    "NaN": (ValueError, "stitch.b_down: holds NaN", {"b_down": np.full(16, np.nan)}),
}


@pytest.mark.parametrize("case", BAD_STITCH)
def test_bad_stitches(case: str) -> None:
    error, message, change = BAD_STITCH[case]
    stitch = SimpleNamespace(**{**vars(random_stitch()), **change})
    models = (A, B) if change else (B, A)
    with pytest.raises(error, match=message):
        stitched_loss(*models, stitch, 1, 2, TEXTS, TOKENIZER)


BAD: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "stitch": (TypeError, "stitch: int has no P_up", {"stitch": 3}),
    "model_a": (TypeError, "model_a: str", {"model_a": "a"}),
    "layer_a": (ValueError, "layer_a: 4, expected 0 to 3", {"layer_a": 4}),
    "layer_b": (ValueError, "layer_b: -1, expected 0 to 4", {"layer_b": -1}),
    "special": (ValueError, "special: 'bos', expected one of own", {"special": "bos"}),
    "batch_size": (ValueError, "batch_size: 0", {"batch_size": 0}),
    "texts": (TypeError, "token_ids_or_texts: int", {"token_ids_or_texts": 5}),
    "tokenizer": (ValueError, "tokenizer: None", {"tokenizer": None}),
    "too short": (ValueError, "no counted token has a next one", {"token_ids_or_texts": ["a"]}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_of_stitched_loss(case: str) -> None:
    error, message, change = BAD[case]
    good = {"model_a": A, "model_b": B, "stitch": random_stitch(), "layer_a": 1, "layer_b": 2}
    good |= {"token_ids_or_texts": TEXTS, "tokenizer": TOKENIZER}
    with pytest.raises(error, match=message):
        stitched_loss(**{**good, **change})


def test_spliced_loss_is_the_loop_written_out() -> None:
    acts = extract(A, TOKENIZER, TEXTS, 2)
    mean = torch.from_numpy(acts[2].mean(axis=0, dtype=np.float64).astype(np.float32))

    def edited(function: Any) -> float:
        def edit(ids: Any) -> Any:
            stream = stream_of(A, 2, ids)
            return torch.cat([stream[:, :1], function(stream[:, 1:])], dim=1)

        return by_hand(edit, A, 2)

    expected = {
        "clean": edited(lambda x: x),
        "spliced": edited(lambda x: x.relu() * 0.5),
        "zero_ablation": edited(torch.zeros_like),
        "mean_ablation": edited(lambda x: mean.expand_as(x)),
    }

    class Sae(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Any) -> Any:
            return x.relu() * self.scale

    for sae, framework in (
        (lambda x: np.maximum(x, 0) * np.float32(0.5), None),
        (Sae(), None),
        (lambda x: x.relu() * 0.5, "torch"),
    ):
        for size in (1, 3):
            loss = spliced_loss(A, sae, 2, TEXTS, TOKENIZER, framework=framework, batch_size=size)
            for field, value in expected.items():
                assert getattr(loss, field) == pytest.approx(value, rel=1e-5), field
    assert loss.tokens == TOKENS
    assert loss.delta_loss == pytest.approx(expected["spliced"] - expected["clean"], rel=1e-4)
    harm = expected["zero_ablation"] - expected["clean"]
    score = (expected["zero_ablation"] - expected["spliced"]) / harm
    assert loss.ce_score == pytest.approx(score, rel=1e-3)
    record = json.loads(json.dumps(loss.to_dict()))
    assert record["ce_score"] == loss.ce_score
    assert record["delta_loss"] == loss.delta_loss
    assert "CE score" in str(loss)
    assert "delta loss" in str(loss)


def test_ce_score_where_zeros_do_no_harm() -> None:
    from suture.models import SplicedLoss

    loss = SplicedLoss(1.0, 1.0, 1.0, 1.0, tokens=3, layer=0)
    assert math.isnan(loss.ce_score)
    assert loss.to_dict()["ce_score"] is None


def test_half_precision_models() -> None:
    half = tiny_pair()[0].to(torch.bfloat16)
    loss = spliced_loss(half, lambda x: x, 2, TEXTS, TOKENIZER)
    assert loss.delta_loss == 0
    assert loss.clean == pytest.approx(next_token_loss(A, TEXTS, TOKENIZER), rel=0.05)


BAD_SAE: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "sae": (TypeError, "sae: int, expected a callable", {"sae": 3}),
    "shape": (
        ValueError,
        r"sae: returned \(34, 3\), expected shape",
        {"sae": lambda x: x[:, :3]},
    ),
    "NaN": (ValueError, "sae: returned NaN", {"sae": lambda x: x * np.nan}),
    "list": (ValueError, "sae: returned list", {"sae": lambda x: [x], "framework": "torch"}),
    "framework": (ValueError, "framework: 'jax'", {"framework": "jax"}),
    "layer": (ValueError, "layer: 9, expected 0 to 3", {"layer": 9}),
    "batch_size": (TypeError, "batch_size: '2'", {"batch_size": "2"}),
}


@pytest.mark.parametrize("case", BAD_SAE)
def test_bad_arguments_of_spliced_loss(case: str) -> None:
    error, message, change = BAD_SAE[case]
    good = {
        "model": A,
        "sae": lambda x: x,
        "layer": 1,
        "token_ids_or_texts": TEXTS,
        "tokenizer": TOKENIZER,
    }
    with pytest.raises(error, match=message):
        spliced_loss(**{**good, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0"),
        ({"context": 1000}, "context: 1000, expected at most 64"),
        ({"token_ids_or_texts": [[0, 1, 2]]}, "no token is left"),
    ],
)
def test_bad_arguments_of_next_token_loss(change: dict[str, Any], message: str) -> None:
    good = {"model": A, "token_ids_or_texts": TEXTS, "tokenizer": TOKENIZER}
    with pytest.raises(ValueError, match=message):
        next_token_loss(**{**good, **change})

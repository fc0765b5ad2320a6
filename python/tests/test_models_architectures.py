# SPDX-License-Identifier: Apache-2.0
"""The five architectures, with random weights: rows, hooks, losses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from suture.models import extract, next_token_loss, spliced_loss, stitched_loss  # noqa: E402
from suture.models._residual import find_blocks, residual_hooks  # noqa: E402

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def build(name: str) -> Any:
    torch.manual_seed(3)
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=60,
            n_embd=16,
            n_layer=3,
            n_head=2,
            n_positions=32,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
        )
        return transformers.GPT2LMHeadModel(config).eval()
    kinds = {
        "gpt_neox": ("GPTNeoXConfig", "GPTNeoXForCausalLM"),
        "llama": ("LlamaConfig", "LlamaForCausalLM"),
        "gemma2": ("Gemma2Config", "Gemma2ForCausalLM"),
        "qwen2": ("Qwen2Config", "Qwen2ForCausalLM"),
    }
    config_name, model_name = kinds[name]
    extra = {"sliding_window": 4} if name == "gemma2" else {}
    config = getattr(transformers, config_name)(**SIZES, **extra)
    return getattr(transformers, model_name)(config).eval()


ARCHITECTURES = ("gpt_neox", "gpt2", "llama", "gemma2", "qwen2")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    """Sequences of several lengths, each beginning with BOS."""
    random = np.random.default_rng(5)
    return [[1, *random.integers(3, 60, n).tolist()] for n in (9, 4, 11, 1, 7)]


def test_rows_are_hidden_states(model: Any, ids: list[list[int]]) -> None:
    acts = extract(model, None, ids, layers=[0, 1, 2, 3], batch_size=2)
    expected: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    final = []
    norms = [m for n, m in model.named_modules() if n.endswith(("final_layer_norm", "ln_f"))]
    norm = norms[0] if norms else model.model.norm
    for sequence in ids:
        with torch.no_grad():
            out = model(torch.tensor([sequence]), output_hidden_states=True, use_cache=False)
        for layer in expected:
            expected[layer].append(out.hidden_states[layer][0, 1:])
        final.append(out.hidden_states[3][0, 1:])
    for layer, rows in expected.items():
        np.testing.assert_allclose(acts[layer], torch.cat(rows), rtol=1e-4, atol=1e-5)
    # The last hidden state is after the final norm, layer n_layers is before it.
    with torch.no_grad():
        normed = norm(torch.from_numpy(acts[3]))
    np.testing.assert_allclose(normed, torch.cat(final), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(acts.token_ids, [t for s in ids for t in s[1:]])
    np.testing.assert_array_equal(acts.positions, [p for s in ids for p in range(1, len(s))])


def test_rows_do_not_depend_on_batch_size(model: Any, ids: list[list[int]]) -> None:
    runs = [extract(model, None, ids, layers=[0, 2, 3], batch_size=n) for n in (1, 2, 5)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].token_ids, other.token_ids)
        for layer in (0, 2, 3):
            np.testing.assert_allclose(runs[0][layer], other[layer], rtol=1e-4, atol=1e-5)


def test_rows_do_not_depend_on_padding(model: Any, ids: list[list[int]]) -> None:
    longest = max(map(len, ids))
    plain = extract(model, None, ids, layers=2)
    for left in (False, True):
        padded, mask = [], []
        for s in ids:
            gap = longest - len(s)
            padded.append([0] * gap + s if left else s + [0] * gap)
            mask.append([0] * gap + [1] * len(s) if left else [1] * len(s) + [0] * gap)
        encoded = {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}
        acts = extract(model, None, encoded, layers=2)
        np.testing.assert_array_equal(acts.positions, plain.positions)
        np.testing.assert_allclose(acts[2], plain[2], rtol=1e-4, atol=1e-5)


def test_loss_is_the_model_s_own(model: Any, ids: list[list[int]]) -> None:
    batch = torch.tensor([s for s in ids if len(s) == 12])
    with torch.no_grad():
        expected = model(batch, labels=batch, use_cache=False).loss.item()
    assert next_token_loss(model, batch, score_special=True) == pytest.approx(expected, rel=1e-5)
    logits = model(batch).logits[:, 1:-1].detach()
    text_only = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 2:].flatten())
    assert next_token_loss(model, batch) == pytest.approx(text_only.item(), rel=1e-5)


def test_identity_changes_nothing(model: Any, ids: list[list[int]]) -> None:
    eye, zero = np.eye(16, dtype=np.float32), np.zeros(16, np.float32)
    same = SimpleNamespace(P_up=eye, b_up=zero, P_down=eye, b_down=zero)
    for layer in (0, 2, 3):
        for special in ("own", "stitch"):
            loss = stitched_loss(model, model, same, layer, layer, ids, special=special)
            assert loss.a == loss.b == loss.a_to_b == loss.b_to_a == loss.b_to_a_to_b
            assert set(loss.relative.values()) == {0.0}
        spliced = spliced_loss(model, lambda x: x, layer, ids)
        assert spliced.delta_loss == 0
        assert spliced.ce_score in (1.0, 0.0)
        assert spliced.zero_ablation != spliced.clean


def test_bare_model_without_head(model: Any, ids: list[list[int]]) -> None:
    bare = model.base_model
    np.testing.assert_array_equal(extract(bare, None, ids, 1)[1], extract(model, None, ids, 1)[1])
    with pytest.raises(TypeError, match="has no logits"):
        next_token_loss(bare, ids)


def test_forward_ends_at_the_deepest_layer(model: Any, ids: list[list[int]]) -> None:
    ran = []
    blocks = find_blocks(model)
    handles = [
        block.register_forward_hook(lambda *_, n=number: ran.append(n))
        for number, block in enumerate(blocks)
    ]
    try:
        # Two short passes to the end come first: what check_reading looks at.
        extract(model, None, ids[:1], layers=[0, 1])
        assert ran == [0, 1, 2] * 2 + [0]
        ran.clear()
        extract(model, None, ids[:1], layers=0)
        assert ran == [0, 1, 2] * 2
    finally:
        for handle in handles:
            handle.remove()


def hooks_of(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_model_is_left_as_found(model: Any, ids: list[list[int]]) -> None:
    model.train()
    find_blocks(model)[1].eval()
    before = hooks_of(model)
    flags = [m.training for m in model.modules()]
    weights = [p.clone() for p in model.parameters()]
    try:
        extract(model, None, ids, layers=[1, 3])
        spliced_loss(model, lambda x: x, 1, ids)
        with pytest.raises(RuntimeError, match="on purpose"):
            spliced_loss(model, failing, 1, ids)
        assert hooks_of(model) == before
        assert flags == [m.training for m in model.modules()]
        assert all(p.grad is None and p.requires_grad for p in model.parameters())
        for parameter, weight in zip(model.parameters(), weights, strict=True):
            assert torch.equal(parameter, weight)
    finally:
        model.eval()


def test_dropout_is_off(ids: list[list[int]]) -> None:
    model = build("gpt2")
    assert model.config.resid_pdrop > 0
    rows, loss = extract(model, None, ids, 2)[2], next_token_loss(model, ids)
    model.train()
    np.testing.assert_array_equal(extract(model, None, ids, 2)[2], rows)
    assert next_token_loss(model, ids) == loss
    assert model.training


def failing(_: Any) -> Any:
    raise RuntimeError("on purpose")


def test_blocks_are_found_by_length_in_unknown_models() -> None:
    class Odd(torch.nn.Module):
        def __init__(self, *lengths: int, count: int = 3) -> None:
            super().__init__()
            self.config = SimpleNamespace(num_hidden_layers=count)
            for number, length in enumerate(lengths):
                parts = torch.nn.ModuleList(torch.nn.Identity() for _ in range(length))
                setattr(self, f"odd{number}", parts)

    odd = Odd(2, 3)
    assert find_blocks(odd) is odd.odd1
    with pytest.raises(ValueError, match=r"looked for gpt_neox.layers.*odd0 \(3\), odd1 \(3\)"):
        find_blocks(Odd(3, 3))
    with pytest.raises(ValueError, match="its module lists are: none"):
        find_blocks(Odd())
    with pytest.raises(TypeError, match="model: Linear, expected a transformers model"):
        extract(torch.nn.Linear(2, 2), None, [[1, 2]], 0)


def test_encoder_decoder_is_refused() -> None:
    config = transformers.T5Config(vocab_size=20, d_model=8, d_ff=8, num_layers=1, num_heads=1)
    with pytest.raises(ValueError, match=r"model: .* is an encoder-decoder"):
        extract(transformers.T5Model(config), None, [[1, 2]], 0)


def test_blocks_whose_output_is_a_tuple() -> None:
    class Block(torch.nn.Module):
        def forward(self, hidden_states: Any) -> tuple[Any, str]:
            return hidden_states + 1, "cache"

    blocks = torch.nn.ModuleList([Block(), Block()])
    with residual_hooks(blocks, {1: lambda x: x * 10, 2: lambda x: x * 100}):
        out = blocks[0](hidden_states=torch.ones(1, 1, 1))
        out = blocks[1](hidden_states=out[0])
    assert out[0].item() == 2100
    assert out[1] == "cache"

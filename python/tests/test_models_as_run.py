# SPDX-License-Identifier: Apache-2.0
"""Models as people run them: compiled, and offloaded by accelerate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import suture  # noqa: E402
from suture.models import (  # noqa: E402
    deactivation_scores,
    extract,
    generate,
    next_token_loss,
    spliced_loss,
    steer,
    tiny_pair,
    unembedding,
)
from suture.models._residual import find_blocks  # noqa: E402

TEXTS = ["first text", "2nd", "a third, longer one"]
TOKENIZER = tiny_pair()[2]
VECTOR = suture.SteeringVector(np.eye(16)[3], z_mean=25.0)


# -- Compiled ----------------------------------------------------------------------------------


def in_place(model: Any) -> Any:
    model.compile(backend="aot_eager")
    return model


def wrapped(model: Any) -> Any:
    return torch.compile(model, backend="aot_eager")


def blocks_in_place(model: Any) -> Any:
    for block in find_blocks(model):
        block.compile(backend="aot_eager")
    return model


def blocks_wrapped(model: Any) -> Any:
    blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        blocks[number] = torch.compile(block, backend="aot_eager")
    return model


def forward(model: Any) -> Any:
    model.forward = torch.compile(model.forward, backend="aot_eager")
    return model


WAYS = [in_place, wrapped, blocks_in_place, blocks_wrapped, forward]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.__name__)
def compiled(request: Any) -> Any:
    """A model that was compiled, and has been called before."""
    torch.compiler.reset()
    model = request.param(tiny_pair()[0])
    with torch.no_grad():
        model(torch.tensor([[0, 5, 6, 7]]), use_cache=False)
    return model


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("layer", [1, 3])
def test_steering_what_was_compiled_and_called_before(compiled: Any, layer: int) -> None:
    ids = torch.tensor([[0, 5, 6, 7]])
    plain = tiny_pair()[0]
    with torch.no_grad():
        before = compiled(ids, use_cache=False).logits
        with steer(plain, VECTOR, layer):
            expected = plain(ids, use_cache=False).logits
        rows = suture.Rows(leave_out=[6], special=True, norm_bound=None)
        with steer(plain, VECTOR, layer, rows=rows):
            partly = plain(ids, use_cache=False).logits
        with steer(compiled, VECTOR, layer):
            torch.testing.assert_close(compiled(ids, use_cache=False).logits, expected)
        with steer(compiled, VECTOR, layer, rows=rows):
            torch.testing.assert_close(compiled(ids, use_cache=False).logits, partly)
        assert (before - expected).abs().max() > 1e-2
        assert (before - partly).abs().max() > 1e-2
        torch.testing.assert_close(compiled(ids, use_cache=False).logits, before)


def test_steering_a_compiled_function_that_calls_the_model() -> None:
    torch.compiler.reset()
    model, ids = tiny_pair()[0], torch.tensor([[0, 5, 6, 7]])
    call = torch.compile(lambda x: model(x, use_cache=False).logits, backend="aot_eager")
    with torch.no_grad():
        before = call(ids)
        with steer(model, VECTOR, 1):
            steered, expected = call(ids), model(ids, use_cache=False).logits
        torch.testing.assert_close(steered, expected)
        assert (before - expected).abs().max() > 1e-2
        torch.testing.assert_close(call(ids), before)


def test_reading_what_was_compiled_and_called_before(compiled: Any, tmp_path: Path) -> None:
    plain = tiny_pair()[0]
    wanted = extract(plain, TOKENIZER, TEXTS, [0, 2, 3], out=tmp_path / "a")
    acts = extract(compiled, TOKENIZER, TEXTS, [0, 2, 3], batch_size=2)
    for layer in (0, 2, 3):
        np.testing.assert_allclose(acts[layer], wanted[layer], rtol=1e-4, atol=1e-5)
    # The same weights: what was extracted before is found again.
    stamp = (tmp_path / "a" / "manifest.json").stat().st_mtime_ns
    again = extract(compiled, TOKENIZER, TEXTS, [0, 2, 3], out=tmp_path / "a")
    assert (tmp_path / "a" / "manifest.json").stat().st_mtime_ns == stamp
    assert again.metadata["model"] == wanted.metadata["model"]
    loss = spliced_loss(compiled, lambda x: x * 0.5, 2, TEXTS, TOKENIZER)
    expected = spliced_loss(plain, lambda x: x * 0.5, 2, TEXTS, TOKENIZER)
    assert loss.spliced == pytest.approx(expected.spliced, rel=1e-4)
    assert loss.spliced != pytest.approx(loss.clean, rel=1e-3)


# -- Offloaded ---------------------------------------------------------------------------------


def on_cpu(model: Any, folder: Path) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.cpu_offload(model, torch.device("cpu"))


def on_disk(model: Any, folder: Path) -> Any:
    accelerate = pytest.importorskip("accelerate")
    return accelerate.disk_offload(model, str(folder / "offload"), torch.device("cpu"))


def mapped(model: Any, folder: Path) -> Any:
    """Some blocks in memory, some on the disk, as `from_pretrained(device_map=…)` does it."""
    pytest.importorskip("accelerate")
    model.save_pretrained(folder / "model")
    places = {"gpt_neox.layers.1": "disk", "gpt_neox.layers.2": "disk"}
    kept = ("gpt_neox.embed_in", "gpt_neox.rotary_emb", "gpt_neox.layers.0",
            "gpt_neox.final_layer_norm", "lm_head")  # fmt: skip
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder / "model",
        device_map=places | dict.fromkeys(kept, "cpu"),
        offload_folder=folder / "offload",
    ).eval()


@pytest.mark.parametrize("way", [on_cpu, on_disk, mapped])
def test_offloaded_models(way: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    tiny_pair()[0].save_pretrained(tmp_path / "model")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    model = way(again, tmp_path)
    homes = [p.device.type for p in model.parameters()]
    assert "meta" in homes
    out = tmp_path / "acts"
    wanted = extract(plain, TOKENIZER, TEXTS, [0, 2, 3], out=out)
    acts = extract(model, TOKENIZER, TEXTS, [0, 2, 3])
    for layer in (0, 2, 3):
        np.testing.assert_array_equal(acts[layer], wanted[layer])
    # The same weights are the same weights: no zeros, nothing read from meta tensors.
    stamp = (out / "manifest.json").stat().st_mtime_ns
    extract(model, TOKENIZER, TEXTS, [0, 2, 3], out=out, model_name=wanted.metadata["model"])
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    other = way(tiny_pair(seed=1)[0], tmp_path / "other")
    with pytest.raises(FileExistsError, match="weights is"):
        extract(other, TOKENIZER, TEXTS, [0, 2, 3], out=out)
    assert next_token_loss(model, TEXTS, TOKENIZER) == next_token_loss(plain, TEXTS, TOKENIZER)
    options: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0.0, "progress": False}
    with steer(plain, VECTOR, 2):
        expected = generate(plain, TOKENIZER, TEXTS, **options)
    with steer(model, VECTOR, 2, rows=suture.Rows.all()):
        assert generate(model, TOKENIZER, TEXTS, **options) == expected
    np.testing.assert_array_equal(unembedding(model), unembedding(plain))
    # It is left as it was, and refuses to be moved.
    assert [p.device.type for p in model.parameters()] == homes
    assert extract(model, TOKENIZER, TEXTS, 1, device="cpu")[1].shape == (32, 16)
    with pytest.raises(ValueError, match=r"device: 'meta', expected None .* offloaded"):
        extract(model, TOKENIZER, TEXTS, 1, device="meta")


def test_tied_weights_count_once_wherever_they_are(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    config = transformers.LlamaConfig(
        vocab_size=259, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = transformers.LlamaForCausalLM(config).eval()
    extract(plain, TOKENIZER, TEXTS, 1, out=tmp_path / "acts")
    stamp = (tmp_path / "acts" / "manifest.json").stat().st_mtime_ns
    wanted = unembedding(plain, fold_norm=True)
    for way in (on_cpu, on_disk):
        torch.manual_seed(0)
        model = way(transformers.LlamaForCausalLM(config).eval(), tmp_path)
        extract(model, TOKENIZER, TEXTS, 1, out=tmp_path / "acts")
        np.testing.assert_array_equal(unembedding(model, fold_norm=True), wanted)
    assert (tmp_path / "acts" / "manifest.json").stat().st_mtime_ns == stamp


def test_heads_of_an_offloaded_model_are_refused(tmp_path: Path) -> None:
    model = on_cpu(tiny_pair()[0], tmp_path)
    sae = suture.SAE.init(16, 32, k=4)
    with pytest.raises(ValueError, match="expected a model that is not offloaded"):
        deactivation_scores(model, sae, 1, TEXTS, TOKENIZER)


def test_a_model_without_weights_is_refused() -> None:
    with torch.device("meta"):
        model = tiny_pair()[0]
    with pytest.raises(ValueError, match=r"model: .* on the meta device and nothing"):
        extract(model, TOKENIZER, TEXTS, 1)
    with pytest.raises(ValueError, match=r"model: .* on the meta device and nothing"):
        next_token_loss(model, TEXTS, TOKENIZER)

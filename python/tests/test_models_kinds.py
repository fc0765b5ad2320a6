# SPDX-License-Identifier: Apache-2.0
"""Models that are no plain stack of causal blocks: they work, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from odd_models import BLOCKS, WIDTH, build  # noqa: E402

import suture  # noqa: E402
from suture.activations import Activations  # noqa: E402
from suture.models import (  # noqa: E402
    _shards,
    extract,
    next_token_loss,
    spliced_loss,
    steer,
    stitched_loss,
    tiny_pair,
)
from suture.models._residual import find_blocks  # noqa: E402

VECTOR = suture.SteeringVector(np.eye(WIDTH)[3], z_mean=5.0)


@pytest.fixture
def ids() -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(3, 59, n).tolist() for n in (9, 4, 11, 7)]


# By kind: what an extraction of layers 0 and 2 says.
REFUSED = {
    "gemma3n": "Gemma3nForCausalLM keeps 4 residual streams side by side .AltUp",
    "deepseek_v4": "DeepseekV4ForCausalLM keeps 2 residual streams side by side .hyper-connections",
    "paligemma": "PaliGemmaForConditionalGeneration changes with padding",
    "bert": "BertLMHeadModel at a token depends on the tokens after it",
    "mllama": r"layers: 2: .* does not run MllamaCrossAttentionDecoderLayer, block 2",
    "reformer": "ReformerModelWithLMHead splits its residual stream",
    "prophetnet": "ProphetNetForCausalLM runs streams for the tokens further ahead",
    "cpmant": "CpmAntForCausalLM puts rows of a prompt of its own before",
    "xlnet": "XLNetLMHeadModel reads in both directions",
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name_before_anything_is_written(
    name: str, ids: list[list[int]], tmp_path: Path
) -> None:
    model = build(name)
    out = tmp_path / "new" / "acts"
    with pytest.raises(ValueError, match=REFUSED[name]):
        extract(model, None, ids, [0, 2], out=out)
    assert not out.parent.exists()
    out = tmp_path / "acts"
    good = extract(build("llava"), None, ids, [0, 2], out=out)[2].copy()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=REFUSED[name]):
        extract(model, None, ids, [0, 2], out=out, overwrite=True)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    np.testing.assert_array_equal(Activations.open(out)[2], good)
    assert [p.name for p in tmp_path.iterdir()] == ["acts"]
    with pytest.raises(ValueError, match=REFUSED[name].replace("layers", "layers?")):
        spliced_loss(model, lambda x: x, 2, ids)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", ["gemma3n", "deepseek_v4", "mllama"])
def test_losses_need_no_stream(name: str, ids: list[list[int]]) -> None:
    model, batch = build(name), torch.tensor(ids[2:3])
    with torch.no_grad():
        expected = model(batch, labels=batch, use_cache=False).loss.item()
    assert next_token_loss(model, ids[2:3], score_special=True) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["paligemma", "bert"])
def test_losses_of_what_sees_the_next_token_are_refused(name: str, ids: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"model: the prediction of .*(padding|tokens after)"):
        next_token_loss(build(name), ids)


@pytest.mark.parametrize("name", ["llava", "bert decoder"])
def test_rows_are_hidden_states(name: str, ids: list[list[int]]) -> None:
    model = build(name)
    acts = extract(model, None, ids, range(BLOCKS + 1), batch_size=3)
    for layer in range(BLOCKS):
        with torch.no_grad():
            rows = [model(torch.tensor([s]), output_hidden_states=True).hidden_states for s in ids]
        expected = torch.cat([one[layer][0] for one in rows])
        np.testing.assert_allclose(acts[layer], expected, rtol=1e-4, atol=1e-5)


def test_bare_wrapper_whose_stacks_are_equally_deep(ids: list[list[int]]) -> None:
    whole = build("llava")
    bare = whole.model
    assert len(find_blocks(bare)) == len(bare.vision_tower.encoder.layers)
    assert find_blocks(bare) is bare.language_model.layers
    np.testing.assert_array_equal(extract(bare, None, ids, 2)[2], extract(whole, None, ids, 2)[2])


def test_of_several_stacks_the_decoder_s_is_taken() -> None:
    class Wrapper(torch.nn.Module):
        """None of its names is one that is looked for."""

        def __init__(self) -> None:
            super().__init__()
            self.config = transformers.LlamaConfig(num_hidden_layers=2)
            self.sight, self.speech = (
                torch.nn.ModuleDict({"stack": torch.nn.ModuleList([torch.nn.Identity()] * 2)})
                for _ in range(2)
            )

        def get_decoder(self) -> Any:
            return self.speech

    wrapper = Wrapper()
    assert find_blocks(wrapper) is wrapper.speech["stack"]


def test_layers_around_one_that_text_skips(ids: list[list[int]]) -> None:
    model = build("mllama")
    acts = extract(model, None, ids, [1, 3])
    with torch.no_grad():
        hidden = [model(torch.tensor([s]), output_hidden_states=True).hidden_states for s in ids]
    # Hidden states of transformers leave the skipped block out: those after it move up by one.
    np.testing.assert_allclose(acts[1], torch.cat([h[1][0] for h in hidden]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(acts[3], torch.cat([h[2][0] for h in hidden]), rtol=1e-4, atol=1e-5)


def test_steering_where_text_does_not_pass_is_an_error(ids: list[list[int]]) -> None:
    model = build("mllama")
    batch = torch.tensor(ids[:1])
    with torch.no_grad(), steer(model, VECTOR, 3):
        model(batch)
    with (
        torch.no_grad(),
        steer(model, VECTOR, 2),
        pytest.raises(ValueError, match="layer: 2: a forward pass over text does not run Mllama"),
    ):
        model(batch)
    with pytest.raises(ValueError, match="Gemma3nForCausalLM keeps 4"):
        steer(build("gemma3n"), VECTOR, 1)


def test_streams_of_unknown_kinds_are_refused_when_they_run(ids: list[list[int]]) -> None:
    """What nobody has listed: two streams, one transposed, one that runs twice."""

    class Block(torch.nn.Module):
        def forward(self, hidden_states: Any) -> Any:
            return hidden_states + 1

    class Model(torch.nn.Module):
        def __init__(self, kind: str) -> None:
            super().__init__()
            self.config = transformers.LlamaConfig(
                hidden_size=8, num_hidden_layers=2, num_attention_heads=2
            )
            self.layers = torch.nn.ModuleList([Block(), Block()])
            self.embed = torch.nn.Embedding(60, 8)
            self.kind = kind

        def forward(self, input_ids: Any, attention_mask: Any, use_cache: bool) -> Any:
            if self.kind == "blind":
                raise ValueError("an image, please")
            x = self.embed(input_ids)
            forms = {"two": x.expand(2, *x.shape), "turned": x.transpose(0, 1), "broken": x / 0}
            x = forms.get(self.kind, input_ids if self.kind == "ids" else x)
            for _ in range(2 if self.kind == "twice" else 1):
                for block in self.layers:
                    x = block(x)
            return x

    for kind, words in {
        "two": r"\(Block\) is shape \(2, 1, 5, 8\), expected one .* several side by side",
        "turned": r"\(Block\) has shape \(5, 1, 8\), expected \(1, 5, 8\)",
        "twice": "layers: 1: Model runs block 1 more than once",
        "broken": "before layer 1 is not finite",
        "blind": r"Model fails on token ids and an attention mask \(ValueError: an image, please",
        "ids": r"\(Block\) is shape \(1, 5\)",
    }.items():
        with pytest.raises(ValueError, match=words):
            extract(Model(kind), None, ids[2:3], 1)
    assert extract(Model("plain"), None, ids, 1)[1].shape == (31, 8)


def test_a_stitch_between_them_is_refused_too(ids: list[list[int]]) -> None:
    eye, zero = np.eye(WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)
    stitch = suture.Stitch(eye, zero, eye, zero)
    with pytest.raises(ValueError, match=r"layer_b: 2: .* does not run Mllama"):
        stitched_loss(build("llava"), build("mllama"), stitch, 1, 2, ids)
    with pytest.raises(ValueError, match=r"^model_a: .* BertLMHeadModel at a token depends"):
        stitched_loss(build("bert"), build("llava"), stitch, 1, 2, ids)


# -- Folders -----------------------------------------------------------------------------------


def test_a_failure_midway_leaves_the_old_folder_whole(tmp_path: Path) -> None:
    model, _, tokenizer = tiny_pair()
    texts = ["first text", "2nd", "a third, longer one"]
    out = tmp_path / "acts"
    good = np.array(extract(model, tokenizer, texts, 2, out=out)[2])
    with torch.no_grad():  # a token that only the last text has
        model.gpt_neox.embed_in.weight[tokenizer("g")["input_ids"][0]] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        extract(model, tokenizer, texts, 2, out=out, overwrite=True, batch_size=1)
    np.testing.assert_array_equal(Activations.open(out)[2], good)
    assert [p.name for p in tmp_path.iterdir()] == ["acts"]


def test_shards_take_what_was_promised_and_no_less(tmp_path: Path) -> None:
    def writer(name: str) -> Any:
        (tmp_path / name).mkdir()
        return _shards.ShardWriter(tmp_path / name, rows=3, d=2, dtype="float32", layers=[1])

    rows = np.zeros((2, 2), np.float32)
    short = writer("short")
    short.append(1, rows)
    with pytest.raises(ValueError, match="layer 1: 1 rows were not written"):
        short.finish({})
    with pytest.raises(ValueError, match="2 rows more, expected 1"):
        short.append(1, rows)
    for wrong in (np.zeros((2, 3), np.float32), rows.astype(np.float16), np.zeros((1, 2, 2))):
        with pytest.raises(ValueError, match=r"layer_01: rows of shape .*expected \(n, 2\) and 4"):
            short.append(1, wrong)
    short.close()

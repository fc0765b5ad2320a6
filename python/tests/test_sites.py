# SPDX-License-Identifier: Apache-2.0
"""Sites: names against what TransformerLens, SAELens and transformers mean by them, and transfers,
files and the command line that go by them."""

from __future__ import annotations

import importlib.util
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suture
from suture import Site
from suture.cli import main

D = 6


# -- Names against those who made them -----------------------------------------------------------


def test_models_by_the_aliases_of_transformer_lens() -> None:
    """Each alias of a causal model is its official name's, and no two official names are one."""
    spec = importlib.util.find_spec("transformer_lens")
    if spec is None or spec.origin is None:
        pytest.skip("needs transformer-lens")
    source = Path(spec.origin).with_name("supported_models.py")
    known: dict[str, Any] = {}
    # The module alone: the package imports much more.
    exec(compile(source.read_text(), str(source), "exec"), known)
    others = ("bert", "t5", "hubert", "wav2vec", "w2v2")
    checked = 0
    for official, aliases in known["MODEL_ALIASES"].items():
        if any(word in official.lower() for word in others):
            continue
        for alias in aliases:
            assert Site(alias).matches(Site(official)), (alias, official)
            checked += 1
    assert checked > 250
    officials = [name for name in known["OFFICIAL_MODEL_NAMES"] if name != "gpt2"]
    for place, one in enumerate(officials):
        same = [two for two in officials[place + 1 :] if Site(one).matches(Site(two))]
        assert same == [], (one, same)


def test_folders_of_gemma_scope_as_sae_lens_reads_them() -> None:
    loaders = pytest.importorskip("sae_lens.loading.pretrained_sae_loaders")
    directory = pytest.importorskip("sae_lens.loading.pretrained_saes_directory")
    checked: dict[str, int] = {}
    for release in directory.get_pretrained_saes_directory().values():
        if release.conversion_func != "gemma_2":
            continue
        for folder in release.saes_map.values():
            config = loaders.get_gemma_2_config_from_hf(release.repo_id, folder, "cpu")
            theirs = Site.of({"hook_name": config["hook_name"]})
            ours = Site.parse(f"{release.repo_id}/{folder}")
            assert (ours.layer, ours.stream) == (theirs.layer, theirs.stream), (ours, theirs)
            checked[ours.stream] = checked.get(ours.stream, 0) + 1
    assert set(checked) == {"resid_pre", "mlp_out", "attn.hook_z", "embed"}
    assert sum(checked.values()) > 2000


def families() -> dict[str, Any]:
    transformers = pytest.importorskip("transformers")
    common = {"vocab_size": 40, "num_hidden_layers": 3, "hidden_size": 16, "intermediate_size": 24}
    heads = {"num_attention_heads": 2}
    return {
        "model.layers": transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**common, **heads, num_key_value_heads=2)
        ),
        "gpt_neox.layers": transformers.GPTNeoXForCausalLM(
            transformers.GPTNeoXConfig(**common, **heads)
        ),
        "transformer.h": transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=40, n_layer=3, n_embd=16, n_head=2)
        ),
    }


@pytest.mark.parametrize("path", ["model.layers", "gpt_neox.layers", "transformer.h"])
def test_modules_put_out_what_their_names_say(path: str) -> None:
    """A module's output, and an entry of hidden_states, are the rows that Suture reads for the
    site's layer; the last of hidden_states is not, and is seen not to be."""
    torch = pytest.importorskip("torch")
    from suture.models._residual import find_blocks, read_layers

    model = families()[path].eval()
    ids = torch.arange(7)[None] + 1
    mask = torch.ones_like(ids)
    seen: dict[str, Any] = {}
    for block in range(3):
        name = f"{path}.{block}"
        model.get_submodule(name).register_forward_hook(
            lambda _, args, out, name=name: seen.__setitem__(
                name, (out if isinstance(out, torch.Tensor) else out[0]).detach()[0].clone()
            )
        )
    with torch.no_grad():
        states = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        ours = read_layers(model, find_blocks(model), range(4), ids, mask, mask.bool())
    for block in range(3):
        site = Site.parse(f"{path}.{block}", n_layers=3)
        assert site.layer == block + 1
        torch.testing.assert_close(ours[site.layer], seen[f"{path}.{block}"])
    for entry, state in enumerate(states):
        site = Site.parse(f"hidden_states.{entry}", n_layers=3)
        if site.layer is not None:
            torch.testing.assert_close(ours[site.layer], state[0])
        else:
            assert (entry, site.stream) == (3, "final_norm")
            assert not torch.allclose(ours[3], state[0])


def test_paths_of_blocks() -> None:
    pytest.importorskip("torch")
    from suture.models._residual import BLOCK_PATHS

    for path in BLOCK_PATHS:
        assert Site.parse(f"{path}.4") == Site(None, 5), path


def test_layers_of_models_by_name(rng: np.random.Generator) -> None:
    pytest.importorskip("transformers")
    from suture import models

    model, _, tokenizer = models.tiny_pair()
    names = ["gpt_neox.layers.0", Site(None, 2), "blocks.2.hook_resid_post", 2]
    acts = models.extract(model, tokenizer, ["a text", "another"], names)
    assert acts.layers == (1, 2, 3)
    one = models.extract(model, tokenizer, ["a text", "another"], "hidden_states.1")
    np.testing.assert_array_equal(one[1], acts[1])
    made = suture.SteeringVector(rng.normal(size=acts.d), 2.0, metadata=Site(None, 2).metadata)
    with models.steer(model, made, Site.of(made), mode="add"):
        steered = models.extract(model, tokenizer, ["a text", "another"], [2])
    np.testing.assert_allclose(steered[2], made.apply(acts[2], "add"), atol=1e-5)
    depth = model.config.num_hidden_layers
    for bad, words in {
        f"hidden_states.{depth}": "expected a layer of the residual stream",
        f"h.{depth}": f"expected a layer of 0 to {depth}",
        "blocks.1.hook_mlp_out": "expected a layer of the residual stream",
        "here": "expected a name of the residual stream",
    }.items():
        with pytest.raises(ValueError, match=f"layers is .*{words}"):
            models.extract(model, tokenizer, ["a text"], bad)
        with pytest.raises(ValueError, match=f"layer is .*{words}"), models.steer(model, made, bad):
            pass
    with pytest.raises(ValueError, match=f"layers is {depth + 1}, expected 0 to {depth}"):
        models.extract(model, tokenizer, ["a text"], Site(None, depth + 1))


def test_a_tokens_embedding_is_the_stream_only_without_positions() -> None:
    torch = pytest.importorskip("torch")
    from suture.models._residual import find_blocks, read_layers

    ids = torch.arange(7)[None] + 1
    mask = torch.ones_like(ids)
    for path, module, same in (
        ("transformer.h", "transformer.wte", False),
        ("transformer.h", "transformer.drop", True),
        ("gpt_neox.layers", "gpt_neox.embed_in", True),
    ):
        model = families()[path].eval()
        seen = []
        model.get_submodule(module).register_forward_hook(
            lambda _, args, out, seen=seen: seen.append(out.detach()[0].clone())
        )
        with torch.no_grad():
            ours = read_layers(model, find_blocks(model), [0, 1], ids, mask, mask.bool())[0]
        assert torch.equal(ours, seen[0]) == same, module
        # Without the model nobody can tell, so only the one that always is counts.
        assert (Site.parse(module).layer == 0) == (module == "transformer.drop")


# -- The type ------------------------------------------------------------------------------------


def test_sites_are_values() -> None:
    site = Site.parse("blocks.3.hook_resid_post", "gpt2")
    assert site == Site("gpt2", 4)
    assert hash(site) == hash(Site("gpt2", 4))
    assert pickle.loads(pickle.dumps(site)) == site
    assert Site("gpt2", np.int64(4)) == site  # type: ignore[arg-type]
    assert json.dumps(Site("gpt2", np.int64(4)).metadata) == json.dumps(site.metadata)  # type: ignore[arg-type]
    assert Site().metadata == {}
    assert Site(None, 3, "mlp_out").hook_name is None
    assert Site.of(site.metadata) == site
    assert not site.matches(Site("gpt2", 4, "mlp_out"))
    assert not site.matches(Site("gpt2", 5))
    assert site.matches(Site())
    assert Site().matches(site)


def test_sites_of_objects() -> None:
    metadata = {"model_name": "m", "hook_name": "layers.3"}
    vector = suture.SteeringVector(np.ones(3), 1.0, metadata=metadata)
    assert Site.of(vector) == Site("m", 4)
    vector.metadata["hook_name"] = "blocks.1.hook_resid_pre"
    assert Site.of(vector) == Site("m", 1)
    assert Site.of(suture.Probe(np.ones(3), 0.0)) == Site()


# -- Transfers and files -------------------------------------------------------------------------


def stitch() -> suture.Stitch:
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=size) for size in [(D, D), (D,), (D, D), (D,)]]
    names = {"model_a": "EleutherAI/pythia-70m", "model_b": "EleutherAI/pythia-160m"}
    return suture.Stitch(*weights, metadata=names | {"layer_a": 4, "layer_b": 7})


def probe(metadata: dict[str, Any]) -> suture.Probe:
    return suture.Probe(np.ones(D), 0.0, metadata=metadata)


def sae(metadata: dict[str, Any]) -> suture.SAE:
    made = suture.SAE.init(D, 12, k=2)
    made.metadata = metadata
    return made


def vector(metadata: dict[str, Any]) -> suture.SteeringVector:
    return suture.SteeringVector(np.ones(D), 1.0, mean=np.ones(D), metadata=metadata)


MAKERS = [sae, probe, vector]


@pytest.mark.parametrize("make", MAKERS)
def test_there_and_back_through_files(make: Callable[..., Any], tmp_path: Path) -> None:
    names = {"model_name": "pythia-70m", "hook_name": "blocks.3.hook_resid_post"}
    make(names).save(tmp_path / "thing")
    thing = type(make({})).load(tmp_path / "thing")
    moved = stitch().transfer(thing)
    assert moved.metadata["hook_name"] == "blocks.7.hook_resid_pre"
    assert moved.metadata["model_name"] == "EleutherAI/pythia-160m"
    assert moved.metadata["transferred_from"].items() >= names.items()
    moved.save(tmp_path / "moved")
    back = stitch().transfer(type(make({})).load(tmp_path / "moved"), "down")
    assert Site.of(back) == Site("EleutherAI/pythia-70m", 4)


@pytest.mark.parametrize("make", MAKERS)
def test_insisting(make: Callable[..., Any]) -> None:
    thing = make({"model_name": "my-model", "hook_name": "my hook"})
    with pytest.raises(ValueError, match="comes from model my-model, expected EleutherAI"):
        stitch().transfer(thing)
    with pytest.raises(ValueError, match="comes from model my-model, expected EleutherAI"):
        stitch().transfer(thing, site="layers.3")
    moved = stitch().transfer(thing, site=Site("pythia-70m", 4))
    assert moved.metadata["transferred_from"] == {
        "model_name": "my-model", "hook_name": "my hook", "site": "blocks.4.hook_resid_pre",
    }  # fmt: skip
    assert thing.metadata == {"model_name": "my-model", "hook_name": "my hook"}


def test_a_centred_stream_is_another() -> None:
    names = {"model_name": "pythia-70m", "hook_name": "blocks.4.hook_resid_pre"}
    for loading, count in (
        ({"center_writing_weights": True}, 1),
        ({"fold_ln": True}, 0),
        (None, 0),
    ):
        thing = sae(names | {"model_from_pretrained_kwargs": loading})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            moved = stitch().transfer(thing)
        assert [w.category for w in caught] == [suture.SutureWarning] * count
        assert "model_from_pretrained_kwargs" not in moved.metadata


def test_fits_know_where_activations_are_from(rng: np.random.Generator) -> None:

    def acts(layer: int, model: str) -> suture.Activations:
        rows = rng.normal(size=(200, D)).astype(np.float32)
        return suture.Activations(
            {layer: rows},
            token_ids=np.zeros(200, np.int32),
            metadata={"model": model, "n_layers": 12},
        )

    a, b = acts(4, "pythia-70m"), acts(7, "pythia-160m")
    found = suture.Stitch.fit(a, b, metadata={"layer_b": 6, "note": "x"}).metadata
    assert [found[key] for key in ("model_a", "layer_a", "model_b", "note")] == [
        "pythia-70m", 4, "pythia-160m", "x",
    ]  # fmt: skip
    assert found["layer_b"] == 6
    assert found["n_layers_a"] == 12
    assert Site.of(suture.SteeringVector.fit(a, np.zeros((1, D)))) == Site("pythia-70m", 4)
    assert "model_a" not in suture.Stitch.fit(a[4], b[7]).metadata
    # A class is no model's name.
    nameless = suture.Stitch.fit(acts(4, "GPTNeoXForCausalLM"), acts(7, "GPT2LMHeadModel")).metadata
    assert "model_a" not in nameless
    assert "model_b" not in nameless
    assert nameless["layer_b"] == 7


@pytest.mark.parametrize(
    "name", ["blocks.4.hook_resid_pre", "blocks.3.hook_resid_post", "model.layers.3", "h.3"]
)
def test_control_vectors_go_where_they_came_from(name: str, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    made = vector({"hook_name": name})
    made.save(tmp_path / "v.gguf", "gguf")
    (tensor,) = gguf.GGUFReader(tmp_path / "v.gguf").tensors
    assert tensor.name == "direction.3"  # added to the output of block 3
    back = suture.SteeringVector.load(tmp_path / "v.gguf")
    assert back.metadata["hook_name"] == "blocks.4.hook_resid_pre"
    again = suture.SteeringVector.load(tmp_path / "v.gguf", layer=name)
    assert again.metadata == back.metadata
    # A layer given by any of its names.
    for layer in (name, Site.parse(name), 4):
        vector({}).save(tmp_path / "w.gguf", "gguf", layer=layer)
        (tensor,) = gguf.GGUFReader(tmp_path / "w.gguf").tensors
        assert tensor.name == "direction.3"


def test_a_control_vectors_file_rules_over_older_names(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    made = vector({"model_name": "pythia-70m", "hookpoint": "layers.8", "model_hint": "gptneox"})
    made.save(tmp_path / "v.gguf", "gguf", layer=4)
    back = suture.SteeringVector.load(tmp_path / "v.gguf")
    assert Site.of(back) == Site("pythia-70m", 4)
    # The hint is of the old model, so it goes to the origin.
    moved = stitch().transfer(back, acts=np.ones((3, D)))
    moved.save(tmp_path / "w.gguf", "gguf")
    reader = gguf.GGUFReader(tmp_path / "w.gguf")
    assert reader.tensors[0].name == "direction.6"
    hint = reader.get_field("controlvector.model_hint").contents()
    assert hint == "EleutherAI/pythia-160m"


# -- The command line ----------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stitch().save(tmp_path / "stitch.safetensors")
    sae({"hook_name": "blocks.4.hook_mlp_out"}).save(tmp_path / "sae")
    call = [
        "transfer",
        tmp_path / "stitch.safetensors",
        tmp_path / "sae",
        "--out",
        tmp_path / "out",
    ]
    assert main([*map(str, call), "--quiet"]) == 1
    assert "mlp_out of block 4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    found = run(capsys, *call, "--site", "transformer.h.3")
    assert found["metadata"]["hook_name"] == "blocks.7.hook_resid_pre"
    assert main([*map(str, call), "--site", "nowhere", "--quiet"]) == 1
    assert "site" in capsys.readouterr().err

    vector({"hook_name": "blocks.3.hook_resid_post"}).save(tmp_path / "v.safetensors")
    steer = [
        "steer",
        "--use",
        tmp_path / "v.safetensors",
        "--stitch",
        tmp_path / "stitch.safetensors",
    ]
    assert run(capsys, *steer)["metadata"]["hook_name"] == "blocks.7.hook_resid_pre"
    assert main([*map(str, steer), "--site", "blocks.5.hook_resid_pre", "--quiet"]) == 1
    assert "layer 5 (site)" in capsys.readouterr().err


def test_layers_by_name_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from argparse import ArgumentTypeError

    from suture.cli.inputs import layer

    assert layer("4") == layer("blocks.4.hook_resid_pre") == layer("model.layers.3") == 4
    for bad, words in (("here", "here"), ("blocks.4.hook_mlp_out", "residual stream")):
        with pytest.raises(ArgumentTypeError, match=words):
            layer(bad)
    with pytest.raises(SystemExit):
        main(["train", "acts", "--layer", "here", "--out", str(tmp_path / "x")])
    assert "--layer" in capsys.readouterr().err

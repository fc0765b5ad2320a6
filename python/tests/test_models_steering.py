# SPDX-License-Identifier: Apache-2.0
"""steer and generate against models whose residual stream is spliced by hand."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import suture  # noqa: E402
from suture.models import extract, generate, steer, tiny_pair  # noqa: E402
from suture.models._residual import find_blocks  # noqa: E402

D, BLOCKS = 16, 3
MODES = ("clamp", "add", "ablate")
PROMPTS = ["One text.", "Another text, which is longer.", "A"]


@pytest.fixture
def vector(rng: np.random.Generator) -> suture.SteeringVector:
    return suture.SteeringVector(rng.normal(size=D), z_mean=2.5)


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=D, n_layer=BLOCKS, n_head=2, n_positions=64, vocab_size=259, bos_token_id=0,
        eos_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


def llama() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=D, intermediate_size=32, num_hidden_layers=BLOCKS, num_attention_heads=2,
        max_position_embeddings=64, vocab_size=259, bos_token_id=0, eos_token_id=1,
        initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def spliced(
    model: Any, ids: Any, vector: suture.SteeringVector, layer: int, mode: Any, strength: float
) -> Any:
    """Logits with the stream before a layer replaced by what `vector.apply` makes of it."""
    blocks = find_blocks(model)

    def changed(stream: Any) -> Any:
        return torch.from_numpy(vector.apply(stream.detach(), mode, strength))

    def before(_: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed(kwargs["hidden_states"])}

    def after(_: Any, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (changed(output[0]), *output[1:])
        return changed(output)

    if layer < BLOCKS:
        handle = blocks[layer].register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = blocks[-1].register_forward_hook(after)
    try:
        with torch.no_grad():
            return model(ids).logits
    finally:
        handle.remove()


@pytest.mark.parametrize(
    "make", [lambda: tiny_pair()[0], gpt2, llama], ids=["neox", "gpt2", "llama"]
)
@pytest.mark.parametrize("layer", [0, 1, BLOCKS])
@pytest.mark.parametrize("mode", MODES)
def test_logits_are_those_of_a_spliced_stream(
    make: Any, layer: int, mode: Any, vector: suture.SteeringVector
) -> None:
    model = make()
    ids = torch.randint(3, 259, (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(ids).logits
        with steer(model, vector, layer, mode, 1.5):
            steered = model(ids).logits
        again = model(ids).logits
    expected = spliced(model, ids, vector, layer, mode, 1.5)
    # <h, v> is summed in float32 here and in float64 there.
    torch.testing.assert_close(steered, expected, atol=2e-5, rtol=1e-4)
    assert (steered - plain).abs().max() > 1e-2
    torch.testing.assert_close(again, plain, atol=0, rtol=0)


def test_clamped_streams_lie_where_they_should(
    model: Any, tokenizer: Any, vector: suture.SteeringVector
) -> None:
    with steer(model, vector, 2, strength=2.0):
        acts = extract(model, tokenizer, PROMPTS, 2, progress=False)
    np.testing.assert_allclose(acts[2] @ vector.vector, 5.0, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: tiny_pair()[0], gpt2, llama], ids=["neox", "gpt2", "llama"]
)
def test_generate_with_and_without_a_cache(make: Any, vector: suture.SteeringVector) -> None:
    model = make()
    ids = torch.randint(3, 259, (2, 7), generator=torch.Generator().manual_seed(2))
    options = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 2}
    mask = torch.ones_like(ids)
    with steer(model, vector, 1, "clamp", 2.0):
        cached, slow = (
            model.generate(input_ids=ids, attention_mask=mask, use_cache=use, **options)
            for use in (True, False)
        )
    assert cached.tolist() == slow.tolist()
    plain = model.generate(input_ids=ids, attention_mask=mask, **options)
    assert plain.tolist() != cached.tolist()


def test_left_padded_batches_are_those_of_single_prompts(
    model: Any, tokenizer: Any, vector: suture.SteeringVector
) -> None:
    options = {"max_new_tokens": 10, "temperature": 0.0, "progress": False}
    with steer(model, vector, 1, strength=2.0):
        together = generate(model, tokenizer, PROMPTS, **options)
        single = generate(model, tokenizer, PROMPTS, batch_size=1, **options)
    assert together == single


def test_several_vectors_act_in_order(
    model: Any, vector: suture.SteeringVector, rng: np.random.Generator
) -> None:
    other = suture.SteeringVector(rng.normal(size=D), z_mean=-1.0)
    ids = torch.randint(3, 259, (1, 5))
    seen = {}

    def keep(_: Any, args: Any, kwargs: Any) -> None:
        seen["stream"] = (args[0] if args else kwargs["hidden_states"])[0].detach()

    with torch.no_grad():
        block = find_blocks(model)[1]
        handle = block.register_forward_pre_hook(keep, with_kwargs=True)
        model(ids)
        plain = seen["stream"].numpy()
        handle.remove()
        with steer(model, vector, 1), steer(model, other, 1):
            handle = block.register_forward_pre_hook(keep, with_kwargs=True)
            model(ids)
            handle.remove()
    expected = other.apply(vector.apply(plain))
    np.testing.assert_allclose(seen["stream"].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(expected @ other.vector, -1.0, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_any_element_type(model: Any, vector: suture.SteeringVector, dtype: str) -> None:
    model = model.to(getattr(torch, dtype))
    ids = torch.randint(3, 259, (1, 5))
    seen = {}

    def keep(_: Any, args: Any, output: Any) -> None:
        seen["stream"] = output[0] if isinstance(output, tuple) else output

    with torch.no_grad(), steer(model, vector, BLOCKS):
        handle = find_blocks(model)[-1].register_forward_hook(keep)
        model(ids)
        handle.remove()
    stream = seen["stream"]
    assert stream.dtype == getattr(torch, dtype)
    # A unit in the last place of bfloat16 at the size of the stream.
    along = stream.double().numpy() @ vector.vector.astype(np.float64)
    np.testing.assert_allclose(along, 2.5, atol=0.1)


def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_gone_after_an_error(model: Any, vector: suture.SteeringVector) -> None:
    for layer in (1, BLOCKS):
        seen = []
        with contextlib.suppress(ZeroDivisionError), steer(model, vector, layer):
            seen.append(hooks(model))
            raise ZeroDivisionError
        assert seen[0] > 0
        assert hooks(model) == 0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"layer": 4}, ValueError, ["layer: 4", "expected 0 to 3"]),
        ({"layer": -1}, ValueError, ["layer: -1", "expected 0 to 3"]),
        ({"layer": 1.0}, TypeError, ["layer: 1.0", "expected an integer"]),
        ({"mode": "set"}, ValueError, ["mode: 'set'", "clamp, add, ablate"]),
        ({"strength": float("nan")}, ValueError, ["strength is nan", "expected a finite number"]),
        ({"strength": "1"}, TypeError, ["strength is '1'", "expected a number"]),
        ({"vector": np.ones(D)}, TypeError, ["vector", "ndarray", "suture.SteeringVector"]),
        (
            {"vector": suture.SteeringVector(np.ones(5), 1.0)},
            ValueError,
            ["vector: d = 5", "expected 16"],
        ),
        ({"model": torch.nn.Linear(2, 2)}, TypeError, ["model: Linear", "transformers model"]),
    ],
)
def test_bad_arguments_of_steer(
    model: Any, vector: suture.SteeringVector, change: Any, error: Any, words: list[str]
) -> None:
    """Before the block begins, and without a hook left."""
    with pytest.raises(error) as caught:
        steer(**{"model": model, "vector": vector, "layer": 1} | change)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert hooks(model) == 0


def test_sampling_is_seeded_and_leaves_the_random_state_alone(model: Any, tokenizer: Any) -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        generate(model, tokenizer, PROMPTS, max_new_tokens=8, seed=seed, progress=False)
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again != other
    assert len(first) == len(PROMPTS)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"prompts": "one"}, TypeError, ["prompts: str", "expected a list of texts"]),
        ({"prompts": []}, ValueError, ["prompts: empty"]),
        ({"prompts": ["a", 3]}, TypeError, ["prompts[1]: int", "expected a text"]),
        ({"prompts": ["a" * 60]}, ValueError, ["prompts[0]: 61 tokens", "expected at most 54"]),
        ({"max_new_tokens": 0}, ValueError, ["max_new_tokens: 0", "at least 1"]),
        ({"min_new_tokens": 11}, ValueError, ["min_new_tokens: 11", "max_new_tokens = 10"]),
        ({"temperature": -1}, ValueError, ["temperature", "-1"]),
        ({"top_p": 0}, ValueError, ["top_p", "0"]),
        ({"batch_size": 0}, ValueError, ["batch_size: 0"]),
        ({"seed": -1}, ValueError, ["seed: -1"]),
        ({"tokenizer": None}, TypeError, ["tokenizer: NoneType", "transformers tokenizer"]),
    ],
)
def test_bad_arguments_of_generate(
    model: Any, tokenizer: Any, change: Any, error: Any, words: list[str]
) -> None:
    good = {"model": model, "tokenizer": tokenizer, "prompts": ["a"], "max_new_tokens": 10}
    with pytest.raises(error) as caught:
        generate(**good | change)
    assert all(word in str(caught.value) for word in words), str(caught.value)

# SPDX-License-Identifier: Apache-2.0
"""steer(rows=…): which positions of a running model are steered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import architectures  # noqa: E402

import suture  # noqa: E402
from suture.models import extract, generate, steer  # noqa: E402
from suture.models._residual import find_blocks  # noqa: E402

D, LAYER, BOS, PAD = 16, 1, 0, 2
GREEDY: dict[str, Any] = {"do_sample": False, "pad_token_id": PAD, "output_logits": True}


@pytest.fixture
def vector(rng: np.random.Generator) -> suture.SteeringVector:
    return suture.SteeringVector(rng.normal(size=D), z_mean=25.0)


@contextmanager
def watched(model: Any) -> Iterator[list[Any]]:
    """What block LAYER is given, pass by pass, behind the steering."""
    seen: list[Any] = []

    def keep(_: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).detach().clone())

    handle = find_blocks(model)[LAYER].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def steered(
    model: Any, vector: suture.SteeringVector, rows: Any, call: Callable[[], Any], **more: Any
) -> list[Any]:
    """Truth values (batch, position) of the rows that lie at 25 along the vector, by pass."""
    unit = torch.from_numpy(np.array(vector.vector))
    with torch.no_grad(), steer(model, vector, LAYER, rows=rows, **more), watched(model) as seen:
        call()
    return [((stream @ unit) - 25.0).abs().lt(1e-3).int().tolist() for stream in seen]


def ids_of(*rows: list[int]) -> Any:
    return torch.tensor(rows)


def test_every_position_by_default(model: Any, vector: suture.SteeringVector) -> None:
    ids = ids_of([BOS, 5, 6], [7, 8, PAD])
    assert steered(model, vector, None, lambda: model(ids)) == [[[1, 1, 1], [1, 1, 1]]]
    every = suture.Rows.all()
    assert steered(model, vector, every, lambda: model(ids)) == [[[1, 1, 1], [1, 1, 1]]]


def test_tokens_are_left_alone_however_the_model_is_called(
    model: Any, vector: suture.SteeringVector
) -> None:
    ids = ids_of([BOS, 5, 6, 9], [7, 9, 8, PAD])
    rows = suture.Rows(leave_out=[9], norm_bound=None)
    expected = [[[0, 1, 1, 0], [1, 0, 1, 0]]]
    for call in (
        lambda: model(ids),
        lambda: model(input_ids=ids),
        lambda: model(attention_mask=torch.ones_like(ids), input_ids=ids),
        lambda: model.base_model(ids),
        lambda: model.base_model(input_ids=ids, use_cache=False),
    ):
        assert steered(model, vector, rows, call) == expected
    special = suture.Rows(special=True, leave_out=[9], norm_bound=None)
    assert steered(model, vector, special, lambda: model(ids)) == [[[1, 1, 1, 0], [1, 0, 1, 1]]]


def test_other_rows_keep_their_bits(model: Any, vector: suture.SteeringVector) -> None:
    ids = ids_of([BOS, 5, 6, 9])
    with torch.no_grad(), watched(model) as seen:
        model(ids)
        with steer(model, vector, LAYER, rows=suture.Rows(leave_out=[9])):
            handle = find_blocks(model)[LAYER].register_forward_pre_hook(
                lambda _, a, k: seen.append((a[0] if a else k["hidden_states"]).clone()),
                with_kwargs=True,
            )
            model(ids)
            handle.remove()
    assert torch.equal(seen[0][:, [0, 3]], seen[-1][:, [0, 3]])
    assert not torch.allclose(seen[0][:, 1:3], seen[-1][:, 1:3])


def test_chat_markers_of_the_tokenizer(
    model: Any, tokenizer: Any, vector: suture.SteeringVector
) -> None:
    class Marked:
        all_special_ids = (BOS,)
        added_tokens_decoder = {  # noqa: RUF012
            9: transformers.AddedToken("<turn>", special=True),
            8: transformers.AddedToken("word", special=False),
        }

    ids = ids_of([BOS, 9, 8, 7])
    call = lambda: model(ids)  # noqa: E731
    rows = suture.Rows(norm_bound=None)
    assert steered(model, vector, rows, call, tokenizer=Marked()) == [[[0, 0, 1, 1]]]
    assert steered(model, vector, rows, call) == [[[0, 1, 1, 1]]]


def test_first_positions_do_not_count_padding(model: Any, vector: suture.SteeringVector) -> None:
    rows = suture.Rows(special=True, norm_bound=None, skip_positions=2)
    ids = ids_of([PAD, PAD, 5, 6, 7], [4, 5, 6, 7, 8])
    mask = ids_of([0, 0, 1, 1, 1], [1, 1, 1, 1, 1])
    found = steered(model, vector, rows, lambda: model(ids, attention_mask=mask))
    assert found == [[[0, 0, 0, 0, 1], [0, 0, 1, 1, 1]]]
    assert steered(model, vector, rows, lambda: model(ids))[0][0] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("padded", ["left", "right", "not"])
def test_last_of_a_plain_pass(model: Any, vector: suture.SteeringVector, padded: str) -> None:
    rows = suture.Rows(positions="last", norm_bound=None)
    if padded == "not":
        found = steered(model, vector, rows, lambda: model(ids_of([4, 5, 6, BOS])))
        assert found == [[[0, 0, 1, 0]]]
        return
    short = [PAD, PAD, 5, 6] if padded == "left" else [5, 6, PAD, PAD]
    ids = ids_of(short, [4, 5, 6, 7])
    mask = (ids != PAD).long()
    found = steered(model, vector, rows, lambda: model(ids, attention_mask=mask))
    assert found == [[[0, 0, 0, 1] if padded == "left" else [0, 1, 0, 0], [0, 0, 0, 1]]]


@pytest.mark.parametrize("positions", ["all", "last", "generated"])
def test_generation_is_the_same_with_and_without_a_cache(
    model: Any, vector: suture.SteeringVector, positions: Any
) -> None:
    rows = suture.Rows(positions=positions, special=True, norm_bound=None)
    ids = ids_of([PAD, PAD, 5, 6], [4, 5, 6, 7])
    mask = ids_of([0, 0, 1, 1], [1, 1, 1, 1])
    made, shown = [], []
    for use_cache in (True, False):
        shown.append(
            steered(
                model, vector, rows,
                lambda use=use_cache: made.append(
                    model.generate(
                        ids, attention_mask=mask, max_new_tokens=4, min_new_tokens=4,
                        use_cache=use, return_dict_in_generate=True, **GREEDY,
                    )
                ),
            )
        )  # fmt: skip
    cached, slow = shown
    prompt = {"all": [1, 1, 1, 1], "last": [0, 0, 0, 1], "generated": [0, 0, 0, 0]}[positions]
    assert cached == [[prompt, prompt], *[[[1], [1]]] * 3]
    assert slow == [[prompt + [1] * n] * 2 for n in range(4)]
    assert made[0].sequences.tolist() == made[1].sequences.tolist()
    for one, other in zip(made[0].logits, made[1].logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", ["mamba", "rwkv", "recurrent_gemma"])
@pytest.mark.parametrize("positions", ["last", "generated"])
def test_recurrent_caches(kind: str, positions: Any) -> None:
    """Some do not say how many tokens they hold, and their models are given no mask with them."""
    model = architectures.build(kind)
    vector = suture.SteeringVector(np.eye(architectures.WIDTH)[3], z_mean=25.0)
    rows = suture.Rows(positions=positions, special=True, norm_bound=None, skip_positions=1)
    made, ids = [], ids_of([5, 6, 7, 8])
    for use_cache in (True, False):
        found = steered(
            model, vector, rows,
            lambda use=use_cache: made.append(
                model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, min_new_tokens=4,
                    use_cache=use, return_dict_in_generate=True, **GREEDY,
                )
            ),
        )  # fmt: skip
        width = [1, 1, 1] if use_cache else [5, 6, 7]
        assert [len(one[0]) for one in found[1:]] == width
        assert all(one[0][-1] == 1 for one in found[1:])
        assert found[0][0] == ([0, 0, 0, 1] if positions == "last" else [0, 0, 0, 0])
    for one, other in zip(made[0].logits, made[1].logits, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_beams_without_a_cache(model: Any, vector: suture.SteeringVector) -> None:
    rows = suture.Rows(positions="generated", special=True, norm_bound=None)
    found = steered(
        model, vector, rows,
        lambda: model.generate(
            ids_of([4, 5, 6], [7, 8, 9]), attention_mask=torch.ones(2, 3), num_beams=3,
            max_new_tokens=3, min_new_tokens=3, use_cache=False, do_sample=False, pad_token_id=PAD,
        ),
    )  # fmt: skip
    assert [set(map(tuple, one)) for one in found] == [
        {(0, 0, 0)}, {(0, 0, 0, 1)}, {(0, 0, 0, 1, 1)},
    ]  # fmt: skip


def test_a_second_prompt_is_a_prompt(model: Any, vector: suture.SteeringVector) -> None:
    rows = suture.Rows(positions="generated", special=True)

    def twice() -> None:
        for prompt in ([4, 5, 6], [4, 5, 6, 7]):
            model.generate(ids_of(prompt), attention_mask=torch.ones(1, len(prompt)),
                           max_new_tokens=2, min_new_tokens=2, **GREEDY)  # fmt: skip

    assert steered(model, vector, rows, twice) == [[[0, 0, 0]], [[1]], [[0, 0, 0, 0]], [[1]]]


def test_rows_of_enormous_norm_are_left_alone(model: Any, vector: suture.SteeringVector) -> None:
    with torch.no_grad():
        model.gpt_neox.embed_in.weight[9] *= 1000
    ids = ids_of([BOS, 9, 5, 6, 7, 8], [BOS, 5, 9, 6, 7, 8])
    rows = suture.Rows(special=True)
    found = steered(model, vector, rows, lambda: model(ids))
    assert found == [[[1, 0, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1]]]
    # The bound is the prompt's: a token that is generated is held against it.
    cached = steered(model, vector, rows, lambda: forced(model, ids))
    assert [row for one in cached for row in one[0]] == [1, 0, 1, 1, 1, 1]


def forced(model: Any, ids: Any) -> None:
    """The first four tokens as a prompt, then one by one through a cache."""
    past = model(ids[:, :4], use_cache=True).past_key_values
    for place in range(4, ids.shape[1]):
        past = model(ids[:, place : place + 1], past_key_values=past).past_key_values


def test_generate_and_extract_within(
    model: Any, tokenizer: Any, vector: suture.SteeringVector
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 8, "temperature": 0.0, "progress": False}
    prompts = ["One text.", "A"]
    plain = generate(model, tokenizer, prompts, **options)
    rows = suture.Rows(positions="generated")
    with steer(model, vector, LAYER, rows=rows, tokenizer=tokenizer):
        together = generate(model, tokenizer, prompts, **options)
        single = generate(model, tokenizer, prompts, batch_size=1, **options)
        acts = extract(model, tokenizer, prompts, LAYER, progress=False)
    assert together == single != plain
    # The first new token is decided before anything is generated.
    assert [text[:1] for text in together] == [text[:1] for text in plain]
    wanted = extract(model, tokenizer, prompts, LAYER, progress=False)
    np.testing.assert_array_equal(acts[LAYER], wanted[LAYER])


def test_what_a_pass_does_not_tell_is_an_error(model: Any, vector: suture.SteeringVector) -> None:
    embeds = model.gpt_neox.embed_in(ids_of([4, 5, 6])).detach()
    no_ids = suture.Rows(leave_out=[9], norm_bound=None)
    with pytest.raises(ValueError, match=r"rows.leave_out: the token ids of this pass are not kno"):
        steered(model, vector, no_ids, lambda: model(inputs_embeds=embeds))
    # Ids of an earlier pass are not taken for those of this one.
    with pytest.raises(ValueError, match=r"rows.leave_out: .*inputs_embeds"):
        steered(
            model, vector, no_ids,
            lambda: (model(ids_of([4, 5, 6])), model(inputs_embeds=embeds)),
        )  # fmt: skip
    free = suture.Rows(special=True, norm_bound=None)
    assert steered(model, vector, free, lambda: model(inputs_embeds=embeds)) == [[[1, 1, 1]]]

    def turns() -> None:
        past = model(ids_of([4, 5]), use_cache=True).past_key_values
        model(ids_of([6, 7]), past_key_values=past)

    with pytest.raises(ValueError, match=r"'generated', and 2 tokens come in one pass after 2"):
        steered(model, vector, suture.Rows(positions="generated"), turns)
    assert steered(model, vector, suture.Rows(), turns) == [[[1, 1]], [[1, 1]]]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([True], TypeError, "rows: list, expected suture.Rows or None"),
        (suture.Rows(mask=[True]), ValueError, "rows.mask is given, expected None"),
        (suture.Rows(leave_out=[259]), ValueError, "rows.leave_out has 259, expected 0 to 258"),
    ],
)
def test_bad_rows(
    model: Any, vector: suture.SteeringVector, rows: Any, error: Any, words: str
) -> None:
    with pytest.raises(error, match=words):
        steer(model, vector, LAYER, rows=rows)
    with pytest.raises(TypeError, match="tokenizer: int, expected a transformers tokenizer"):
        steer(model, vector, LAYER, rows=suture.Rows(), tokenizer=3)

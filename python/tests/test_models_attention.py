# SPDX-License-Identifier: Apache-2.0
"""deactivation_scores and ablate_paths against the models' own attention, with edited queries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import suture  # noqa: E402
from suture.models import ablate_paths, deactivation_scores, extract, tiny_pair  # noqa: E402

D, HEADS, D_HEAD, BLOCKS, BOS = 16, 2, 8, 4, 1
KINDS = ("gpt_neox", "gpt_neox sequential", "gpt2", "gpt2 scaled")


def build(kind: str) -> Any:
    """A random model whose layer norms have random gains and biases, with the eager attention
    that returns its probabilities."""
    torch.manual_seed(7)
    shared = {"initializer_range": 0.3, "bos_token_id": BOS, "eos_token_id": 2, "vocab_size": 60}
    if kind.startswith("gpt2"):
        config = transformers.GPT2Config(
            n_embd=D, n_layer=BLOCKS, n_head=HEADS, n_positions=32,
            scale_attn_by_inverse_layer_idx=kind.endswith("scaled"),
            **shared,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.GPTNeoXConfig(
            hidden_size=D, intermediate_size=32, num_hidden_layers=BLOCKS,
            num_attention_heads=HEADS, max_position_embeddings=32,
            use_parallel_residual=not kind.endswith("sequential"),
            # Half of a head is rotated in one kind, all of it in the other.
            rope_parameters={
                "rope_type": "default",
                "rope_theta": 100.0,
                "partial_rotary_factor": 1.0 if kind.endswith("sequential") else 0.5,
            },
            **shared,
        )  # fmt: skip
        model = transformers.GPTNeoXForCausalLM(config)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, 1, 0.4)
            torch.nn.init.normal_(module.bias, 0, 0.4)
    for name, parameter in model.named_parameters():
        if name.endswith(("query_key_value.bias", "c_attn.bias")):
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.set_attn_implementation("eager")
    return model.eval()


def parts(model: Any, layer: int) -> tuple[Any, Any]:
    """The layer norm and the projection to queries, keys and values of a block."""
    if hasattr(model, "gpt_neox"):
        block = model.gpt_neox.layers[layer]
        return block.input_layernorm, block.attention.query_key_value
    block = model.transformer.h[layer]
    return block.ln_1, block.attn.c_attn


def query_columns(model: Any, head: int) -> slice:
    """Which outputs of the projection are the query of a head."""
    start = head * 3 * D_HEAD if hasattr(model, "gpt_neox") else head * D_HEAD
    return slice(start, start + D_HEAD)


def random_sae(seed: int = 0, d: int = D, d_sae: int = 24, k: int = 6, **more: Any) -> suture.SAE:
    random = np.random.default_rng(seed)
    return suture.SAE(
        W_enc=random.normal(size=(d, d_sae)),
        b_enc=random.normal(size=d_sae),
        W_dec=random.normal(size=(d_sae, d)),
        b_dec=random.normal(size=d),
        k=k,
        **more,
    )


def sequences(seed: int = 5) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[BOS, *random.integers(3, 60, n).tolist()] for n in (9, 4, 14, 7)]


def attention(model: Any, ids: list[int]) -> Any:
    """(layer, head, query, key) probabilities of the model itself."""
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_attentions=True, use_cache=False)
    return torch.stack(out.attentions)[:, 0]


def edited_p_bos(model: Any, ids: list[int], path: Any, token: int, taken: Any) -> float:
    """p(BOS) of a head at a token, in a whole run of the model in which the query of that head
    at that token was computed from the residual stream without `taken`."""
    _, layer, head = path
    norm, projection = parts(model, layer)
    columns = query_columns(model, head)
    seen = {}

    def keep(_: Any, args: Any) -> None:
        seen["stream"] = args[0]

    def edit(module: Any, args: Any, output: Any) -> Any:
        new = output.clone()
        row = torch.nn.LayerNorm.forward(norm, seen["stream"][:, token] - taken)
        new[:, token, columns] = type(module).forward(module, row[:, None])[:, 0, columns]
        return new

    handles = [norm.register_forward_pre_hook(keep), projection.register_forward_hook(edit)]
    try:
        return float(attention(model, ids)[layer, head, token, 0])
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rescale", [False, True])
def test_path_ablation_is_a_run_with_an_edited_query(kind: str, rescale: bool) -> None:
    model, ids = build(kind), sequences()
    sae = random_sae(rescale_by_decoder_norm=rescale)
    codes = sae.encode(extract(model, None, ids, 1)[1])
    activations = codes.to_dense()
    features = np.argsort(-(activations > 0).sum(axis=0))[:3]
    paths = [
        (int(feature), layer, head)
        for feature, layer, head in zip(features, (1, 2, 3), (0, 1, 0), strict=True)
    ]
    # The same head for two features, and a feature for two heads.
    paths += [(paths[0][0], 2, 1), (paths[1][0], 2, 0)]
    found = ablate_paths(model, sae, 1, paths, ids, batch_size=3)
    divisor = np.linalg.norm(sae.W_dec, axis=1) if rescale else np.ones(sae.d_sae)
    moved = 0.0
    for path, result in zip(paths, found, strict=True):
        assert (result.feature, result.layer, result.head) == path
        rows = np.flatnonzero(activations[:, path[0]])
        np.testing.assert_array_equal(result.rows, rows)
        # Other batches than extract's, so other roundings of the same rows.
        np.testing.assert_allclose(result.activation, activations[rows, path[0]], rtol=1e-5)
        assert len(rows) > 3
        for row, activation, before, change in zip(
            rows, result.activation, result.p_bos, result.change, strict=True
        ):
            starts = np.cumsum([0] + [len(s) - 1 for s in ids])
            number = int(np.searchsorted(starts, row, side="right")) - 1
            token = int(row - starts[number]) + 1
            unit = torch.from_numpy(sae.W_dec[path[0]] / divisor[path[0]]).float()
            clean = float(attention(model, ids[number])[path[1], path[2], token, 0])
            after = edited_p_bos(model, ids[number], path, token, float(activation) * unit)
            # Both float32; probabilities of logits up to some tens.
            assert before == pytest.approx(clean, abs=2e-5)
            assert change == pytest.approx(after - clean, abs=4e-5)
            moved = max(moved, abs(after - clean))
    assert moved > 0.05


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [None, 3])
def test_scores_are_the_formula_written_out(kind: str, distance: int | None) -> None:
    model, ids = build(kind), sequences()
    sae = random_sae()
    found = deactivation_scores(model, sae, 1, ids, distance=distance, batch_size=3)
    at = 5 if distance is None else distance  # the median of 1 to 9, 1 to 4, 1 to 14, 1 to 7
    assert found.distance == at
    assert found.scores.shape == (24, 3, HEADS)
    expected = np.zeros(found.scores.shape)
    for layer in (1, 2, 3):
        norm, projection = parts(model, layer)
        rows, keys = [], []
        for sequence in ids:
            with torch.no_grad():
                out = model(torch.tensor([sequence]), use_cache=True, output_hidden_states=True)
            rows.append(out.hidden_states[layer][0, 1:])
            # The cache holds keys after the rotation.
            keys.append(out.past_key_values.layers[layer].keys[0, :, 0])
        stream = torch.cat(rows)
        scale = (1 / torch.sqrt(stream.var(dim=1, unbiased=False) + norm.eps)).mean()
        step = torch.from_numpy(np.array(sae.W_dec))
        step = (step - step.mean(dim=1, keepdim=True)) * scale * norm.weight.detach()
        with torch.no_grad():
            queries = projection(step[None]) - projection(torch.zeros(1, 1, D))
        key = torch.stack(keys).mean(dim=0)
        for head in range(HEADS):
            query = queries[..., query_columns(model, head)][:, None]
            if hasattr(model, "gpt_neox"):
                from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

                places = torch.full((1, query.shape[2]), at)
                cos, sin = model.gpt_neox.rotary_emb(query, places)
                query, _ = apply_rotary_pos_emb(query, query, cos, sin)
            factor = D_HEAD**-0.5 / (layer + 1 if kind == "gpt2 scaled" else 1)
            expected[:, layer - 1, head] = (query[0, 0] @ key[head] * factor).numpy()
            np.testing.assert_allclose(found.keys[layer - 1, head], key[head], atol=1e-5)
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-5)
    own = torch.cat([attention(model, s)[1:, :, 1:, 0] for s in ids], dim=2).mean(dim=2)
    np.testing.assert_allclose(found.p_bos, own, atol=1e-5)
    assert found.score(3, 2, 1) == found.scores[3, 1, 1]


def test_a_score_foretells_the_first_change() -> None:
    """On a sequence of two tokens the change of log p(BOS)/p(self) for a small activation is the
    score, less the same product with the token's own key, where the step does not change the scale
    of the layer norm."""
    model = build("gpt2")
    ids = [[BOS, 20]]
    row = torch.from_numpy(extract(model, None, ids, 1)[1])[0]
    centred = row - row.mean()
    direction = torch.randn(D, generator=torch.Generator().manual_seed(3))
    direction -= centred * (direction @ centred) / (centred @ centred)
    encoder = centred / (centred @ centred) * 0.001  # a small activation
    sae = suture.SAE(
        W_enc=encoder[:, None].numpy(), b_enc=np.zeros(1), W_dec=direction[None].numpy(),
        b_dec=np.zeros(D), k=1,
    )  # fmt: skip
    found = deactivation_scores(model, sae, 1, ids)
    norm, projection = parts(model, 1)
    with torch.no_grad():
        own_keys = projection(norm(row[None, None]))[0, 0, D : 2 * D].reshape(HEADS, D_HEAD)
        step = norm.weight * (direction - direction.mean()) / torch.sqrt(row.var(unbiased=False))
        query = projection(step[None, None]) - projection(torch.zeros(1, 1, D))
    for head in range(HEADS):
        to_self = float(query[0, 0, query_columns(model, head)] @ own_keys[head]) * D_HEAD**-0.5
        (result,) = ablate_paths(model, sae, 1, [(0, 1, head)], ids)
        slope = float(result.p_bos[0] * (1 - result.p_bos[0]))
        expected = -result.activation[0] * slope * (found.scores[0, 0, head] - to_self)
        # First order in a step of 0.001, of float32 probabilities near 0.5.
        assert result.change[0] == pytest.approx(expected, rel=0.02, abs=3e-7)


def test_batches_and_the_model_without_head_change_nothing() -> None:
    model, ids, sae = build("gpt_neox"), sequences(), random_sae()
    paths = [(0, 1, 0), (1, 3, 1)]
    for other in (model, model.base_model):
        for size in (1, 4):
            scores = deactivation_scores(other, sae, 1, ids, batch_size=size)
            changes = ablate_paths(other, sae, 1, paths, ids, batch_size=size)
            if other is model and size == 1:
                first = scores, changes
            np.testing.assert_allclose(scores.scores, first[0].scores, rtol=1e-4, atol=1e-5)
            for one, two in zip(changes, first[1], strict=True):
                np.testing.assert_array_equal(one.rows, two.rows)
                np.testing.assert_allclose(one.change, two.change, atol=1e-5)


def test_strongest() -> None:
    model, ids, sae = build("gpt_neox"), sequences(), random_sae()
    found = deactivation_scores(model, sae, 2, ids)
    flat = found.scores.reshape(len(found.scores), -1)
    for sign, size in (("positive", flat), ("negative", -flat), ("both", abs(flat))):
        best = found.strongest(4, sign=sign)
        values = [found.score(*path) for path in best]
        heights = np.sort(size.max(axis=1))[::-1]
        expected = [h for h in heights[:4] if h > 0]
        np.testing.assert_allclose(values if sign == "positive" else np.abs(values), expected)
        assert all(path.layer in (2, 3) for path in best)
        assert len({path.feature for path in best}) == len(best)
    assert {path.feature for path in found.strongest(9, features=[3, 1, 3])} == {1, 3}
    assert found.strongest(2, features=[]) == []
    sink = float(found.p_bos.max())
    heads = {(path.layer - 2, path.head) for path in found.strongest(24, least_p_bos=sink)}
    assert heads == {divmod(int(found.p_bos.argmax()), HEADS)}
    assert found.strongest(24, least_p_bos=1.0) == []


def test_first_position_in_place_of_bos() -> None:
    model, sae = build("gpt2"), random_sae()
    ids = [s[1:] for s in sequences()]
    for call in (
        lambda **more: deactivation_scores(model, sae, 1, ids, **more),
        lambda **more: ablate_paths(model, sae, 1, [(0, 1, 0)], ids, **more),
    ):
        with pytest.raises(
            ValueError, match=r"sequence 0 begins with token \d+, expected BOS \(1\)"
        ):
            call()
    found = deactivation_scores(model, sae, 1, ids, first_position=True)
    norm, projection = parts(model, 1)
    first = torch.from_numpy(extract(model, None, ids, 1)[1])[[0, 9, 13, 27]]
    with torch.no_grad():
        keys = projection(norm(first)[None])[0, :, D : 2 * D].mean(dim=0).reshape(HEADS, D_HEAD)
    np.testing.assert_allclose(found.keys[0], keys, atol=1e-5)
    # A first position that is text is no query, and still a row of `extract`.
    codes = sae.encode(extract(model, None, ids, 1)[1]).to_dense()
    feature = int((codes > 0).sum(axis=0).argmax())
    (result,) = ablate_paths(model, sae, 1, [(feature, 1, 0)], ids, first_position=True)
    rows = np.flatnonzero(codes[:, feature])
    np.testing.assert_array_equal(result.rows, rows[~np.isin(rows, [0, 9, 13, 27])])
    assert len(result.rows)


def test_texts_begin_with_bos_by_themselves() -> None:
    model, _, tokenizer = tiny_pair()
    sae = random_sae()
    texts = ["some text", "another"]
    found = deactivation_scores(model, sae, 1, texts, tokenizer)
    by_hand = [[0, *tokenizer(text)["input_ids"]] for text in texts]
    same = deactivation_scores(model, sae, 1, by_hand, tokenizer)
    np.testing.assert_array_equal(found.scores, same.scores)
    with pytest.raises(ValueError, match="expected BOS"):
        deactivation_scores(model, sae, 1, texts, tokenizer, prepend_bos=False)
    # Longer than one batch, cut by max_tokens: whole sequences.
    (short,) = ablate_paths(model, sae, 1, [(0, 1, 0)], texts, tokenizer, max_tokens=3)
    assert len(short.rows) == 0 or short.rows.max() < len("some text")


def test_models_are_left_as_found() -> None:
    model, sae, ids = build("gpt_neox"), random_sae(), sequences()
    model.train()
    weights = [p.clone() for p in model.parameters()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    deactivation_scores(model, sae, 1, ids, device="cpu")
    ablate_paths(model, sae, 1, [(0, 1, 0)], ids, device="cpu")
    assert all(m.training for m in model.modules())
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert hooks == after
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
        assert parameter.grad is None
        assert parameter.requires_grad


NEOX, SAE_1, IDS = build("gpt_neox"), random_sae(), sequences()


def nameless() -> Any:
    model = build("gpt2")
    model.config.bos_token_id = None
    return model


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=60, hidden_size=D, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, bos_token_id=BOS, eos_token_id=2,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def norm_sae() -> suture.SAE:
    return random_sae(normalization="layer_norm")


SHARED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"model": llama}, ValueError, r"model: LlamaForCausalLM \(model_type 'llama'\), expected one"),
    ({"model": nameless}, ValueError, "names no BOS token"),
    ({"model": lambda: torch.nn.Linear(2, 2)}, TypeError, "model: Linear, expected a transformers"),
    ({"sae": "sae"}, TypeError, "sae: str, expected a suture.SAE"),
    ({"sae": random_sae(d=12)}, ValueError, "sae: d_in = 12, expected 16"),
    ({"sae": norm_sae()}, ValueError, "sae: normalization 'layer_norm', expected 'none' or"),
    ({"layer": 4}, ValueError, "layer: 4, expected at most 3"),
    ({"layer": 5}, ValueError, "layer: 5, expected 0 to 4"),
    ({"layer": -1}, ValueError, "layer: -1, expected 0 to 4"),
    ({"layer": 1.0}, TypeError, "layer: 1.0, expected an integer"),
    ({"token_ids_or_texts": []}, ValueError, "token_ids_or_texts: empty"),
    ({"token_ids_or_texts": [[1], [1]]}, ValueError, "no token is left of 2 sequences"),
    ({"token_ids_or_texts": [[1, 5], [7, 8]]}, ValueError, "sequence 1 begins with token 7, exp"),
    ({"token_ids_or_texts": [[1, 60]]}, ValueError, "token id 60 in sequence 0"),
    ({"token_ids_or_texts": ["a"]}, ValueError, "tokenizer: None, expected a tokenizer"),
    ({"first_position": 1}, TypeError, "first_position: 1, expected True or False"),
    ({"batch_size": 0}, ValueError, "batch_size: 0, expected at least 1"),
    ({"context": 64}, ValueError, "context: 64, expected at most 32"),
    (
        {"token_ids_or_texts": [[5]], "first_position": True},
        ValueError,
        "no counted token follows a first position",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), SHARED)
@pytest.mark.parametrize("name", ["scores", "paths"])
def test_bad_input(name: str, changes: dict[str, Any], error: Any, message: str) -> None:
    arguments = {"model": NEOX, "sae": SAE_1, "layer": 1, "token_ids_or_texts": IDS} | changes
    if callable(arguments["model"]) and not isinstance(arguments["model"], torch.nn.Module):
        arguments["model"] = arguments["model"]()
    if name == "paths":
        arguments["paths"] = [(0, 3, 0)]
    function = deactivation_scores if name == "scores" else ablate_paths
    with pytest.raises(error, match=message):
        function(**arguments)


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ([], ValueError, "paths: empty, expected a list of"),
        (5, TypeError, "paths: int, expected a list of"),
        ([3], TypeError, r"paths\[0\]: 3, expected \(feature, layer, head\)"),
        ([(0, 1, 0), (1, 2)], TypeError, r"paths\[1\]: \(1, 2\), expected"),
        ([(24, 1, 0)], ValueError, r"paths\[0\].feature: 24, expected 0 to 23"),
        ([(-1, 1, 0)], ValueError, r"paths\[0\].feature: -1, expected 0 to 23"),
        ([(0, 0, 0)], ValueError, r"paths\[0\].layer: 0, expected 1 to 3"),
        ([(0, 4, 0)], ValueError, r"paths\[0\].layer: 4, expected 1 to 3"),
        ([(0, 1, 2)], ValueError, r"paths\[0\].head: 2, expected 0 to 1"),
        ([(0, 1, 0.5)], TypeError, r"paths\[0\].head: 0.5, expected an integer"),
        ([(True, 1, 0)], TypeError, r"paths\[0\].feature: True, expected an integer"),
    ],
)
def test_bad_paths(paths: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        ablate_paths(NEOX, SAE_1, 1, paths, IDS)


def test_bad_distance_and_questions() -> None:
    with pytest.raises(ValueError, match="distance: 32, expected less than 32"):
        deactivation_scores(NEOX, SAE_1, 1, IDS, distance=32)
    with pytest.raises(TypeError, match=r"distance: 1\.5, expected an integer"):
        deactivation_scores(NEOX, SAE_1, 1, IDS, distance=1.5)
    found = deactivation_scores(NEOX, SAE_1, 2, IDS)
    with pytest.raises(ValueError, match="layer: 1, expected 2 to 3"):
        found.score(0, 1, 0)
    with pytest.raises(ValueError, match="n: 0, expected at least 1"):
        found.strongest(0)
    with pytest.raises(ValueError, match="sign is 'up', expected one of"):
        found.strongest(1, sign="up")
    with pytest.raises(ValueError, match="features: from 2 to 24, expected 0 to 23"):
        found.strongest(1, features=[2, 24])
    with pytest.raises(ValueError, match=r"least_p_bos is 1\.5, expected"):
        found.strongest(1, least_p_bos=1.5)
    with pytest.raises(TypeError, match="features: float64 of shape"):
        found.strongest(1, features=[0.5])


def test_a_model_with_nan_is_named() -> None:
    model = build("gpt2")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.bias[0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        deactivation_scores(model, SAE_1, 1, IDS)
    with pytest.raises(ValueError, match="finite"):
        ablate_paths(model, SAE_1, 1, [(0, 1, 0)], IDS)

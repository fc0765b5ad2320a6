# SPDX-License-Identifier: Apache-2.0
"""Attribution correlations against dense NumPy, and which token is the next one."""

import copy

import numpy as np
import pytest

import suture
from suture import analysis

D_A, D_B, D_SAE, VOCABULARY = 6, 9, 20, 31


def side(rng, d, k):
    sae = suture.SAE(
        W_enc=rng.normal(size=(d, D_SAE)),
        b_enc=rng.normal(size=D_SAE) - 0.5,
        W_dec=rng.normal(size=(D_SAE, d)),
        b_dec=rng.normal(size=d),
        k=k,
    )
    return sae, rng.normal(size=(d, VOCABULARY)).astype(np.float32)


@pytest.fixture
def setup(rng):
    sae_a, head_a = side(rng, D_A, 5)
    sae_b, head_b = side(rng, D_B, 3)
    acts_a = rng.normal(size=(9000, D_A)).astype(np.float32)
    acts_b = np.hstack([acts_a, rng.normal(size=(9000, D_B - D_A))]).astype(np.float32)
    following = rng.integers(-3, VOCABULARY, size=9000)
    return sae_a, head_a, acts_a, sae_b, head_b, acts_b, following


def attributions(codes, sae, W_U, following):
    weights = (sae.W_dec.astype(np.float64) @ W_U.astype(np.float64))[:, following].T
    return codes.to_dense().astype(np.float64) * weights


def dense(setup, codes_a, codes_b):
    """np.corrcoef on dense matrices, feature by feature."""
    sae_a, head_a, _, sae_b, head_b, _, following = setup
    known = following >= 0
    x = attributions(codes_a, sae_a, head_a, following)[known]
    y = attributions(codes_b, sae_b, head_b, following)[known]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(D_SAE)])


def make(setup):
    sae_a, head_a, _, sae_b, head_b, _, _ = setup
    return analysis.AttributionCorrelation(sae_a, head_a, sae_b, head_b)


def encoded(setup):
    sae_a, _, acts_a, sae_b, _, acts_b, _ = setup
    return sae_a.encode(acts_a), sae_b.encode(acts_b)


def test_is_the_correlation_of_dense_attributions(setup):
    codes_a, codes_b = encoded(setup)
    following = setup[-1]
    found = make(setup).update(codes_a, codes_b, following)
    # Logit weights are float32 dot products: 1e-6 of an attribution, less of a correlation.
    np.testing.assert_allclose(found.correlation, dense(setup, codes_a, codes_b), atol=1e-6)
    known = following >= 0
    assert found.tokens == known.sum()
    np.testing.assert_array_equal(found.active_a, (codes_a.to_dense()[known] > 0).sum(0))
    np.testing.assert_array_equal(found.active_b, (codes_b.to_dense()[known] > 0).sum(0))


def test_streamed_from_activations_it_is_the_same(setup):
    sae_a, head_a, acts_a, sae_b, head_b, acts_b, following = setup
    whole = make(setup).update(*encoded(setup), following)
    found = analysis.attribution_correlation(
        sae_a, [acts_a[:100], acts_a[100:]], head_a, sae_b, acts_b, head_b, following
    )
    np.testing.assert_array_equal(found.correlation, whole.correlation)


def test_pairs_say_which_rows_go_together(setup, rng):
    sae_a, head_a, acts_a, sae_b, head_b, acts_b, following = setup
    rows_a = rng.permutation(9000)[:5000]
    shuffled = rng.permutation(9000)
    rows_b = np.argsort(shuffled)[rows_a]
    parts = [acts_b[shuffled][:1000], acts_b[shuffled][1000:]]
    found = analysis.attribution_correlation(
        sae_a, acts_a, head_a, sae_b, parts, head_b, following, pairs=(rows_a, rows_b)
    )
    codes_a, codes_b = encoded(setup)
    whole = make(setup).update(codes_a[rows_a], codes_b[rows_a], following[rows_a])
    np.testing.assert_allclose(found.correlation, whole.correlation, rtol=1e-12)
    np.testing.assert_array_equal(found.active_b, whole.active_b)
    assert found.tokens == whole.tokens
    # Messages have the rows of the whole input.
    bad = acts_a.copy()
    bad[rows_a[4500], 2] = np.nan
    with pytest.raises(ValueError, match=rf"acts_a\[{rows_a[4500]}, 2\] is nan"):
        analysis.attribution_correlation(
            sae_a, bad, head_a, sae_b, parts, head_b, following, pairs=(rows_a, rows_b)
        )
    with pytest.raises(ValueError, match=rf"acts_a\[{rows_a[4500]}, 2\] is nan"):
        suture.fidelity(sae_a, bad, sae_b, parts, pairs=(rows_a, rows_b))
    first = rows_a < 4000
    few = (rows_a[first], rows_b[first])
    analysis.attribution_correlation(
        sae_a, iter([acts_a]), head_a, sae_b, parts[0], head_b, following[:4000],
        pairs=([0, 3, 3999], [1, 1, 5]),
    )  # fmt: skip
    with pytest.raises(ValueError, match="next_tokens has 4000 tokens, expected 9000"):
        analysis.attribution_correlation(
            sae_a, acts_a, head_a, sae_b, parts, head_b, following[:4000], pairs=few
        )
    with pytest.raises(ValueError, match=r"next_tokens has 3999 tokens, .* has 4000 at least"):
        analysis.attribution_correlation(
            sae_a, iter([acts_a]), head_a, sae_b, parts[0], head_b, following[:3999],
            pairs=([0, 3, 3999], [1, 1, 5]),
        )  # fmt: skip


def test_activations_of_other_tokens_are_refused(setup):
    sae_a, head_a, acts_a, sae_b, head_b, acts_b, _ = setup
    index = {"positions": np.arange(9), "sequence": np.zeros(9, int)}
    a = suture.Activations({0: acts_a[:9]}, token_ids=np.arange(9), **index)
    b = suture.Activations({0: acts_b[:9]}, token_ids=np.arange(9)[::-1], **index)
    with pytest.raises(ValueError, match="acts_b: token id 8 in row 0, expected 0"):
        analysis.attribution_correlation(sae_a, a.shards(0), head_a, sae_b, b.shards(0), head_b)
    with pytest.raises(ValueError, match="acts_b: token id 8 in row 0, expected 0"):
        suture.fidelity(sae_a, a.shards(0), sae_b, b.shards(0))


def test_neither_threads_nor_calls_change_a_bit(setup):
    codes_a, codes_b = encoded(setup)
    following = setup[-1]
    found = []
    try:
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            found.append(make(setup).update(codes_a, codes_b, following).correlation)
    finally:
        suture.set_threads(0)
    pieces = make(setup)
    for rows in (slice(0, 1), slice(1, 4500), slice(4500, None)):
        pieces.update(codes_a[rows], codes_b[rows], following[rows])
    for other in [*found[1:], pieces.correlation]:
        assert found[0].tobytes() == other.tobytes()


def test_merged_parts_are_the_whole(setup):
    codes_a, codes_b = encoded(setup)
    following = setup[-1]
    one, two = make(setup), make(setup)
    one.update(codes_a[:2000], codes_b[:2000], following[:2000])
    two.update(codes_a[2000:], codes_b[2000:], following[2000:])
    whole = make(setup).update(codes_a, codes_b, following)
    one.merge(two)
    np.testing.assert_allclose(one.correlation, whole.correlation, rtol=1e-12)
    np.testing.assert_array_equal(one.active_a, whole.active_a)
    assert one.tokens == whole.tokens


def test_of_a_feature_with_itself_it_is_one(setup):
    sae, head, acts, *_, following = setup
    found = analysis.attribution_correlation(sae, acts, head, sae, acts, head, following)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-12)


def test_large_means_cost_no_digits():
    """A feature that is always active, with attributions of 1e6 ± 1: sums of squares would lose
    all."""
    rng = np.random.default_rng(5)
    shared = rng.normal(size=500)
    values = (1e6 + shared, 1e6 + shared + rng.normal(size=500))
    # As float32 activations times 1: what the core sees is what is compared.
    codes = [suture.SparseCodes(np.zeros((500, 1), int), v[:, None], 1) for v in values]
    one = np.ones((1, 1))
    found = analysis.AttributionCorrelation(one, one, one, one).update(*codes, np.zeros(500, int))
    expected = np.corrcoef(*(c.values[:, 0].astype(np.float64) for c in codes))[0, 1]
    assert found.correlation[0] == pytest.approx(expected, rel=1e-9)


def test_what_never_varies_has_no_correlation():
    W_dec, head = np.ones((3, 1)), np.array([[2.0, 3.0]])
    found = analysis.AttributionCorrelation(W_dec, head, W_dec, head)
    assert np.isnan(found.correlation).all()
    # Feature 0 varies on both sides, 1 only in A, 2 nowhere.
    a = suture.SparseCodes([[0, 1], [0, -1], [1, -1]], [[1.0, 1], [2.0, 0], [2.0, 0]], 3)
    b = suture.SparseCodes([[0], [-1], [0]], [[1.0], [0.0], [3.0]], 3)
    found.update(a, b, [0, 1, 0])
    assert np.isnan(found.correlation).tolist() == [False, True, True]
    # Masked rows do not count: one token is left, on which nothing can vary.
    masked = analysis.AttributionCorrelation(W_dec, head, W_dec, head).update(a, b, [0, -1, -5])
    assert masked.tokens == 1
    assert np.isnan(masked.correlation).all()


def test_a_refused_update_leaves_it_as_it_was(setup):
    codes_a, codes_b = encoded(setup)
    following = setup[-1].copy()
    found = make(setup).update(codes_a, codes_b, following)
    before = found.correlation
    following[7] = VOCABULARY
    with pytest.raises(ValueError, match=r"next_tokens\[7\] is 31, expected less than 31"):
        found.update(codes_a, codes_b, following)

    assert found.correlation.tobytes() == before.tobytes()
    assert found.tokens == (setup[-1] >= 0).sum()


def test_a_cancelled_update_leaves_it_as_it_was(rng):
    rows, d = 100_000, 2048
    W_dec, head = rng.normal(size=(8, d)), rng.normal(size=(d, 11))
    codes = suture.SparseCodes(np.tile(np.arange(8), (rows, 1)), rng.random((rows, 8)), 8)
    following = rng.integers(0, 11, size=rows)
    found = analysis.AttributionCorrelation(W_dec, head, W_dec, head)
    found.update(codes[:50], codes[:50], following[:50])
    before = found.correlation

    def stop(done, total):
        assert total == rows
        raise RuntimeError(f"enough after {done}")

    with pytest.raises(RuntimeError, match="enough after"):
        found.update(codes, codes, following, progress=stop)
    assert found.correlation.tobytes() == before.tobytes()
    assert found.tokens == 50


def test_heads_may_be_views_and_tensors(setup):
    torch = pytest.importorskip("torch")
    sae_a, head_a, acts_a, sae_b, head_b, acts_b, following = setup
    expected = make(setup).update(*encoded(setup), following).correlation
    for first, second in (
        (np.ascontiguousarray(head_a.T).T, np.asfortranarray(head_b)),
        (torch.from_numpy(head_a), torch.from_numpy(head_b.T.copy()).T.requires_grad_()),
        (head_a.astype(np.float64), head_b.tolist() and head_b[:, ::-1][:, ::-1]),
    ):
        found = analysis.attribution_correlation(
            sae_a, acts_a, first, sae_b, acts_b, second, torch.from_numpy(following)
        )
        assert found.correlation.tobytes() == expected.tobytes()


def test_next_tokens_of_extracted_text_are_those_of_the_text():
    """Against the token ids themselves: special tokens are left out of the rows, not of the
    text."""
    pytest.importorskip("transformers")
    from suture import models

    model, _, tokenizer = models.tiny_pair()
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    texts = [[bos, 40, 41, eos, 42, 43], [50, 51, 52], [eos, 60]]
    acts = models.extract(model, tokenizer, texts, layers=1)
    expected = []
    for text in texts:
        for place, token in enumerate(text):
            if token in (bos, eos):
                continue
            following = text[place + 1] if place + 1 < len(text) else -1
            expected.append(-1 if following in (bos, eos) else following)
    assert analysis.next_tokens(acts).tolist() == expected
    found = analysis.attribution_correlation(
        *(sae := suture.SAE.init(16, 32, k=4), acts, models.unembedding(model)),
        *(sae, acts, models.unembedding(model)),
    )
    assert found.tokens == sum(token >= 0 for token in expected)
    cut = copy.copy(acts)
    cut._indices = {name: values[:3] for name, values in acts._indices.items()}
    for name in ("token_ids", "positions", "sequence"):
        cut.__dict__.pop(name, None)
    assert analysis.next_tokens(cut).tolist() == [*expected[:2], -1]


def test_unembedding_with_the_norm_gives_the_logits():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from suture import models

    neox, _, _ = models.tiny_pair()
    sizes = {"hidden_size": 15, "intermediate_size": 20, "num_hidden_layers": 1, "vocab_size": 40}
    heads = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 4, "pad_token_id": 0}
    torch.manual_seed(0)
    llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads))
    gemma = transformers.GemmaForCausalLM(
        transformers.GemmaConfig(**sizes, **heads, tie_word_embeddings=False)
    )
    for model, norm in (
        (neox, neox.gpt_neox.final_layer_norm), (llama, llama.model.norm), (gemma,
        gemma.model.norm),
    ):  # fmt: skip
        head = model.get_output_embeddings()
        with torch.no_grad():
            for parameter in norm.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            h = torch.randn(5, head.weight.shape[1]) + 0.5
            logits = head(norm(h)).numpy()
            shift = head(norm(torch.zeros_like(h[:1]))).numpy()
        plain = models.unembedding(model)
        np.testing.assert_array_equal(plain, head.weight.detach().numpy().T)
        folded = h.numpy() @ models.unembedding(model, fold_norm=True)
        # One scale a token is left: that of the norm. float32 with an epsilon of 1e-5 and less.
        ratio = (logits - shift) / folded
        scale = np.median(ratio, axis=1, keepdims=True)
        np.testing.assert_allclose(logits - shift, scale * folded, atol=2e-4 * abs(logits).max())
        assert (scale > 0).all()


def test_unembedding_refuses_what_has_no_head():
    pytest.importorskip("transformers")
    from suture import models

    model, _, _ = models.tiny_pair()
    with pytest.raises(ValueError, match="model: GPTNeoXModel has no output head"):
        models.unembedding(model.gpt_neox)
    with pytest.raises(TypeError, match="model: int, expected a transformers model"):
        models.unembedding(3)
    with pytest.raises(TypeError, match="fold_norm: 1, expected True or False"):
        models.unembedding(model, fold_norm=1)

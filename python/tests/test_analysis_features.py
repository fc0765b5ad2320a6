# SPDX-License-Identifier: Apache-2.0
"""Statistics, structural scores, logit weights and null spaces against NumPy and brute force."""

import numpy as np
import pytest

import suture
from suture import analysis


def random_codes(rng, rows, d_sae, width, levels=5):
    """Few different values, so that there are ties; latent 0 is never active."""
    indices = np.stack([rng.permutation(d_sae - 1)[:width] + 1 for _ in range(rows)])
    indices[rng.random(indices.shape) < 0.3] = -1
    values = rng.integers(1, levels, size=indices.shape) / 2
    return suture.SparseCodes(indices, values, d_sae)


# -- Statistics ----------------------------------------------------------------------------------


def brute_examples(dense, active, top):
    rows = np.full((dense.shape[1], top), -1)
    values = np.zeros((dense.shape[1], top), np.float32)
    for feature in range(dense.shape[1]):
        order = sorted(np.flatnonzero(active[:, feature]), key=lambda r: (-dense[r, feature], r))
        order = order[:top]
        rows[feature, : len(order)] = order
        values[feature, : len(order)] = dense[order, feature]
    return rows, values


def test_statistics_are_those_of_the_dense_matrix(rng):
    codes = random_codes(rng, 400, 30, 6)
    dense = codes.to_dense()
    found = analysis.FeatureStatistics(30, top=4).update(codes)
    assert found.tokens == 400
    np.testing.assert_array_equal(found.frequency, (dense > 0).mean(0))
    np.testing.assert_array_equal(found.maximum, dense.max(0))
    with np.errstate(invalid="ignore"):
        mean = dense.astype(np.float64).sum(0) / (dense > 0).sum(0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    assert np.isnan(found.mean[0])
    rows, values = brute_examples(dense, dense > 0, 4)
    np.testing.assert_array_equal(found.example_rows, rows)
    np.testing.assert_array_equal(found.example_values, values)


def test_statistics_do_not_depend_on_the_calls(rng):
    codes = random_codes(rng, 300, 20, 5)
    whole = analysis.FeatureStatistics(20, top=7).update(codes)
    pieces = analysis.FeatureStatistics(20, top=7)
    for start in range(0, 300, 37):
        pieces.update(codes[start : start + 37])
    for name in ("frequency", "mean", "maximum", "example_rows", "example_values"):
        assert getattr(whole, name).tobytes() == getattr(pieces, name).tobytes(), name


def test_statistics_of_negative_values_and_without_examples():
    codes = suture.SparseCodes([[0], [0], [1]], [[-2.0], [-1.0], [-3.0]], 3)
    found = analysis.FeatureStatistics(3, top=1).update(codes)
    assert found.maximum.tolist() == [-1, -3, 0]
    assert found.example_rows.tolist() == [[1], [2], [-1]]
    none = analysis.FeatureStatistics(3, top=0).update(codes)
    assert none.example_rows.shape == (3, 0)
    assert none.frequency.tolist() == [2 / 3, 1 / 3, 0]
    with pytest.raises(ValueError, match="seen no tokens"):
        _ = analysis.FeatureStatistics(3).frequency


def test_statistics_from_activations_are_those_of_the_codes(rng):
    sae = suture.SAE.init(6, 24, k=3)
    acts = rng.normal(size=(20_000, 6)).astype(np.float32)
    found = analysis.feature_statistics(sae, [acts[:5], acts[5:]], top=3)
    evaluation = suture.Evaluation(sae).update(acts)
    np.testing.assert_allclose(found.frequency, evaluation.feature_frequency, rtol=1e-12)
    np.testing.assert_allclose(found.maximum, evaluation.feature_maximum, rtol=1e-6)
    best = found.example_rows[:, 0]
    dense = sae.encode(acts[best]).to_dense()
    np.testing.assert_allclose(np.diagonal(dense[:, :]), found.maximum, rtol=1e-6)


# -- Structural score ----------------------------------------------------------------------------


def test_structural_score_against_sets(rng):
    d_sae, sentences, variants = 15, 40, 4
    lengths = rng.integers(0, 6, size=sentences * variants)
    lengths[-1] = 3
    codes = random_codes(rng, int(lengths.sum()), d_sae, 5)
    dense = codes.to_dense() > 0
    in_all, in_any = np.zeros(d_sae, int), np.zeros(d_sae, int)
    ends = np.cumsum(lengths)
    for sentence in range(sentences):
        active = [
            set(np.flatnonzero(dense[ends[t] - lengths[t] : ends[t]].any(0)))
            for t in range(sentence * variants, (sentence + 1) * variants)
        ]
        for feature in set.intersection(*active):
            in_all[feature] += 1
        for feature in set.union(*active):
            in_any[feature] += 1
    assert in_all.sum() > 10
    found = analysis.StructuralScore(d_sae).update(codes, lengths, variants)
    np.testing.assert_array_equal(found.in_all, in_all)
    np.testing.assert_array_equal(found.in_any, in_any)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found.score, in_all / in_any)
    assert np.isnan(found.score[0])
    assert not found.structural[0]
    assert found.sentences == sentences
    pieces = analysis.StructuralScore(d_sae)
    middle = int(ends[17 * variants - 1])
    pieces.update(codes[:middle], lengths[: 17 * variants], variants)
    pieces.update(codes[middle:], lengths[17 * variants :], variants)
    assert pieces.score.tobytes() == found.score.tobytes()


def test_structural_threshold_is_inclusive():
    codes = suture.SparseCodes([[0], [0], [0], [1]], np.ones((4, 1)), 2)
    found = analysis.StructuralScore(2).update(codes, [1, 1, 1, 1], 2)
    assert found.score.tolist() == [0.5, 0.0]
    assert found.structural.tolist() == [True, False]


def test_a_variant_without_tokens_makes_nothing_structural():
    codes = suture.SparseCodes([[0], [0]], np.ones((2, 1)), 2)
    found = analysis.StructuralScore(2).update(codes, [2, 0, 0, 0], 2)
    assert found.in_all.tolist() == [0, 0]
    assert found.in_any.tolist() == [1, 0]
    assert found.sentences == 2


# -- Logit weights -------------------------------------------------------------------------------


def test_logit_weights_are_the_extremes_of_the_product(rng):
    W_dec, W_U = rng.normal(size=(70, 8)), rng.normal(size=(8, 501))
    found = analysis.logit_weights(W_dec, W_U, 6)
    full = W_dec @ W_U
    order = np.argsort(full, axis=1)
    # float32 could swap two weights that agree in seven digits; none of these do.
    np.testing.assert_array_equal(found.down_tokens, order[:, :6])
    np.testing.assert_array_equal(found.up_tokens, order[:, ::-1][:, :6])
    np.testing.assert_allclose(found.up_values, np.sort(full, 1)[:, ::-1][:, :6], atol=1e-5)
    np.testing.assert_allclose(found.down_values, np.sort(full, 1)[:, :6], atol=1e-5)


def test_logit_weights_have_the_same_bits_with_any_threads(rng):
    W_dec, W_U = rng.normal(size=(200, 16)), rng.normal(size=(16, 3000))
    found = []
    try:
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            found.append(analysis.logit_weights(W_dec, W_U, 5))
    finally:
        suture.set_threads(0)
    for other in found[1:]:
        assert other.up_values.tobytes() == found[0].up_values.tobytes()
        assert other.down_tokens.tobytes() == found[0].down_tokens.tobytes()


def test_logit_weights_of_the_whole_vocabulary_and_ties():
    found = analysis.logit_weights(np.ones((1, 1)), np.array([[1.0, 2.0, 1.0]]), 3)
    assert found.up_tokens.tolist() == [[1, 0, 2]]
    assert found.down_tokens.tolist() == [[0, 2, 1]]
    with pytest.raises(suture.NumericalError, match="beyond float32"):
        analysis.logit_weights(np.full((1, 1), 1e30), np.full((1, 3), 1e30), 1)


# -- Null space ----------------------------------------------------------------------------------


def dense_fraction(W_dec, W_U, share):
    left, _, _ = np.linalg.svd(W_U.astype(np.float64), full_matrices=True)
    count = max(1, round(share * len(W_U)))
    part = W_dec.astype(np.float64) @ left[:, len(W_U) - count :]
    return np.linalg.norm(part, axis=1) / np.linalg.norm(W_dec.astype(np.float64), axis=1)


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 1.0])
def test_null_space_is_that_of_the_svd(rng, share):
    """Singular values over four decades; the Gram matrix in float64 still tells them apart."""
    left = np.linalg.qr(rng.normal(size=(50, 50)))[0]
    right = np.linalg.qr(rng.normal(size=(400, 50)))[0]
    W_U = ((left * np.logspace(0, -4, 50)) @ right.T).astype(np.float32)
    W_dec = rng.normal(size=(300, 50)).astype(np.float32)
    found = analysis.null_space_fraction(W_dec, W_U, share)
    # Neighbours differ by 20 %: rounding of the Gram matrix, 1e-16, moves the smallest of 1e-8 by
    # 1e-7.
    np.testing.assert_allclose(found, dense_fraction(W_dec, W_U, share), atol=1e-6)


def test_null_space_of_a_centred_head(rng):
    W_U = rng.normal(size=(20, 300))
    W_U -= W_U.mean(axis=0)
    along = np.vstack([np.ones(20), rng.normal(size=20), np.zeros(20)])
    found = analysis.null_space_fraction(along, W_U, 0.05)
    # The direction of ones is the one singular value of zero; float32 leaves 1e-7 of it elsewhere.
    assert found[0] == pytest.approx(1, abs=1e-6)
    assert found[1] == pytest.approx(
        abs(along[1].sum()) / np.sqrt(20) / np.linalg.norm(along[1]), abs=1e-5
    )
    assert np.isnan(found[2])


def test_null_space_has_the_same_bits_with_any_threads(rng):
    W_dec, W_U = rng.normal(size=(600, 300)), rng.normal(size=(300, 2500))
    found = []
    try:
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            found.append(analysis.null_space_fraction(W_dec, W_U).tobytes())
    finally:
        suture.set_threads(0)
    assert len(set(found)) == 1
    np.testing.assert_allclose(np.frombuffer(found[0]), dense_fraction(W_dec, W_U, 0.02), atol=1e-6)

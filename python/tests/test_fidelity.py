# SPDX-License-Identifier: Apache-2.0
"""Fidelity of carried features against NumPy, and what it is for: telling whether a latent is still
that latent."""

from __future__ import annotations

import numpy as np
import pytest

import suture

D, D_SAE, ROWS = 12, 48, 9000


@pytest.fixture(scope="module")
def compared() -> dict[str, np.ndarray | suture.SAE | suture.Fidelity]:
    rng = np.random.default_rng(0)
    acts_a = rng.normal(size=(ROWS, D)).astype(np.float32)
    acts_b = (acts_a + 0.4 * rng.normal(size=acts_a.shape)).astype(np.float32)
    sae = suture.SAE.init(D, D_SAE, k=4, seed=1)
    found = suture.fidelity(sae, acts_a, sae, acts_b)
    codes = {
        side: sae.encode(acts).to_dense().astype(np.float64)
        for side, acts in (("a", acts_a), ("b", acts_b))
    }
    return {"sae": sae, "acts_a": acts_a, "acts_b": acts_b, "found": found, **codes}


def test_correlations_and_counts_are_numpys(compared: dict) -> None:
    a, b, found = compared["a"], compared["b"], compared["found"]
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(D_SAE)]
    # float64 on both sides, a few thousand terms.
    np.testing.assert_allclose(found.correlation, expected, atol=1e-12)
    np.testing.assert_array_equal(found.active_a, (a > 0).sum(0))
    np.testing.assert_array_equal(found.active_b, (b > 0).sum(0))
    np.testing.assert_array_equal(found.active_both, ((a > 0) & (b > 0)).sum(0))
    np.testing.assert_allclose(
        found.f1, 2 * ((a > 0) & (b > 0)).sum(0) / ((a > 0).sum(0) + (b > 0).sum(0))
    )
    assert found.rows == ROWS


def test_standard_errors_are_those_of_the_influence_function_and_of_resampling(
    compared: dict,
) -> None:
    a, b, found = compared["a"], compared["b"], compared["found"]
    u, v = (a - a.mean(0)) / a.std(0), (b - b.mean(0)) / b.std(0)
    psi = u * v - found.correlation * (u**2 + v**2) / 2
    np.testing.assert_allclose(found.standard_error, psi.std(0) / np.sqrt(ROWS), rtol=1e-9)
    rng = np.random.default_rng(3)
    draws = [
        np.corrcoef(a[rows, 5], b[rows, 5])[0, 1]
        for rows in (rng.integers(0, ROWS, ROWS) for _ in range(300))
    ]
    # 300 draws know their own spread to 4 %.
    assert np.std(draws) == pytest.approx(found.standard_error[5], rel=0.2)


def test_the_summary_follows_its_rule(compared: dict) -> None:
    found = compared["found"]
    summary = found.summary()
    np.testing.assert_allclose(
        [summary.correlation.lower, summary.correlation.median, summary.correlation.upper],
        np.quantile(found.correlation, [0.25, 0.5, 0.75]),
    )
    assert summary.judged == D_SAE
    assert summary.share_active == pytest.approx(found.active_both.sum() / found.active_a.sum())
    # Other rows agree in nothing: within a few standard errors of zero.
    assert abs(summary.control.median) < 0.02
    much = int(np.median(found.active_a)) + 1
    judged = found.active_a >= much
    strict = found.summary(min_count=much)
    assert (strict.judged, strict.rare) == (judged.sum(), (~judged).sum())
    assert strict.f1.median == pytest.approx(np.median(found.f1[judged]))


def test_a_latent_that_is_silent_in_b_counts_as_nothing(compared: dict) -> None:
    sae = compared["sae"]
    quiet = np.array(sae.b_enc)
    quiet[: D_SAE // 2 + 1] = -100
    muted = suture.SAE(W_enc=sae.W_enc, b_enc=quiet, W_dec=sae.W_dec, b_dec=sae.b_dec, k=4)
    summary = suture.fidelity(sae, compared["acts_a"], muted, compared["acts_a"]).summary()
    assert summary.silent == D_SAE // 2 + 1
    assert summary.correlation.median == 0
    assert summary.f1.lower == 0


def test_pairs_say_which_rows_belong_together(compared: dict) -> None:
    order = np.random.default_rng(4).permutation(ROWS)
    shuffled = compared["acts_b"][order]
    sae, acts_a = compared["sae"], compared["acts_a"]
    wrong = suture.fidelity(sae, acts_a, sae, shuffled)
    assert abs(wrong.summary().correlation.median) < 0.02
    right = suture.fidelity(sae, acts_a, sae, shuffled, pairs=(order, np.arange(ROWS)))
    np.testing.assert_allclose(right.correlation, compared["found"].correlation, atol=1e-12)
    some = np.arange(0, ROWS, 3)
    kinds = suture.fidelity(
        sae, iter([acts_a[:1000], acts_a[1000:]]), sae, compared["acts_b"], pairs=(some, some)
    )
    np.testing.assert_array_equal(
        kinds.active_both, ((compared["a"] > 0) & (compared["b"] > 0))[::3].sum(0)
    )


def test_merging_is_adding(compared: dict) -> None:
    sae, acts_a, acts_b = compared["sae"], compared["acts_a"], compared["acts_b"]
    parts = [
        suture.fidelity(sae, acts_a[part], sae, acts_b[part])
        for part in (slice(4000), slice(4000, None))
    ]
    merged = parts[0].merge(parts[1])
    np.testing.assert_allclose(merged.correlation, compared["found"].correlation, atol=1e-12)
    np.testing.assert_allclose(merged.standard_error, compared["found"].standard_error, rtol=1e-9)


def test_explained_variance_does_not_tell(compared: dict) -> None:
    """Latents in another order reconstruct as well, and none is what it was."""
    sae, acts = compared["sae"], compared["acts_a"]
    order = np.roll(np.arange(D_SAE), 1)
    other = suture.SAE(
        W_enc=sae.W_enc[:, order], b_enc=sae.b_enc[order], W_dec=sae.W_dec[order], b_dec=sae.b_dec,
        k=4,
    )  # fmt: skip
    assert other.evaluate(acts)["mse"] == pytest.approx(sae.evaluate(acts)["mse"])
    assert suture.fidelity(sae, acts, other, acts).summary().correlation.median < 0.1

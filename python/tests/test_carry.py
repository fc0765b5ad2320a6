# SPDX-License-Identifier: Apache-2.0
"""Carrying by pairs against NumPy, on every architecture, and what it is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import suture

D_A, D_B, D_SAE, ROWS, K = 10, 14, 40, 6000, 4
MASK = (1 << 64) - 1


def random_u64(seed: int) -> int:
    """The first number of xoshiro256++, seeded through SplitMix64: which rows are held out."""
    state, z = [], seed & MASK
    for _ in range(4):
        z = (z + 0x9E3779B97F4A7C15) & MASK
        x = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        state.append(x ^ (x >> 31))
    x = (state[0] + state[3]) & MASK
    return ((((x << 23) | (x >> 41)) & MASK) + state[0]) & MASK


HELD_OUT = np.array(
    [i // 64 > 0 and random_u64(~(i // 64) & MASK) % 16 == 0 for i in range(ROWS)], np.bool_
)


@pytest.fixture(scope="module")
def rows() -> tuple[np.ndarray, np.ndarray]:
    """Rows of A, and of B: a linear map of them, coordinates that A does not know, a large mean."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(ROWS, D_A)) * np.linspace(0.5, 2, D_A)
    b = a @ rng.normal(size=(D_A, D_B)) + 0.5 * rng.normal(size=(ROWS, D_B)) + 30
    return a.astype(np.float32), b.astype(np.float32)


def make(architecture: str, seed: int = 1, d_sae: int = D_SAE) -> suture.SAE:
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(D_A, d_sae))
    W /= np.linalg.norm(W, axis=0)
    bias = np.full(d_sae, -1.0)
    own: dict[str, Any] = {
        "topk": {"b_enc": np.zeros(d_sae), "k": K},
        "batchtopk": {"b_enc": np.zeros(d_sae), "threshold": 1.5},
        "jumprelu": {"b_enc": np.zeros(d_sae), "threshold": np.full(d_sae, 1.2)},
        "relu": {"b_enc": bias},
        "gated": {"b_gate": bias, "b_mag": np.zeros(d_sae), "r_mag": np.full(d_sae, 0.1)},
    }[architecture]
    return suture.SAE(W_enc=W, W_dec=W.T, b_dec=np.zeros(D_A), architecture=architecture, **own)


class Reference:
    """The regression, in float64."""

    def __init__(self, sae: suture.SAE, a: np.ndarray, b: np.ndarray) -> None:
        used = ~HELD_OUT
        self.f = sae.encode(a[used]).to_dense().astype(np.float64)
        x = b[used].astype(np.float64)
        self.mean = x.mean(0)
        self.h = x - self.mean
        self.n = len(x)
        self.cov = self.h.T @ self.h / self.n
        self.cross = self.h.T @ (self.f - self.f.mean(0)) / self.n
        self.variance = self.f.var(0)
        self.scale = np.trace(self.cov) / D_B

    def predictors(self, ridge: float) -> np.ndarray:
        return np.linalg.solve(self.cov + ridge * self.scale * np.eye(D_B), self.cross)

    def cross_validation(self, ridge: float) -> np.ndarray:
        """Of each latent, as a share of its variance."""
        w = self.predictors(ridge)
        left = ((self.f - self.f.mean(0) - self.h @ w) ** 2).mean(0)
        hat = np.trace(np.linalg.solve(self.cov + ridge * self.scale * np.eye(D_B), self.cov))
        return left / self.variance / (1 - (1 + hat) / self.n) ** 2

    def explained(self, w: np.ndarray) -> np.ndarray:
        left = ((self.f - self.f.mean(0) - self.h @ w) ** 2).mean(0)
        return 1 - left / self.variance


def middle(values: np.ndarray, count: int) -> float:
    """Between the `count` largest and the others."""
    ordered = np.sort(values)[::-1]
    return (ordered[count - 1] + ordered[count]) / 2


def carried(sae: suture.SAE, a: np.ndarray, b: np.ndarray, **options: Any) -> Any:
    return suture.carry(sae, a, b, **{"rounds": 0, "refit": False, "progress": False} | options)


def test_the_ridge_is_that_of_the_least_cross_validated_error(rows: Any) -> None:
    sae = make("topk")
    _, report = carried(sae, *rows)
    reference = Reference(sae, *rows)
    assert (report.rows, report.held_out_rows) == (reference.n, HELD_OUT.sum())
    grid = 10 ** (np.arange(-56, 17) / 8)
    errors = [np.nansum(reference.cross_validation(ridge)) for ridge in grid]
    assert report.ridge == pytest.approx(grid[int(np.argmin(errors))])
    np.testing.assert_allclose(
        report.r_squared, 1 - reference.cross_validation(report.ridge), atol=1e-9
    )
    np.testing.assert_array_equal(report.firings, (reference.f > 0).sum(0))


def test_jumprelu_weights_and_thresholds_are_numpys(rows: Any) -> None:
    sae = make("jumprelu")
    made, report = carried(sae, *rows, ridge=1e-3)
    reference = Reference(sae, *rows)
    w = reference.predictors(1e-3)
    scores = reference.h @ w
    for latent in range(D_SAE):
        count = int((reference.f[:, latent] > 0).sum())
        at = middle(scores[:, latent], count)
        fires = scores[:, latent] > at
        gain, bias = np.polyfit(scores[fires, latent], reference.f[fires, latent], 1)
        weights = gain * w[:, latent]
        np.testing.assert_allclose(made.W_enc[:, latent], weights, rtol=1e-4, atol=1e-5)
        # The threshold is an order statistic of pre-activations, which have float32's digits at a
        # mean of 30.
        assert made.threshold[latent] == pytest.approx(gain * at + bias, abs=2e-4)
        expected = bias - reference.mean @ made.W_enc[:, latent].astype(np.float64)
        assert made.b_enc[latent] == pytest.approx(expected, rel=1e-4, abs=1e-3)
    # Each fires as often as in A, on the rows that calibrated.
    codes = made.encode(rows[1][~HELD_OUT]).to_dense() > 0
    np.testing.assert_allclose(codes.sum(0), (reference.f > 0).sum(0), atol=2)
    assert report.ridge == 1e-3


def test_topk_is_numpys(rows: Any) -> None:
    sae = make("topk")
    made, _ = carried(sae, *rows, ridge=1e-3)
    reference = Reference(sae, *rows)
    w = reference.predictors(1e-3)
    gain = 1 / np.maximum(reference.explained(w), 1e-4)
    scores = reference.h @ w * gain
    counts = (reference.f > 0).sum(0)
    bias, bars = np.zeros(D_SAE), np.zeros(reference.n)
    for number in range(6):
        quantiles = [middle(scores[:, i] - bars, counts[i]) for i in range(D_SAE)]
        kept = 0.0 if number == 0 else 0.5
        bias = kept * bias - (1 - kept) * np.array(quantiles)
        largest = np.sort(scores + bias, axis=1)[:, -K:]
        bars = largest[:, 0]
    bias += (reference.f.sum() - largest.sum()) / largest.size
    np.testing.assert_allclose(made.W_enc, w * gain, rtol=2e-4, atol=1e-5)
    own = made.b_enc + reference.mean @ made.W_enc.astype(np.float64)
    np.testing.assert_allclose(own, bias, atol=2e-3)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "relu", "gated"])
def test_latents_stay_what_they_are(architecture: str, rows: Any) -> None:
    a, b = rows
    sae = make(architecture)
    made, report = suture.carry(sae, a, b, progress=False)
    assert (made.architecture, made.d_in, made.d_sae) == (architecture, D_B, D_SAE)
    found = suture.fidelity(sae, a, made, b, progress=False)
    np.testing.assert_array_equal(report.fidelity.active_a <= found.active_a, True)
    # B knows A's rows up to noise of a third of their size.
    assert found.summary().correlation.lower > 0.6
    assert found.summary().control.median < 0.1
    frequencies = found.active_b / np.maximum(found.active_a, 1)
    assert np.median(np.abs(np.log(frequencies))) < 0.1
    assert report.refit is not None
    assert made.evaluate(b, progress=False)["explained_variance"] > 0.2


def test_the_decoder_of_as_codes_is_their_regression(rows: Any) -> None:
    sae = make("topk")
    made, _ = carried(sae, *rows)
    reference = Reference(sae, *rows)
    f = reference.f - reference.f.mean(0)
    # The pull of 30 tokens towards zero, in units of each latent's mean square where it fires.
    fired = np.maximum((reference.f > 0).sum(0), 1)
    pull = 30 * (reference.f**2).sum(0) / fired
    expected = np.linalg.solve(f.T @ f + np.diag(pull), f.T @ reference.h)
    np.testing.assert_allclose(made.W_dec, expected, rtol=1e-4, atol=1e-4)


def test_any_number_of_threads_gives_the_same_bits(rows: Any) -> None:
    made = []
    try:
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            made.append(suture.carry(make("topk"), *rows, progress=False)[0])
    finally:
        suture.set_threads(0)
    for other in made[1:]:
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            np.testing.assert_array_equal(getattr(made[0], name), getattr(other, name))


def test_pairs_shards_and_iterators_are_the_same_rows(rows: Any) -> None:
    a, b = rows
    sae = make("topk")
    whole, _ = carried(sae, a, b)
    order = np.arange(ROWS)
    by_pairs, _ = carried(sae, a, b[::-1].copy(), pairs=(order, order[::-1].copy()))
    shards, _ = carried(sae, [a[:4096], a[4096:]], [b[:4096], b[4096:]])
    once, _ = carried(sae, (a[i : i + 4096] for i in (0, 4096)), b)
    for other in (by_pairs, shards, once):
        # In the same blocks the sums have the same bits.
        np.testing.assert_array_equal(whole.W_enc, other.W_enc)
    other_blocks, _ = carried(sae, [a[:1000], a[1000:]], [b[:1000], b[1000:]])
    np.testing.assert_allclose(whole.W_enc, other_blocks.W_enc, rtol=1e-3, atol=1e-4)


def test_latents_without_evidence_never_fire_and_are_counted(rows: Any) -> None:
    a, b = rows
    sae = make("topk")
    b_enc = np.zeros(D_SAE)
    b_enc[3] = -1e3
    dead = suture.SAE(W_enc=sae.W_enc, b_enc=b_enc, W_dec=sae.W_dec, b_dec=sae.b_dec, k=K)
    made, report = carried(dead, a, b)
    assert report.silent == 1
    assert np.isnan(report.r_squared[3])
    assert made.encode(b).to_dense()[:, 3].max() == 0
    # Rows that know nothing of A.
    noise = np.random.default_rng(5).normal(size=b.shape)
    _, report = carried(sae, a, noise)
    assert report.unpredicted > D_SAE / 4
    assert report.fidelity.summary().correlation.median < 0.1


def test_massive_rows_do_not_count(rows: Any) -> None:
    a, b = rows[0].copy(), rows[1].copy()
    a[::1000] *= 300
    b[::1000] *= -300
    sae = make("topk")
    made, report = suture.carry(sae, a, b, progress=False)
    assert report.rows + report.held_out_rows == ROWS - 6
    ordinary = np.arange(ROWS) % 1000 != 0
    found = suture.fidelity(sae, a[ordinary], made, b[ordinary], progress=False)
    assert found.summary().correlation.median > 0.7


def test_a_normalisation_of_each_token_stays_behind(rows: Any) -> None:
    a, b = rows
    sae = make("topk")
    normal = suture.SAE(
        W_enc=sae.W_enc, b_enc=sae.b_enc, W_dec=sae.W_dec, b_dec=sae.b_dec, k=K,
        normalization="layer_norm",
    )  # fmt: skip
    made, report = suture.carry(normal, a, b, progress=False)
    assert made.normalization == "none"
    assert report.fidelity.summary().correlation.median > 0.5


def test_where_it_comes_from_is_known(rows: Any) -> None:
    sae = make("topk")
    sae.metadata |= {"model_name": "small", "hook_name": "blocks.2.hook_resid_pre"}
    made, _ = carried(sae, *rows, site=suture.Site("large", 3))
    assert made.metadata["model_name"] == "large"
    assert made.metadata["hook_name"] == "blocks.3.hook_resid_pre"
    assert made.metadata["transferred_from"]["model_name"] == "small"


def test_few_rows_are_warned_of_and_a_cancelled_run_leaves_nothing(rows: Any) -> None:
    a, b = rows
    with pytest.warns(suture.SutureWarning, match="10 pairs of rows for the 14 coordinates"):
        carried(make("topk"), a[:10], b[:10])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    # Progress is told every 50 ms: this takes seconds.
    many = np.random.default_rng(1).normal(size=(12_000, 256)).astype(np.float32)
    with pytest.raises(KeyboardInterrupt):
        carried(suture.SAE.init(256, 4096, k=16), many, many, progress=stop)

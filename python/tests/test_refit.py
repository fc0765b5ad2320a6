# SPDX-License-Identifier: Apache-2.0
"""The decoder refit against NumPy's least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_sae import settings

import suture

D_IN, D_SAE, TOKENS = 6, 20, 700


def oracle(sae: suture.SAE, x: np.ndarray, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """W_dec and b_dec by numpy.linalg.lstsq on the dense codes, with the pull as more rows."""
    codes = sae.encode(x, progress=False).to_dense().astype(np.float64)
    fired = (codes > 0).sum(0)
    pull = np.sqrt(ridge * (codes**2).sum(0) / np.maximum(fired, 1)) + (fired == 0)
    left = np.block(
        [[codes, np.ones((len(x), 1))], [np.diag(pull), np.zeros((sae.d_sae, 1))]],
    )
    right = np.vstack([x.astype(np.float64), pull[:, None] * sae.W_dec.astype(np.float64)])
    solved = np.linalg.lstsq(left, right, rcond=None)[0]
    return solved[:-1], solved[-1]


def explained(sae: suture.SAE, x: np.ndarray) -> float:
    error = ((x - sae(x, progress=False).astype(np.float64)) ** 2).sum()
    return float(1 - error / ((x - x.mean(0, dtype=np.float64)) ** 2).sum())


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "relu", "gated"])
@pytest.mark.parametrize("ridge", [0.01, 30.0])
def test_is_the_least_squares_solution(
    architecture: str, ridge: float, rng: np.random.Generator
) -> None:
    sae = suture.SAE(**settings(architecture, rng))
    x = (rng.normal(size=(TOKENS, D_IN)) + 3).astype(np.float32)
    refitted, report = suture.refit_decoder(sae, x, ridge=ridge)
    decoder, bias = oracle(sae, x, ridge)
    np.testing.assert_allclose(refitted.W_dec, decoder, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(refitted.b_dec, bias, rtol=1e-5, atol=1e-5)
    # The encoder is kept, bit for bit.
    np.testing.assert_array_equal(refitted.W_enc, sae.W_enc)
    assert report.tokens == TOKENS
    assert report.solver == "cholesky"
    assert report.converged
    assert report.explained_variance_before == pytest.approx(explained(sae, x), abs=1e-5)
    assert report.explained_variance_after == pytest.approx(explained(refitted, x), abs=1e-5)
    assert report.explained_variance_after > report.explained_variance_before


def test_keeps_the_codes_of_a_sae_with_options(rng: np.random.Generator) -> None:
    """Codes that depend on the decoder would change with it: that is folded away first."""
    options: dict[str, Any] = {
        "apply_b_dec_to_input": True, "rescale_by_decoder_norm": True,
        "normalization": "fixed_scale", "scale": 0.4,
    }  # fmt: skip
    sae = suture.SAE(**settings("topk", rng) | options)
    x = rng.normal(size=(TOKENS, D_IN)).astype(np.float32)
    refitted, _ = suture.refit_decoder(sae, x, ridge=0.1)
    np.testing.assert_array_equal(refitted.encode(x).indices, sae.fold().encode(x).indices)
    decoder, bias = oracle(sae.fold(), x, 0.1)
    np.testing.assert_allclose(refitted.W_dec, decoder, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(refitted.b_dec, bias, rtol=1e-5, atol=1e-5)


def test_silent_latents_stay(rng: np.random.Generator) -> None:
    weights = settings("relu", rng)
    weights["b_enc"][[2, 11]] = -1e6
    sae = suture.SAE(**weights)
    x = rng.normal(size=(TOKENS, D_IN)).astype(np.float32)
    refitted, report = suture.refit_decoder(sae, x)
    assert report.silent == 2
    np.testing.assert_array_equal(refitted.W_dec[[2, 11]], sae.W_dec[[2, 11]])
    assert not np.allclose(refitted.W_dec[3], sae.W_dec[3])


def test_tokens_are_taken_evenly_from_all_rows(rng: np.random.Generator) -> None:
    sae = suture.SAE(**settings("topk", rng))
    x = rng.normal(size=(TOKENS, D_IN)).astype(np.float32)
    some, report = suture.refit_decoder(sae, [x[:123], x[123:]], tokens=175)
    same, _ = suture.refit_decoder(sae, x[::4])
    assert report.tokens == 175
    np.testing.assert_array_equal(some.W_dec, same.W_dec)
    np.testing.assert_array_equal(some.b_dec, same.b_dec)
    _, report = suture.refit_decoder(sae, x, tokens=10**12)
    assert report.tokens == TOKENS


@pytest.mark.parametrize("d_sae", [300, 4100])
def test_both_solvers_and_any_number_of_threads(
    d_sae: int, rng: np.random.Generator, threads: None
) -> None:
    """Above d_sae 4096 conjugate gradients; their solution is that of the small systems too."""
    sae = suture.SAE.init(40, d_sae, k=3, seed=1)
    x = rng.normal(size=(3000, 40)).astype(np.float32)
    found = []
    for count in (1, 2, 3):
        suture.set_threads(count)
        found.append(suture.refit_decoder(sae, x, ridge=2.0, tolerance=1e-7))
    for refitted, _ in found[1:]:
        np.testing.assert_array_equal(refitted.W_dec, found[0][0].W_dec)
        np.testing.assert_array_equal(refitted.b_dec, found[0][0].b_dec)
    refitted, report = found[0]
    codes = sae.encode(x, progress=False)
    used = np.unique(codes.indices[codes.indices >= 0])
    # The latents that fire are a SAE of their own.
    fired = codes.to_dense()[:, used].astype(np.float64)
    pull = np.sqrt(2.0 * (fired**2).sum(0) / (fired > 0).sum(0))
    left = np.vstack([np.c_[fired, np.ones(len(x))], np.c_[np.diag(pull), np.zeros(len(used))]])
    right = np.vstack([x, pull[:, None] * sae.W_dec[used]])
    solved = np.linalg.solve(left.T @ left, left.T @ right)
    np.testing.assert_allclose(refitted.W_dec[used], solved[:-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(refitted.b_dec, solved[-1], rtol=1e-4, atol=1e-5)
    if d_sae > 4096:
        assert report.solver == "conjugate_gradients"
        assert report.converged
        assert 0 < report.iterations < 200
        assert report.residual <= 1e-7
        assert not suture.refit_decoder(sae, x, max_iterations=1)[1].converged
    else:
        assert report.solver == "cholesky"


def test_counts_its_operations(rng: np.random.Generator) -> None:
    sae = suture.SAE.init(8, 64, k=4, seed=1)
    x = rng.normal(size=(500, 8)).astype(np.float32)
    counts = (sae.encode(x).indices >= 0).sum(1).astype(np.float64)
    _, report = suture.refit_decoder(sae, x)
    expected = (
        2 * 500 * 8 * 64 + 4 * 8 * counts.sum()
        + 2 * (counts**2).sum() + 2 * 64**2 + 64**3 / 3 + 2 * 64**2 * 8
    )  # fmt: skip
    assert report.flops_executed == pytest.approx(expected)


def test_transfer_with_a_refit(rng: np.random.Generator) -> None:
    x_a = rng.normal(size=(TOKENS, D_IN)).astype(np.float32)
    x_b = (x_a @ rng.normal(size=(D_IN, 9)) + rng.normal(size=(TOKENS, 9))).astype(np.float32)
    stitch = suture.Stitch.fit(x_a, x_b)
    stitch.metadata |= {"model_b": "large"}
    sae = suture.SAE(**settings("topk", rng))
    moved = stitch.transfer(sae)
    refitted = stitch.transfer(sae, refit=x_b, refit_tokens=350)
    expected, _ = suture.refit_decoder(moved, x_b, tokens=350)
    np.testing.assert_array_equal(refitted.W_dec, expected.W_dec)
    np.testing.assert_array_equal(refitted.W_enc, moved.W_enc)
    assert refitted.metadata == moved.metadata
    assert refitted.metadata["model_name"] == "large"
    assert explained(refitted, x_b) > explained(moved, x_b)


def test_kinds_of_input(rng: np.random.Generator, tmp_path: Any) -> None:
    sae = suture.SAE(**settings("topk", rng))
    x = rng.normal(size=(TOKENS, D_IN)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    expected = suture.refit_decoder(sae, x)[0].W_dec
    for given in (
        tmp_path / "x.npy",
        [x[:1], x[1:]],
        x.astype(np.float64),
        np.asfortranarray(x).copy("C"),
    ):
        np.testing.assert_array_equal(suture.refit_decoder(sae, given)[0].W_dec, expected)


def test_tied_rounds_by_the_definition(rng: np.random.Generator) -> None:
    """Each step in NumPy, from what the one before gave."""
    sae = suture.SAE(**settings("topk", rng))
    x = (rng.normal(size=(TOKENS, D_IN)) + 1).astype(np.float32)
    expected, first = suture.refit_decoder(sae, x, ridge=1.0)
    operations = first.flops_executed
    for _ in range(2):
        directions = expected.W_dec / np.linalg.norm(expected.W_dec, axis=1, keepdims=True)
        gains = (expected.W_enc.T * expected.W_dec).sum(1, dtype=np.float64)
        gains[gains <= 0] = gains[gains > 0].mean()
        encoder = gains[:, None] * directions
        tied = suture.SAE(
            W_enc=np.ascontiguousarray(encoder.T),
            b_enc=-(encoder @ x.mean(0, dtype=np.float64)),
            W_dec=directions,
            b_dec=expected.b_dec,
            k=sae.k,
        )
        expected, last = suture.refit_decoder(tied, x, ridge=1.0)
        operations += last.flops_executed
    found, report = suture.refit_decoder(sae, x, ridge=1.0, tied_rounds=2)
    np.testing.assert_allclose(found.W_enc, expected.W_enc, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(found.W_dec, expected.W_dec, rtol=2e-3, atol=2e-4)
    assert report.flops_executed == pytest.approx(operations, rel=1e-3)
    assert report.explained_variance_before == first.explained_variance_before
    assert report.explained_variance_after > first.explained_variance_after
    assert report.explained_variance_after == pytest.approx(explained(found, x), abs=1e-5)


def test_tied_rounds_use_other_tokens(rng: np.random.Generator) -> None:
    sae = suture.SAE(**settings("topk", rng))
    x = rng.normal(size=(400, D_IN)).astype(np.float32)
    # Rows that only the second of two samples of 200 has.
    changed = x.copy()
    changed[1::2] += 1
    once = [suture.refit_decoder(sae, rows, tokens=200)[0].W_dec for rows in (x, changed)]
    np.testing.assert_array_equal(once[0], once[1])
    tied = [suture.refit_decoder(sae, rows, tokens=200, tied_rounds=1)[1] for rows in (x, changed)]
    assert tied[0].explained_variance_before == tied[1].explained_variance_before
    assert tied[0].explained_variance_after != tied[1].explained_variance_after

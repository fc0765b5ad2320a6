# SPDX-License-Identifier: Apache-2.0
"""With no options set, streams of unlike scales with a few massive rows get the stitch that least
squares on the ordinary rows would give."""

from __future__ import annotations

import numpy as np
import pytest

import suture


def pair(rng: np.random.Generator, d_a: int, d_b: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two models that share most of their directions, with spectra that fall as a power,
    and means; B's numbers are 400 times as large as A's."""
    shared = 24
    spectrum = np.arange(1, shared + 1) ** -0.5
    latent = rng.normal(size=(n, shared)) * spectrum
    noise = 0.1 / np.sqrt(shared)
    a = latent @ rng.normal(size=(shared, d_a)) + noise * rng.normal(size=(n, d_a))
    b = latent @ rng.normal(size=(shared, d_b)) + noise * rng.normal(size=(n, d_b))
    return a + rng.normal(size=d_a), 400 * (b + rng.normal(size=d_b))


def least_squares(x: np.ndarray, y: np.ndarray, held_x: np.ndarray, held_y: np.ndarray) -> float:
    """Explained variance of NumPy's least squares on held-out rows."""
    ones = np.ones((len(x), 1))
    solution = np.linalg.lstsq(np.hstack([x, ones]), y, rcond=None)[0]
    return explained(np.hstack([held_x, ones[: len(held_x)]]) @ solution, held_y)


def explained(found: np.ndarray, y: np.ndarray) -> float:
    return float(1 - ((found - y) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


@pytest.mark.parametrize("massive", ["a", "b", "both"])
@pytest.mark.parametrize("swapped", [False, True])
def test_massive_rows_and_unlike_scales(massive: str, swapped: bool) -> None:
    rng = np.random.default_rng(12)
    n, held = 20_000, 2000
    a, b = pair(rng, 16, 40, n + held)
    # One row in a thousand at 100 times the median norm, in a direction of its own.
    for name, side in (("a", a), ("b", b)):
        if massive in (name, "both"):
            at = np.arange(500, n, 1000)
            direction = rng.normal(size=(1, side.shape[1]))
            direction *= 100 * np.median(np.linalg.norm(side, axis=1)) / np.linalg.norm(direction)
            side[at] = direction + rng.normal(size=(len(at), side.shape[1])) * side.std()
    if swapped:
        a, b = b, a
    ordinary = np.ones(n, bool)
    ordinary[500::1000] = False
    held_a, held_b = a[n:], b[n:]
    stitch = suture.Stitch.fit(a[:n], b[:n])
    assert stitch.report is not None
    assert stitch.report.rows.left_out == 20
    assert stitch.report.warnings == ()
    best_up = least_squares(a[:n][ordinary], b[:n][ordinary], held_a, held_b)
    best_down = least_squares(b[:n][ordinary], a[:n][ordinary], held_b, held_a)
    assert min(best_up, best_down) > 0.5
    assert explained(stitch.up(held_a), held_b) >= 0.9 * best_up
    assert explained(stitch.down(held_b), held_a) >= 0.9 * best_down
    # Every held-out row is ordinary, by the bounds of the fit.
    assert stitch.evaluate(held_a, held_b).tokens == held


def test_svcca_of_no_more_rows_than_dimensions_says_so() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(12, 16)), rng.normal(size=(12, 24))
    with pytest.warns(suture.SutureWarning, match="svcca: 12 rows for 24 dimensions"):
        assert suture.svcca(a, b).mean_correlation > 0.9
    with pytest.warns(suture.SutureWarning, match="svcca_grid: 12 rows for 24"):
        suture.svcca_grid([a], [b])


def test_an_evaluation_without_ordinary_rows_says_so() -> None:
    sae = suture.SAE.init(4, 16, k=2)
    acts = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.warns(suture.SutureWarning, match="all 50 rows of acts have norms beyond"):
        sae.evaluate(acts, rows=suture.Rows(norm_bound=1e-6))

# SPDX-License-Identifier: Apache-2.0
"""Carrying a steering vector by pairs of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import suture


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of A and B on two kinds of text, and which of them are positive."""
    positive = rng.random(4000) < 0.4
    a = rng.normal(size=(4000, 6)) + positive[:, None] * np.array([2.0, -1, 0, 0, 0, 0])
    b = a @ rng.normal(size=(6, 9)) + 0.3 * rng.normal(size=(4000, 9)) + 2
    return a, b, positive


def reference(a: np.ndarray, b: np.ndarray, v: np.ndarray, mean: np.ndarray, ridge: float) -> Any:
    """Direction and z_mean by NumPy."""
    x, y = a - a.mean(0), b - b.mean(0)
    covariance = x.T @ x / len(x)
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    up = np.linalg.solve(covariance, x.T @ y / len(x))
    direction = v @ up
    direction /= np.linalg.norm(direction)
    return direction, ((mean - a.mean(0)) @ up + b.mean(0)) @ direction


def test_it_is_the_regression_of_bs_rows(pair: Any) -> None:
    a, b, positive = pair
    vector = suture.SteeringVector.fit(a[positive], a[~positive])
    moved, report = suture.carry(vector, a, b, ridge=1e-3, progress=False)
    mean = vector.mean
    assert mean is not None
    direction, level = reference(a, b, vector.vector.astype(np.float64), mean, 1e-3)
    np.testing.assert_allclose(moved.vector, direction, atol=1e-5)
    assert moved.z_mean == pytest.approx(level, rel=1e-5)
    assert report.before.up_explained_variance > 0.9
    # B's own vector, which nobody had to fit.
    native = suture.SteeringVector.fit(b[positive], b[~positive])
    assert float(native.vector @ moved.vector) > 0.99
    assert moved.z_mean == pytest.approx(native.z_mean, rel=0.05)


def test_pairs_masks_and_threads(pair: Any, rng: np.random.Generator) -> None:
    a, b, positive = pair
    vector = suture.SteeringVector.fit(a[positive], a[~positive])
    mask = rng.random(len(a)) < 0.5
    expected, _ = suture.carry(vector, a[mask], b[mask], progress=False)
    masked, _ = suture.carry(vector, a, b, rows=mask, progress=False)
    np.testing.assert_allclose(expected.vector, masked.vector, atol=1e-6)
    order = rng.permutation(len(a))
    paired, _ = suture.carry(
        vector, a[order], b, pairs=(np.argsort(order), np.arange(len(a))), progress=False
    )
    np.testing.assert_allclose(
        paired.vector, suture.carry(vector, a, b, progress=False)[0].vector, atol=1e-6
    )
    before = suture.cpu_info().threads
    try:
        found = []
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            found.append(suture.carry(vector, a, b, progress=False)[0].vector)
    finally:
        suture.set_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_where_it_comes_from_and_goes_to_is_kept(pair: Any) -> None:
    a, b, positive = pair
    site = suture.Site("small", 2)
    vector = suture.SteeringVector.fit(a[positive], a[~positive], metadata=site.metadata)
    moved, _ = suture.carry(vector, a, b, site=suture.Site("large", 3), progress=False)
    assert suture.Site.of(moved) == suture.Site("large", 3)
    assert suture.Site.of(vector) == site

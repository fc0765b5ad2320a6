# SPDX-License-Identifier: Apache-2.0
"""The objective's two forms, and the maps that stand beside the joint fit, against scikit-learn and
SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge, RidgeCV

import suture


def pair(
    seed: int, rows: int = 3000, d_a: int = 24, d_b: int = 40, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Streams that share some directions, with variances that fall off as those of real ones do."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(rows, 12)) / np.sqrt(np.arange(1, 13))

    def side(d: int) -> np.ndarray:
        return (
            shared @ rng.normal(size=(12, d))
            + 0.4 * rng.normal(size=(rows, d))
            + rng.normal(size=d)
        )

    return side(d_a), scale * side(d_b)


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_ridge_is_that_of_scikit_learn(scale: float) -> None:
    h_a, h_b = pair(1, scale=scale)
    stitch = suture.Stitch.fit(h_a, h_b, method="ridge", ridge=0.3)
    for source, target, matrix, bias in (
        (h_a, h_b, stitch.P_up, stitch.b_up),
        (h_b, h_a, stitch.P_down, stitch.b_down),
    ):
        source = source.astype(np.float32).astype(np.float64)
        penalty = 0.3 * source.var(axis=0).mean() * len(source)
        expected = Ridge(penalty).fit(source, target)
        largest = np.abs(expected.coef_).max()
        # float32 rows and weights.
        np.testing.assert_allclose(matrix, expected.coef_.T, atol=1e-5 * largest)
        np.testing.assert_allclose(bias, expected.intercept_, atol=1e-4 * np.abs(target).max())


def test_the_chosen_ridge_is_that_of_least_cross_validation_error() -> None:
    # Few rows: a ridge is worth something.
    h_a, h_b = pair(2, rows=60)
    with pytest.warns(suture.SutureWarning, match="few tokens"):
        report = suture.Stitch.fit(h_a, h_b, method="ridge").report
    assert report is not None
    for source, target, ridge in ((h_a, h_b, report.ridge_a), (h_b, h_a, report.ridge_b)):
        grid = 10.0 ** (np.arange(-40, 17) / 8)
        scale = source.var(axis=0).mean() * len(source)
        # Exact leave-one-out errors; the generalised ones are their approximation by a mean.
        found = RidgeCV(grid * scale, scoring=None).fit(source, target).alpha_ / scale
        assert 0.3 < ridge / found < 3.3


def test_procrustes_is_that_of_scipy() -> None:
    h_a, h_b = pair(3, d_a=16, d_b=16, scale=50.0)
    a, b = h_a - h_a.mean(0), h_b - h_b.mean(0)
    rotation, total = orthogonal_procrustes(a, b)
    stitch = suture.Stitch.fit(h_a, h_b, method="procrustes")
    np.testing.assert_allclose(stitch.P_up, rotation * total / np.sum(a**2), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(stitch.P_down, rotation.T * total / np.sum(b**2), atol=1e-6)


def test_procrustes_of_unequal_widths() -> None:
    h_a, h_b = pair(4)
    stitch = suture.Stitch.fit(h_a, h_b, method="procrustes")
    gram = stitch.P_up.astype(np.float64) @ stitch.P_up.T
    np.testing.assert_allclose(gram, gram[0, 0] * np.eye(24), atol=1e-6)
    ratio = stitch.P_down.T / stitch.P_up
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    # Each factor is the best one: no other explains more.
    best = stitch.evaluate(h_a, h_b)
    for factor in (0.98, 1.02):
        up = suture.Stitch(
            factor * stitch.P_up,
            h_b.mean(0) - factor * h_a.mean(0) @ stitch.P_up,
            stitch.P_down,
            stitch.b_down,
        )
        assert up.evaluate(h_a, h_b).up > best.up


def test_unlike_scales() -> None:
    """What a user expects of two models in other units: the same shares of variance."""
    h_a, h_b = pair(5)
    alike = suture.Stitch.fit(h_a, h_b)
    unlike = suture.Stitch.fit(h_a, 1024 * h_b)
    np.testing.assert_allclose(unlike.P_up, 1024 * alike.P_up, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(unlike.P_down, alike.P_down / 1024, rtol=1e-3, atol=1e-8)
    with pytest.warns(
        suture.SutureWarning, match=r"acts_b are .* times as large as those of acts_a"
    ):
        raw = suture.Stitch.fit(h_a, 1024 * h_b, objective="raw")
    assert raw.report is not None
    assert unlike.report is not None
    assert (
        raw.report.after.down_explained_variance
        < unlike.report.after.down_explained_variance - 0.05
    )
    assert raw.metadata["objective_form"] == "raw"
    assert unlike.metadata["method"] == "joint"


def test_the_joint_fit_against_the_simpler_maps() -> None:
    h_a, h_b = pair(6)
    held_a, held_b = h_a[2000:], h_b[2000:]
    moments = suture.Moments(h_a[:2000], h_b[:2000])
    found = {
        method: suture.Stitch.fit(moments, method=method).evaluate(held_a, held_b)
        for method in ("joint", "ridge", "procrustes")
    }
    # Each by itself explains most one way; the joint fit loses little there and comes back better.
    assert found["ridge"].up_explained_variance >= found["joint"].up_explained_variance
    assert found["joint"].scaled_total < found["ridge"].scaled_total
    assert found["joint"].scaled_total < found["procrustes"].scaled_total

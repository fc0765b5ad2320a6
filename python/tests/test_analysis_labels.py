# SPDX-License-Identifier: Apache-2.0
"""Overlap of top examples against sets, on codes made up for it."""

import numpy as np
import pytest

import suture
from suture import analysis


def statistics(dense, top):
    """Of codes given as a dense matrix (rows, d_sae)."""
    d_sae = dense.shape[1]
    indices = np.where(dense > 0, np.arange(d_sae), -1)
    found = analysis.FeatureStatistics(d_sae, top)
    return found.update(suture.SparseCodes(indices, dense.astype(np.float32), d_sae))


def top_rows(column, top):
    order = sorted(np.flatnonzero(column > 0), key=lambda row: (-column[row], row))
    return set(order[:top])


def test_overlap_is_that_of_sets(rng):
    top = 6
    a = np.where(rng.random((300, 12)) < rng.uniform(0.03, 0.4, 12), rng.random((300, 12)), 0)
    noise = rng.normal(size=a.shape) * np.linspace(0, 1, 12)
    b = np.where((a > 0) & (rng.random(a.shape) < 0.9), np.maximum(a + noise, 0.01), 0)
    a[:, 3] = 0  # silent in A
    a[5:, 4] = 0  # fires on fewer rows than there are examples
    b[:, 5] = 0  # silent in B
    found = analysis.label_overlap(statistics(a, top), statistics(b, top))
    fired = (a > 0).sum(0)
    judged = [i for i in range(12) if fired[i] >= top]
    assert set(np.flatnonzero(np.isfinite(found.overlap))) == set(judged)
    assert {3, 4}.isdisjoint(judged)
    assert 5 in judged
    order = sorted(judged, key=lambda i: (fired[i], i))
    for place, feature in enumerate(order):
        own = top_rows(a[:, feature], top)
        other = order[place + 1] if place + 1 < len(order) else order[place - 1]
        expected = len(own & top_rows(b[:, feature], top)) / top
        assert found.overlap[feature] == pytest.approx(expected), feature
        control = len(own & top_rows(b[:, other], top)) / top
        assert found.control[feature] == pytest.approx(control), feature
    assert found.overlap[5] == 0
    assert found.overlap[0] > 0.5
    values = found.overlap[judged]
    assert found.judged == len(judged)
    assert found.mean == pytest.approx(values.mean())
    assert found.share_kept == pytest.approx((values >= 0.5).mean())
    assert found.control_mean == pytest.approx(found.control[judged].mean())
    assert found.control_share == pytest.approx((found.control[judged] >= 0.5).mean())
    assert f"{len(judged)} features judged by {top} examples" in repr(found)


def test_the_same_features_keep_every_example_and_swapped_ones_none():
    rows = np.arange(40)
    a = np.stack([np.where(rows < 20, rows + 1, 0), np.where(rows >= 20, rows + 1, 0)], 1)
    first, swapped = statistics(a, 10), statistics(a[:, ::-1], 10)
    same = analysis.label_overlap(first, first)
    assert (same.mean, same.share_kept, same.control_mean, same.control_share) == (1, 1, 0, 0)
    other = analysis.label_overlap(first, swapped)
    assert (other.mean, other.control_mean) == (0, 1)


def test_without_another_feature_there_is_no_control():
    a = np.array([[1.0, 0.0], [2.0, 0.5]])
    one = analysis.label_overlap(statistics(a, 2), statistics(a, 2))
    assert one.overlap[0] == 1
    assert np.isnan(one.overlap[1])
    assert np.isnan(one.control).all()
    none = analysis.label_overlap(statistics(a, 3), statistics(a, 3))
    assert none.judged == 0
    assert np.isnan([none.mean, none.share_kept, none.control_mean]).all()

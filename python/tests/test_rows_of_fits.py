# SPDX-License-Identifier: Apache-2.0
"""`rows=` of probes, steering vectors and transfers: as if the other rows were not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import suture
from suture import Probe, Rows, SteeringVector, Stitch

N, D = 400, 6
RNG = np.random.default_rng(4)
X = RNG.normal(size=(N, D)).astype(np.float32)
Y = X[:, 0] + 0.3 * RNG.normal(size=N) > 0
MASK = RNG.random(N) < 0.6
MASK[:20] = True
BEYOND = np.zeros(N, bool)
BEYOND[[3, 90, 333]] = True
LARGE = np.where(BEYOND[:, None], 1000 * X, X)
BAD = np.where(MASK[:, None], X, np.float32(np.nan))
"""Rows that are masked may hold anything."""


def same(one: Probe, two: Probe) -> None:
    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.bias, two.bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["array", "list", "strided", "bfloat16", "codes", "csr"])
def test_probes_are_fitted_to_rows_that_count(kind: str) -> None:
    weight = RNG.random(N)
    samples: Any = X
    part: Any = X[MASK]
    if kind == "list":
        samples = [BAD[:7], BAD[7:]]
    elif kind == "strided":
        samples = np.repeat(BAD, 2, axis=1)[:, ::2]
    elif kind == "array":
        samples = BAD
    elif kind == "bfloat16":
        torch = pytest.importorskip("torch")
        samples, part = torch.tensor(X).bfloat16(), torch.tensor(X[MASK]).bfloat16()
    elif kind == "codes":
        samples = suture.SAE.init(D, 16, k=3).encode(X)
        part = samples[MASK]
    else:
        samples, part = sp.csr_matrix(np.maximum(X, 0)), sp.csr_matrix(np.maximum(X[MASK], 0))
    found = Probe.fit(samples, Y, rows=MASK, sample_weight=weight)
    same(found, Probe.fit(part, Y[MASK], sample_weight=weight[MASK]))
    chosen = suture.select_features(samples, Y, 3, rows=Rows(mask=MASK))
    assert chosen.tolist() == suture.select_features(part, Y[MASK], 3).tolist()
    sparse = Probe.fit_sparse(samples, Y, [2, 3], rows=MASK)
    for k, probe in Probe.fit_sparse(part, Y[MASK], [2, 3]).items():
        same(sparse[k], probe)


def test_norms_of_samples_count_when_asked() -> None:
    same(Probe.fit(LARGE, Y, rows=Rows()), Probe.fit(X[~BEYOND], Y[~BEYOND]))
    every = Probe.fit(LARGE, Y)
    same(every, Probe.fit(LARGE, Y, rows=Rows.all()))
    assert not np.allclose(every.weights, Probe.fit(LARGE, Y, rows=Rows()).weights)
    tokens = np.arange(N) % 5
    acts = suture.Activations({0: X}, token_ids=tokens)
    found = Probe.fit(acts, Y, rows=Rows(leave_out=[2], norm_bound=None))
    same(found, Probe.fit(X[tokens != 2], Y[tokens != 2]))


def test_messages_of_probes_have_the_rows_of_the_input() -> None:
    bad = X.copy()
    row = int(np.flatnonzero(MASK)[50])
    bad[row, 2] = np.inf
    for call in (
        lambda: Probe.fit(bad, Y, rows=Rows(mask=MASK, norm_bound=None)),
        lambda: suture.select_features(bad, Y, 2, rows=Rows(mask=MASK, norm_bound=None)),
        lambda: Probe.fit(bad, Y, rows=MASK),
    ):
        with pytest.raises(ValueError, match=rf"X\[{row}, 2\] is inf"):
            call()
    with pytest.raises(ValueError, match=rf"X\[{row}, 2\] is inf"):
        Probe.fit([bad[:9], bad[9:]], Y)
    with pytest.raises(ValueError, match=r"rows.mask has shape \(3,\), expected \(400,\)"):
        Probe.fit(X, Y, rows=[True, False, True])
    with pytest.raises(ValueError, match="leaves none of the 400 rows of X"):
        Probe.fit(X, Y, rows=np.zeros(N, bool))
    with pytest.raises(ValueError, match="leaves none of the 400 rows of X"):
        Probe.fit(X, Y, rows=Rows(norm_bound=1e-3))
    with pytest.raises(ValueError, match="y has the one class True, expected at least 2"):
        Probe.fit(X, Y, rows=Y)
    with pytest.raises(ValueError, match="y has shape"):
        Probe.fit(X, Y[MASK], rows=MASK)
    with pytest.raises(
        ValueError, match=r"rows.norm_bound is 5.0, expected None: X is SparseCodes"
    ):
        Probe.fit(sp.csr_matrix(X), Y, rows=Rows(norm_bound=5))
    with pytest.raises(TypeError, match="rows is given and X is an iterator"):
        Probe.fit(iter([X]), Y, rows=MASK)
    with pytest.raises(TypeError, match=r"rows is 'all', expected suture.Rows"):
        Probe.fit(X, Y, rows="all")


def agree(one: SteeringVector, two: SteeringVector) -> None:
    np.testing.assert_allclose(one.vector, two.vector, atol=1e-6)
    assert one.z_mean == pytest.approx(two.z_mean, rel=1e-6)


def test_steering_vectors_are_fitted_to_rows_that_count() -> None:
    other = X[::-1] + 1
    expected = SteeringVector.fit(X[~BEYOND], other)
    for positive in (LARGE, [LARGE[:70], LARGE[70:]], iter([LARGE[:70], LARGE[70:]])):
        agree(SteeringVector.fit(positive, other, rows=Rows()), expected)
    agree(SteeringVector.fit(LARGE, other, rows=(Rows(norm_bound=5), None)), expected)
    every = SteeringVector.fit(LARGE, other)
    agree(SteeringVector.fit(LARGE, other, rows=Rows.all()), every)
    assert not np.allclose(every.vector, expected.vector, atol=1e-3)
    masked = SteeringVector.fit(BAD, other, rows=(MASK, None))
    agree(masked, SteeringVector.fit(X[MASK], other))
    # Both sides by their own tokens.
    tokens = np.arange(N) % 5
    acts = suture.Activations({0: X}, token_ids=tokens)
    both = SteeringVector.fit(acts, suture.Activations({0: other}, token_ids=tokens[::-1]),
                              rows=Rows(leave_out=[2], norm_bound=None))  # fmt: skip
    agree(both, SteeringVector.fit(X[tokens != 2], other[tokens[::-1] != 2]))


def test_messages_of_steering_vectors() -> None:
    bad = X.copy()
    row = int(np.flatnonzero(MASK)[50])
    bad[row, 2] = np.nan
    with pytest.raises(ValueError, match=rf"negative\[{row}, 2\] is nan"):
        SteeringVector.fit(X, [bad[:9], bad[9:]], rows=(None, Rows(mask=MASK, norm_bound=None)))
    with pytest.raises(ValueError, match=r"expected \(rows_positive, rows_negative\): a mask is"):
        SteeringVector.fit(X, X, rows=MASK)
    with pytest.raises(ValueError, match="rows: a tuple of 3, expected"):
        SteeringVector.fit(X, X, rows=(None, None, None))
    with pytest.raises(ValueError, match=r"rows.leave_out is \[3\], expected none: positive has"):
        SteeringVector.fit(X, X, rows=Rows(leave_out=[3]))
    with pytest.raises(ValueError, match="negative has 400 rows, none of which counts"):
        SteeringVector.fit(X, X, rows=(None, Rows(norm_bound=1e-3)))
    with pytest.raises(TypeError, match=r"rows is 3, expected suture.Rows"):
        SteeringVector.fit(X, X, rows=3)


def test_transfers_take_rows() -> None:
    stitch = Stitch(*(RNG.normal(size=s) for s in [(D, D), (D,), (D, D), (D,)]))
    vector = SteeringVector(np.ones(D), z_mean=1.0)
    agree(
        stitch.transfer(vector, acts=LARGE, rows=Rows()), stitch.transfer(vector, acts=X[~BEYOND])
    )
    agree(stitch.transfer(vector, acts=BAD, rows=MASK), stitch.transfer(vector, acts=X[MASK]))
    sae = suture.SAE.init(D, 16, k=3)
    found = stitch.transfer(sae, refit=BAD, rows=MASK)
    np.testing.assert_allclose(
        found.W_dec, stitch.transfer(sae, refit=X[MASK]).W_dec, rtol=1e-4, atol=1e-5
    )
    default = stitch.transfer(sae, refit=LARGE).W_dec
    np.testing.assert_array_equal(stitch.transfer(sae, refit=LARGE, rows=Rows()).W_dec, default)
    for given, word in ((vector, "acts"), (sae, "refit"), (Probe(np.ones(D), 0.0), "refit")):
        with pytest.raises(TypeError, match=f"rows is given without {word}, expected None"):
            stitch.transfer(given, rows=MASK)
    with pytest.raises(ValueError, match=r"rows.mask has shape \(3,\), expected \(400,\)"):
        stitch.transfer(sae, refit=X, rows=[True, False, True])

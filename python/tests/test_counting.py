# SPDX-License-Identifier: Apache-2.0
"""Which rows count in moments, fits, SVCCA and evaluations: against NumPy on the rows chosen by
hand."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

import suture
from suture import Moments, Rows, Stitch, SutureWarning

RNG = np.random.default_rng(3)
N, D_A, D_B = 9000, 5, 7
A = RNG.normal(size=(N, D_A)).astype(np.float32) + 1
B = (A @ RNG.normal(size=(D_A, D_B)) + 0.3 * RNG.normal(size=(N, D_B))).astype(np.float32)
A[::600] *= 100
B[100::900] *= 300
norms_a, norms_b = np.linalg.norm(A.astype(float), axis=1), np.linalg.norm(B.astype(float), axis=1)


def sampled_median(norms: np.ndarray) -> float:
    indices = np.empty(min(len(norms), 4096), np.int64)
    suture._core.norm_sample(len(norms), indices)
    return float(np.median(norms[indices]))


def expect_of(moments: Moments, a: np.ndarray, b: np.ndarray) -> None:
    """That these are the moments of exactly these rows."""
    assert moments.tokens == len(a)
    both = np.concatenate([a, b], axis=1).astype(np.float64)
    expected = np.cov(both.T, bias=True)
    scale = np.abs(expected).max()
    assert np.abs(moments.cov_aa - expected[:D_A, :D_A]).max() < 1e-11 * scale
    assert np.abs(moments.cov_ab - expected[:D_A, D_A:]).max() < 1e-11 * scale
    assert np.abs(moments.mean_b - b.mean(0, dtype=np.float64)).max() < 1e-11 * math.sqrt(scale)


def test_by_default_rows_of_enormous_norm_do_not_count() -> None:
    moments = Moments(A, B)
    bounds = [5 * sampled_median(norms) for norms in (norms_a, norms_b)]
    assert moments.norm_bound_a == pytest.approx(bounds[0], rel=1e-14)
    assert moments.norm_bound_b == pytest.approx(bounds[1], rel=1e-14)
    kept = (norms_a <= bounds[0]) & (norms_b <= bounds[1])
    assert moments.left_out == N - kept.sum() == 25
    expect_of(moments, A[kept], B[kept])
    rows = moments.rows
    assert (rows.tokens, rows.left_out) == (N - 25, 25)
    assert (rows.a.beyond, rows.b.beyond) == (15, 10)
    squares = norms_a**2
    share = squares[norms_a > bounds[0]].sum() / (squares[kept].sum() + squares[::600].sum())
    assert rows.a.share_beyond == pytest.approx(share, rel=1e-9)
    assert rows.a.median == pytest.approx(np.median(norms_a), rel=0.04)
    assert rows.a.largest == pytest.approx(norms_a[kept].max(), rel=1e-12)
    assert not rows.carried_by_few


def test_every_row_counts_where_that_is_said() -> None:
    expect_of(Moments(A, B, rows=Rows.all()), A, B)
    expect_of(Moments(A, B, norm_bound_a=math.inf, norm_bound_b=math.inf), A, B)
    kept = norms_a <= 3.0
    expect_of(Moments(A, B, norm_bound_a=3.0, norm_bound_b=math.inf), A[kept], B[kept])
    kept = (norms_a <= 2 * sampled_median(norms_a)) & (norms_b <= 2 * sampled_median(norms_b))
    expect_of(Moments(A, B, rows=Rows(norm_bound=2)), A[kept], B[kept])


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_plain_gaussian_rows_all_count(scale: float) -> None:
    for d in (1, 2, 8, 64):
        x = RNG.normal(size=(4000, d)) * scale
        # Of one coordinate 0.07 % of a Gaussian are beyond five times the median, of two 3e-8.
        left = Moments(x, x[:, :1] * 0 + scale).left_out
        assert left == 0 if d > 1 else left < 0.003 * 4000


def test_masks_choose_rows_of_every_kind_of_input() -> None:
    mask = RNG.random(N) < 0.4
    expected = Moments(A[mask], B[mask])
    for a, b in ((A, B), ([A[:10], A[10:]], [B[:4000], B[4000:]]), (np.asfortranarray(A), B)):
        for rows in (mask, Rows(mask=mask), Rows(mask=mask.reshape(90, 100))):
            found = Moments(a, b, rows=rows)
            assert found.norm_bound_a == expected.norm_bound_a
            assert found.left_out == expected.left_out
            assert np.allclose(found.cov_ab, expected.cov_ab, rtol=1e-11, atol=1e-12)
    # What is not chosen is not read: padding may hold anything.
    dirty = A.copy()
    dirty[~mask] = np.nan
    assert Moments(dirty, B, rows=mask).tokens == expected.tokens
    with pytest.raises(ValueError, match=r"acts_a\[\d+, \d\] is nan"):
        Moments(dirty, B)
    assert Moments(A, B, rows=np.ones(N, bool)).to_bytes() == Moments(A, B).to_bytes()


def test_masks_of_pairs() -> None:
    rows_a, rows_b = np.sort(RNG.integers(0, N, 3000)), RNG.integers(0, N, 3000)
    mask = RNG.random(3000) < 0.5
    found = Moments(A, B, pairs=(rows_a, rows_b), rows=Rows(mask=mask, norm_bound=None))
    expect_of(found, A[rows_a[mask]], B[rows_b[mask]])
    with pytest.raises(ValueError, match=r"rows.mask has shape \(9000,\), expected \(3000,\)"):
        Moments(A, B, pairs=(rows_a, rows_b), rows=np.ones(N, bool))


def test_a_row_that_is_not_finite_is_never_just_beyond() -> None:
    for value in (np.nan, np.inf):
        bad = A.copy()
        bad[5000, 2] = value
        with pytest.raises(ValueError, match=rf"acts_a\[5000, 2\] is {value}, expected finite"):
            Moments(bad, B, norm_bound_a=1.0, norm_bound_b=1.0)
    # Neither in the sample: 100 rows are all of it.
    with pytest.raises(ValueError, match=r"acts_b\[41, 0\] is nan, expected finite"):
        Moments(A[:100], np.where(np.arange(100)[:, None] == 41, np.nan, B[:100]))
    with pytest.raises(ValueError, match=r"acts_b\[3, 0\] is 1e\+39|acts_b\[3, 0\] is inf"):
        Moments(A[:100], np.where(np.arange(100)[:, None] == 3, 1e39, B[:100].astype(float)))


def test_the_first_rows_decide_for_moments_that_begin_empty() -> None:
    whole = Moments(d_a=D_A, d_b=D_B)
    whole.update(A[:4000], B[:4000]).update(A[4000:], B[4000:])
    first = Moments(A[:4000], B[:4000])
    assert whole.norm_bound_a == first.norm_bound_a
    kept = (norms_a <= whole.norm_bound_a) & (norms_b <= whole.norm_bound_b)
    expect_of(whole, A[kept], B[kept])
    # An iterable is sampled in its first 4096 rows, and read once, however it is cut.
    bound = 5 * float(np.median(norms_a[:4096]))
    for size in (1, 1000, 4096, N):

        def again(x: np.ndarray, size: int = size) -> Iterator[np.ndarray]:
            memory = np.empty((size, x.shape[1]))
            for low in range(0, N, size):
                part = x[low : low + size]
                memory[: len(part)] = part
                yield memory[: len(part)]

        once = Moments(again(A), again(B))
        assert once.norm_bound_a == pytest.approx(bound, rel=1e-14)
        inside = (norms_a <= once.norm_bound_a) & (norms_b <= once.norm_bound_b)
        expect_of(once, A[inside], B[inside])
    with pytest.raises(ValueError, match="acts_a is an iterator, of whose first 4096 rows none"):
        Moments(iter([A]), B, pairs=([8000], [1]))
    chosen = Moments(d_a=D_A, d_b=D_B, rows=Rows(norm_bound=2))
    assert pickle.loads(pickle.dumps(chosen)).update(A, B).left_out > 25
    assert Moments(d_a=D_A, d_b=D_B).update(A, B, rows=Rows.all()).left_out == 0
    # Nothing is decided by what fails.
    empty = Moments(d_a=D_A, d_b=D_B)
    with pytest.raises(ValueError, match="nan"):
        empty.update(np.full((9, D_A), np.nan), B[:9])
    assert empty.norm_bound_a == math.inf
    assert empty.update(A[:99], B[:99]).norm_bound_a < math.inf
    # A handful of rows does not say which norms are ordinary.
    few = Moments(d_a=D_A, d_b=D_B).update(A[1:10], B[1:10])
    assert few.norm_bound_a == math.inf
    assert few.update(A, B).left_out == 0
    with pytest.warns(SutureWarning, match="few rows"):
        Stitch.fit(few)


def test_parts_merge_with_bounds_given_to_all() -> None:
    bounds = {"norm_bound_a": suture.norm_bound(A), "norm_bound_b": suture.norm_bound(B)}
    whole = Moments(A, B)
    assert (whole.norm_bound_a, whole.norm_bound_b) == tuple(bounds.values())
    merged = Moments(A[:50], B[:50], **bounds)
    for start in range(50, N, 1111):
        part = Moments(d_a=D_A, d_b=D_B, **bounds).update(A[start:][:1111], B[start:][:1111])
        merged.merge(Moments.from_bytes(part.to_bytes()))
    assert (merged.tokens, merged.left_out) == (whole.tokens, whole.left_out)
    assert np.allclose(merged.cov_bb, whole.cov_bb, rtol=1e-11, atol=1e-12)


def test_unlike_bounds_do_not_merge() -> None:
    one = Moments(A, B, norm_bound_a=10, norm_bound_b=20)
    before = one.to_bytes()
    for a, b in ((11, 20), (10, 21), (math.inf, 20)):
        other = Moments(A, B, norm_bound_a=a, norm_bound_b=b)
        with pytest.raises(ValueError, match="norm_bound_a") as caught:
            one.merge(other)
        for part in (
            f"norm_bound_a = {float(a)}",
            f"norm_bound_b = {float(b)}",
            "= 10.0",
            "= 20.0",
        ):
            assert part in str(caught.value)
    assert one.to_bytes() == before
    # Estimates of two parts of plain data do: the smaller ones leave out the same rows of both.
    x, y = RNG.normal(size=(4000, 8)), RNG.normal(size=(4000, 8))
    merged = Moments(x[:2000], y[:2000]).merge(Moments(x[2000:], y[2000:]))
    assert merged.tokens == 4000
    # These do not: where the second part begins, norms are a hundredth.
    with pytest.raises(
        ValueError, match=r"norm_bound_a = .*parts of the data need the same bounds"
    ):
        Moments(x, y).merge(Moments(x / 100, y))


def test_all_rows_beyond_the_bound() -> None:
    nothing = Moments(A, B, norm_bound_a=1e-6, norm_bound_b=5)
    assert (nothing.tokens, nothing.left_out) == (0, N)
    for call in (Stitch.fit, suture.svcca):
        with pytest.raises(
            ValueError, match=r"acts_a counts 0 of 9000 tokens.*norm_bound_a = 1e-06"
        ):
            call(nothing)
    with pytest.raises(ValueError, match=r"leaves none of the 9000 rows"):
        Moments(A, B, rows=np.zeros(N, bool))


def test_moments_without_norms_of_zeros() -> None:
    zeros = Moments(np.zeros((5, 2)), np.ones((5, 3)))
    assert (zeros.norm_bound_a, zeros.tokens) == (math.inf, 5)
    padded = np.zeros((100, 3))
    padded[::10] = 1
    assert suture.norm_bound(padded, 5) == pytest.approx(5 * math.sqrt(3))


def test_few_rows_that_carry_the_variance_are_warned_of() -> None:
    with pytest.warns(
        SutureWarning, match=r"Stitch.fit: few rows: 15 of 9000 rows of acts_a have"
    ) as w:
        stitch = Stitch.fit(A, B, rows=Rows.all())
    assert sum("few rows" in str(one.message) for one in w) == 1
    report = stitch.report
    assert report is not None
    assert report.rows.carried_by_few
    assert report.rows.a.massive == 15
    assert report.rows.a.massive_share > 0.5
    with pytest.warns(SutureWarning, match="svcca: few rows"):
        suture.svcca(A, B, rows=Rows.all())


def test_fit_and_evaluation_count_the_same_rows() -> None:
    kept = (norms_a <= suture.norm_bound(A)) & (norms_b <= suture.norm_bound(B))
    stitch, expected = Stitch.fit(A, B), Stitch.fit(A[kept], B[kept], rows=Rows.all())
    assert stitch.report is not None
    assert stitch.report.rows.left_out == 25
    assert stitch.metadata["norm_bound_a"] == suture.norm_bound(A)
    assert "norm_bound_a" not in expected.metadata
    assert np.abs(stitch.P_up - expected.P_up).max() < 1e-5
    # The bounds of the fit, whatever the held-out rows are; other ones only if asked for.
    held_a, held_b = A[:3000] / 3, B[:3000]
    inside = (np.linalg.norm(held_a, axis=1) <= stitch.metadata["norm_bound_a"]) & kept[:3000]
    assert stitch.evaluate(held_a, held_b).tokens == inside.sum()
    with pytest.warns(SutureWarning, match="Stitch.evaluate: few rows"):
        assert stitch.evaluate(held_a, held_b, rows=Rows.all()).tokens == 3000
    fresh = Moments(held_a, held_b, rows=Rows(norm_bound=4))
    assert stitch.evaluate(held_a, held_b, rows=Rows(norm_bound=4)).tokens == fresh.tokens
    large = 10 * held_a
    ordinary = Moments(large, held_b).tokens
    assert stitch.evaluate(large, held_b, rows=Rows(norm_bound=5)).tokens == ordinary
    assert stitch.evaluate(large, held_b).tokens < ordinary
    assert Stitch.fit(Moments(A, B)).P_up.tolist() == stitch.P_up.tolist()
    assert suture.svcca(A, B) == suture.svcca(Moments(A, B))
    mask = np.arange(N) % 2 == 0
    assert suture.svcca(A, B, rows=mask) == suture.svcca(A[mask], B[mask])


def test_a_grid_is_of_the_same_rows_everywhere() -> None:
    # White coordinates are float32.
    layers_a = {0: A, 1: (A + RNG.normal(size=A.shape)).astype(np.float32)}
    layers_b = [B, (B + RNG.normal(size=B.shape)).astype(np.float32)]
    layers_b[1][4444] *= 1000
    grid = suture.svcca_grid(layers_a, layers_b)
    kept = np.ones(N, bool)
    for layer in (*layers_a.values(), *layers_b):
        kept &= np.linalg.norm(layer.astype(float), axis=1) <= suture.norm_bound(layer)
    assert not kept[4444]
    for i, a in enumerate(layers_a.values()):
        for j, b in enumerate(layers_b):
            one = suture.svcca(a[kept], b[kept], rows=Rows.all()).mean_correlation
            assert grid[i, j] == pytest.approx(one, abs=1e-6)
    swapped = RNG.permutation(N)
    moved = [layer[swapped] for layer in layers_b]
    pairs = (swapped, np.arange(N))
    assert suture.svcca_grid(layers_a, moved, pairs=pairs) == pytest.approx(grid, abs=1e-6)
    mask = np.arange(N) < 3000
    half = suture.svcca_grid([A], [B], rows=mask)[0, 0]
    assert half == pytest.approx(suture.svcca(A[mask], B[mask]).mean_correlation, abs=1e-6)


def test_ten_percent_of_one_side_is_not_few() -> None:
    wide = RNG.normal(size=(2000, 6)) * np.exp(RNG.normal(size=(2000, 1)))
    assert not Moments(wide, wide, rows=Rows.all()).rows.carried_by_few


def test_norms_are_those_of_numpy() -> None:
    assert np.allclose(suture.row_norms(A), norms_a, rtol=1e-14)
    assert np.allclose(suture.row_norms([A[:7], A[7:]]), norms_a, rtol=1e-14)
    half = A.astype(np.float16)
    assert np.allclose(
        suture.row_norms(half), np.linalg.norm(half.astype(float), axis=1), rtol=1e-14
    )
    bad = A.copy()
    bad[8000, 4] = np.inf
    with pytest.raises(ValueError, match=r"acts\[8000, 4\] is inf"):
        suture.row_norms(bad)


def test_the_bound_does_not_depend_on_how_rows_are_cut() -> None:
    bound = suture.norm_bound(A, 3)
    assert bound == pytest.approx(3 * sampled_median(norms_a), rel=1e-14)
    assert suture.norm_bound([A[:1], A[1:8000], A[8000:]], 3) == bound
    assert suture.norm_bound(A.astype(np.float64), 3) == bound
    mask = np.arange(N) % 3 == 0
    assert suture.norm_bound(A, 3, rows=mask) == suture.norm_bound(A[mask], 3)

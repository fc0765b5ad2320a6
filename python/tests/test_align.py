# SPDX-License-Identifier: Apache-2.0
"""`suture.align` against sets of ends, and `pairs=` against rows chosen by NumPy."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suture


def reference(ends_a: list[int], ends_b: list[int]) -> list[tuple[int, int]]:
    last_a = {end: row for row, end in enumerate(ends_a)}
    last_b = {end: row for row, end in enumerate(ends_b)}
    return [(last_a[end], last_b[end]) for end in sorted(last_a.keys() & last_b.keys())]


def segmentation(rng: np.random.Generator, text: bytes) -> list[int]:
    """Ends of random tokens of random text: some within characters, some empty."""
    ends = sorted(rng.integers(0, len(text) + 1, rng.integers(1, len(text) + 2)).tolist())
    return [*ends, len(text)]


def test_random_segmentations_of_random_text() -> None:
    rng = np.random.default_rng(9)
    letters = list("ab é語🙂\r\n\t\u0301א")
    for _ in range(2000):
        text = "".join(rng.choice(letters, rng.integers(1, 30))).encode()
        a, b = segmentation(rng, text), segmentation(rng, text)
        rows_a, rows_b = suture.align(a, b)
        assert rows_a.dtype == rows_b.dtype == np.int64
        found = list(zip(rows_a.tolist(), rows_b.tolist(), strict=True))
        assert found == reference(a, b)
        assert [(j, i) for i, j in found] == list(
            zip(*(x.tolist() for x in suture.align(b, a)), strict=True)
        )
        distinct = sorted(set(a))
        assert all((x == range(len(distinct))).all() for x in suture.align(distinct, distinct))


def test_linear_time_on_long_lists() -> None:
    ends = np.arange(2_000_000, dtype=np.int64)
    rows_a, rows_b = suture.align(ends, ends[1::2])
    assert (rows_a == ends[1::2]).all()
    assert (rows_b == np.arange(len(ends) // 2)).all()


def test_no_shared_end_warns_and_empty_lists_do_not() -> None:
    with pytest.warns(suture.SutureWarning, match=r"ends_a \(1 to 3\).*share no end"):
        rows_a, rows_b = suture.align([1, 3], [2, 4])
    assert len(rows_a) == len(rows_b) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(suture.align([], [2, 4])[0]) == 0


RNG = np.random.default_rng(3)
A = RNG.normal(size=(900, 5)).astype(np.float32)
B = RNG.normal(size=(700, 7)).astype(np.float16)
ANY = RNG.integers(0, 900, 1500), RNG.integers(0, 700, 1500)
ASCENDING = np.sort(ANY[0]), np.sort(ANY[1])


def kinds(x: Any, folder: Path) -> dict[str, Any]:
    """The same rows in several forms."""
    cuts = (0, 10, len(x) // 2, len(x))
    parts = [x[low:high] for low, high in itertools.pairwise(cuts)]
    (folder / "shards").mkdir()
    for number, part in enumerate(parts):
        np.save(folder / "shards" / f"{number:05d}.npy", part)
    return {
        "array": x,
        "list": parts,
        "folder": folder / "shards",
        "columns": np.asfortranarray(x),
        "batch": x.reshape(-1, 10, x.shape[1]),
    }


@pytest.mark.parametrize("order", ["any", "ascending"])
def test_pairs_are_the_rows_they_name(order: str, tmp_path: Path) -> None:
    rows_a, rows_b = ANY if order == "any" else ASCENDING
    expected = suture.Moments(A[rows_a], B[rows_b])
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    forms_a, forms_b = kinds(A, tmp_path / "a"), kinds(B, tmp_path / "b")
    for (name_a, a), (name_b, b) in itertools.product(forms_a.items(), forms_b.items()):
        found = suture.Moments(a, b, pairs=(rows_a, rows_b))
        assert found.tokens == len(rows_a), (name_a, name_b)
        # Sums of 1500 products in another order: 1500 roundings of 1e-16.
        np.testing.assert_allclose(found.cov_ab, expected.cov_ab, atol=1e-12)
        np.testing.assert_allclose(found.cov_bb, expected.cov_bb, atol=1e-12)
        np.testing.assert_allclose(found.mean_a, expected.mean_a, atol=1e-13)


def test_pairs_in_one_array_give_the_same_bits_as_copied_rows() -> None:
    expected = suture.Moments(A[ASCENDING[0]], B[ASCENDING[1]])
    assert suture.Moments(A, B, pairs=ASCENDING).to_bytes() == expected.to_bytes()
    identity = np.arange(700), np.arange(700)
    assert suture.Moments(A, B, pairs=identity).to_bytes() == suture.Moments(A[:700], B).to_bytes()


def test_pairs_from_iterators() -> None:
    expected = suture.Moments(A[ASCENDING[0]], B[ASCENDING[1]])
    found = suture.Moments(iter([A[:3], A[3:]]), iter([B[:600], B[600:]]), pairs=ASCENDING)
    np.testing.assert_allclose(found.cov_ab, expected.cov_ab, atol=1e-12)
    with pytest.raises(TypeError, match="acts_b is an iterator"):
        suture.Moments(A, iter([B]), pairs=ANY)
    moments = suture.Moments(A, B, pairs=ASCENDING)
    before = moments.to_bytes()
    with pytest.raises(ValueError, match=r"pairs\[0\]\[1\] is 5000, expected 0 to 899"):
        moments.update(iter([A[:3], A[3:]]), B, pairs=([0, 5000], [0, 1]))
    assert moments.to_bytes() == before


def test_everything_that_takes_pairs() -> None:
    rows_a, rows_b = ANY
    mixed = A @ RNG.normal(size=(5, 5)).astype(np.float32)
    stitch = suture.Stitch.fit(A, mixed, pairs=(rows_a, rows_a))
    assert stitch.report is not None
    assert stitch.report.after.tokens == 1500
    one = stitch.evaluate(A, mixed, pairs=(rows_a, rows_a))
    assert one.up == pytest.approx(
        stitch.evaluate(A[rows_a], mixed[rows_a]).up, rel=1e-9, abs=1e-12
    )
    expected = suture.svcca(A[rows_a], B[rows_b]).mean_correlation
    assert suture.svcca(A, B, pairs=ANY).mean_correlation == pytest.approx(expected, abs=1e-9)
    grid = suture.svcca_grid([A], [B], pairs=ANY)
    # White coordinates are float32.
    assert grid[0, 0] == pytest.approx(expected, abs=1e-6)
    added = suture.Moments(d_a=5, d_b=7).update(A, B, pairs=ANY)
    assert added.tokens == 1500


def test_a_bad_value_is_named_by_its_row_of_the_whole_input() -> None:
    bad = B.copy()
    bad[650, 2] = np.inf
    pairs = ([1, 2, 3], [0, 650, 1])
    for b in (bad, [bad[:300], bad[300:]]):
        with pytest.raises(ValueError, match=r"acts_b\[650, 2\] is inf"):
            suture.Moments(A, b, pairs=pairs)
    # A row that is in no pair is not looked at.
    assert suture.Moments(A, bad, pairs=([1, 2], [0, 1])).tokens == 2

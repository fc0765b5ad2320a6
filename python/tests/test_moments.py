# SPDX-License-Identifier: Apache-2.0
"""Moments against NumPy, and what may not change them."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import suture


def pair(rng: np.random.Generator, rows: int = 500) -> tuple[np.ndarray, np.ndarray]:
    h_a = rng.normal(3, 1, (rows, 5)).astype(np.float32)
    h_b = (h_a @ rng.normal(size=(5, 7)) + rng.normal(size=(rows, 7))).astype(np.float32)
    return h_a, h_b


def check(moments: suture.Moments, h_a: np.ndarray, h_b: np.ndarray) -> None:
    a, b = h_a.astype(np.float64), h_b.astype(np.float64)
    a_centred, b_centred = a - a.mean(0), b - b.mean(0)
    assert (moments.d_a, moments.d_b, moments.tokens) == (a.shape[1], b.shape[1], len(a))
    for found, expected in [
        (moments.mean_a, a.mean(0)),
        (moments.mean_b, b.mean(0)),
        (moments.cov_aa, a_centred.T @ a_centred / len(a)),
        (moments.cov_ab, a_centred.T @ b_centred / len(a)),
        (moments.cov_bb, b_centred.T @ b_centred / len(a)),
    ]:
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


def test_against_numpy(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    check(suture.Moments(h_a, h_b), h_a, h_b)


def test_update_and_merge(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    moments = suture.Moments(d_a=5, d_b=7)
    assert moments.tokens == 0
    assert moments.update(h_a[:100], h_b[:100]) is moments
    other = suture.Moments(h_a[350:], h_b[350:])
    moments.merge(other).update(h_a[100:350], h_b[100:350])
    check(moments, h_a, h_b)
    assert other.tokens == 150


def test_bytes_pickle_and_copy(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    moments = suture.Moments(h_a, h_b)
    data = moments.to_bytes()
    for other in (
        suture.Moments.from_bytes(data),
        suture.Moments.from_bytes(bytearray(data)),
        pickle.loads(pickle.dumps(moments)),
        copy.deepcopy(moments),
    ):
        assert other.to_bytes() == data
        other.update(h_a, h_b)
        assert moments.tokens == len(h_a)


@pytest.mark.parametrize(
    "damage", [lambda d: d[:-1], lambda d: d[:40] + b"?" + d[41:], lambda d: b""]
)
def test_damaged_bytes(rng: np.random.Generator, damage: object) -> None:
    data = suture.Moments(*pair(rng)).to_bytes()
    with pytest.raises(suture.FormatError):
        suture.Moments.from_bytes(damage(data))  # type: ignore[operator]


def test_failed_update_changes_nothing(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    moments = suture.Moments(h_a, h_b)
    before = moments.to_bytes()
    bad = h_b.copy()
    bad[-1, -1] = np.inf
    for acts_b in (bad, [bad[:400], bad[400:]], h_b[:-1], h_b[:, :6]):
        with pytest.raises(ValueError, match="acts_b"):
            moments.update(h_a, acts_b)
        assert moments.to_bytes() == before


def test_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    h_a, h_b = pair(rng, 20_011)
    found = set()
    for count in (1, 2, 8):
        suture.set_threads(count)
        found.add(suture.Moments(h_a, h_b).to_bytes())
    assert len(found) == 1


def test_progress_function(rng: np.random.Generator) -> None:
    h_a = rng.normal(size=(200_000, 64)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    suture.Moments(h_a, h_a, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert all(total == len(h_a) and 0 <= done <= total for done, total in seen)
    assert seen == sorted(seen)

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    moments = suture.Moments(d_a=64, d_b=64)
    with pytest.raises(Enough):
        moments.update(h_a, h_a, progress=stop)
    assert moments.tokens == 0
    assert moments.update(h_a[:10], h_a[:10]).tokens == 10


def test_the_gil_is_released(rng: np.random.Generator) -> None:
    h = rng.normal(size=(200_000, 64)).astype(np.float32)
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    other = threading.Thread(target=count)
    other.start()
    core = suture.Moments(d_a=64, d_b=64)._core
    rows = suture._inputs.rows(h, "h")
    before = ticks
    core.update(rows, rows, None)
    during = ticks - before
    done.set()
    other.join()
    assert during >= 5


def test_one_change_at_a_time(rng: np.random.Generator) -> None:
    """A second call on an object that one call is changing is an error, not a race."""
    h = rng.normal(size=(200_000, 64)).astype(np.float32)
    core = suture.Moments(d_a=64, d_b=64)._core
    rows = suture._inputs.rows(h, "h")
    errors: list[str] = []

    def meanwhile(done: int, total: int) -> None:
        for call in (core.serialize, core.info, lambda: core.update(rows, rows, None)):
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))

    core.update(rows, rows, meanwhile)
    assert len(errors) >= 3
    assert "by another call" in errors[0]
    assert core.info()[2] == len(h)


def test_no_leaks(rng: np.random.Generator) -> None:
    moments = suture.Moments(*pair(rng))
    core, outer = weakref.ref(moments._core), weakref.ref(moments)
    del moments
    gc.collect()
    assert core() is None
    assert outer() is None

# SPDX-License-Identifier: Apache-2.0
"""Stitches against NumPy: fitting, applying, keeping."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from kinds import COPIED, DIRECT, exact, files

import suture


def pair(rng: np.random.Generator, rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    h_a = rng.normal(1, 1, (rows, 6))
    h_b = h_a @ rng.normal(size=(6, 9)) + 0.3 * rng.normal(size=(rows, 9)) - 2
    return h_a.astype(np.float32), h_b.astype(np.float32)


def arrays(rng: np.random.Generator, d_a: int = 6, d_b: int = 9) -> dict[str, np.ndarray]:
    shapes = {"P_up": (d_a, d_b), "b_up": (d_b,), "P_down": (d_b, d_a), "b_down": (d_a,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def objective(stitch: suture.Stitch, h_a: np.ndarray, h_b: np.ndarray, alpha: float) -> list[float]:
    a, b = h_a.astype(np.float64), h_b.astype(np.float64)

    def up(h: np.ndarray) -> np.ndarray:
        return h @ stitch.P_up.astype(np.float64) + stitch.b_up

    def down(h: np.ndarray) -> np.ndarray:
        return h @ stitch.P_down.astype(np.float64) + stitch.b_down

    terms = [
        np.mean((up(a) - b) ** 2),
        np.mean((down(b) - a) ** 2),
        np.mean((down(up(a)) - a) ** 2),
        np.mean((up(down(b)) - b) ** 2),
    ]
    return [*terms, terms[0] + terms[1] + alpha * (terms[2] + terms[3])]


def test_least_squares_at_alpha_0(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    stitch = suture.Stitch.fit(h_a, h_b, alpha=0)
    for source, target, matrix, bias in [
        (h_a, h_b, stitch.P_up, stitch.b_up),
        (h_b, h_a, stitch.P_down, stitch.b_down),
    ]:
        with_ones = np.column_stack([source, np.ones(len(source))]).astype(np.float64)
        expected = np.linalg.lstsq(with_ones, target.astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(matrix, expected[:-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(bias, expected[-1], rtol=1e-4, atol=1e-5)


def test_report_and_evaluate(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    stitch = suture.Stitch.fit(h_a, h_b, alpha=1.0)
    report = stitch.report
    assert report is not None
    assert report.converged
    assert report.iterations >= 1
    assert (report.rank_a, report.rank_b) == (6, 9)
    assert report.warnings == ()
    assert report.after.scaled_total <= report.before.scaled_total
    for found in (report.after, stitch.evaluate(h_a, h_b)):
        up, down, a_round, b_round, total = objective(stitch, h_a, h_b, 1.0)
        np.testing.assert_allclose(
            [found.up, found.down, found.a_round_trip, found.b_round_trip, found.total],
            [up, down, a_round, b_round, total],
            rtol=1e-5,
        )
        assert found.tokens == len(h_a)
        assert found.alpha == 1.0
        variance = np.var(h_b.astype(np.float64), axis=0).mean()
        np.testing.assert_allclose(found.up_explained_variance, 1 - up / variance, rtol=1e-5)
        np.testing.assert_allclose(found.variance_b, variance, rtol=1e-5)
        shares = [up / variance, b_round / variance]
        variance = np.var(h_a.astype(np.float64), axis=0).mean()
        np.testing.assert_allclose(found.variance_a, variance, rtol=1e-5)
        shares += [down / variance, a_round / variance]
        np.testing.assert_allclose(found.scaled_total, sum(shares), rtol=1e-5)
        np.testing.assert_allclose(
            found.a_round_trip_explained_variance, 1 - a_round / variance, rtol=1e-5
        )
    held_a, held_b = pair(np.random.default_rng(1))
    held = stitch.evaluate(held_a, held_b, alpha=0.5)
    np.testing.assert_allclose(held.total, objective(stitch, held_a, held_b, 0.5)[-1], rtol=1e-5)


def test_moments_instead_of_activations(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng)
    moments = suture.Moments(h_a, h_b)
    direct = suture.Stitch.fit(h_a, h_b)
    for stitch in (suture.Stitch.fit(moments), suture.Stitch.fit(moments=moments)):
        np.testing.assert_array_equal(stitch.P_up, direct.P_up)
    assert direct.evaluate(moments) == direct.evaluate(h_a, h_b)


def test_warnings(rng: np.random.Generator) -> None:
    h_a, h_b = pair(rng, 8)
    with pytest.warns(suture.SutureWarning, match="few tokens|rank"):
        stitch = suture.Stitch.fit(h_a, h_b)
    assert stitch.report is not None
    assert stitch.report.warnings
    assert np.isfinite(stitch.P_up).all()
    h_a, h_b = pair(rng)
    with pytest.warns(suture.SutureWarning, match="not converged"):
        suture.Stitch.fit(h_a, h_b, max_iterations=1, tolerance=1e-300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suture.Stitch.fit(h_a, h_b)


@pytest.mark.parametrize("kind", [*DIRECT, *COPIED])
def test_apply_to_every_kind_of_array(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    weights = arrays(rng)
    stitch = suture.Stitch(**weights)
    x = exact(rng)
    made = (DIRECT | COPIED)[kind](x, tmp_path)
    expected = x @ weights["P_up"] + weights["b_up"]
    found = stitch.up(made)
    assert found.dtype == np.float32
    assert found.shape == (*made.shape[:-1], 9)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


def test_apply_to_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    stitch = suture.Stitch(**arrays(rng))
    x = exact(rng)
    expected = stitch.up(x)
    for kind, acts in files(x, tmp_path).items():
        np.testing.assert_allclose(stitch.up(acts), expected, rtol=1e-5, err_msg=kind)


def test_both_ways(rng: np.random.Generator) -> None:
    weights = arrays(rng)
    stitch = suture.Stitch(**weights)
    h_a, h_b = exact(rng), exact(rng, (7, 9))
    down = h_b @ weights["P_down"] + weights["b_down"]
    np.testing.assert_allclose(stitch.down(h_b), down, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(stitch.round_trip_a(h_a), stitch.down(stitch.up(h_a)))
    np.testing.assert_array_equal(stitch.round_trip_b(h_b), stitch.up(stitch.down(h_b)))


def test_file_pickle_and_copy(rng: np.random.Generator, tmp_path: Path) -> None:
    stitch = suture.Stitch.fit(*pair(rng), metadata={"model_a": "small", "layer_a": 3})
    stitch.metadata |= {"model_b": "grande è bello", "layer_b": 4}
    stitch.metadata["list"] = [1, 2.5, None, {"x": True}]
    path = tmp_path / "ö stitch.safetensors"
    stitch.save(path)
    copies = [suture.Stitch.load(path), pickle.loads(pickle.dumps(stitch)), copy.deepcopy(stitch)]
    for other in copies:
        for name in ("P_up", "b_up", "P_down", "b_down"):
            np.testing.assert_array_equal(getattr(other, name), getattr(stitch, name))
        assert other.metadata == stitch.metadata
    assert copies[1].report == stitch.report
    assert stitch.metadata["tokens"] == 600
    assert stitch.metadata["alpha"] == 1.0
    assert repr(copies[0]) == (
        "Stitch(d_a=6, d_b=9, a='small' layer 3, b='grande è bello' layer 4)"
    )


def test_file_is_safetensors(rng: np.random.Generator, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    weights = arrays(rng)
    suture.Stitch(**weights).save(tmp_path / "s.safetensors")
    stored = load_file(tmp_path / "s.safetensors")
    for name, array in weights.items():
        np.testing.assert_array_equal(stored[name].reshape(array.shape), array)


def test_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    h_a, h_b = pair(rng, 20_011)
    found = set()
    for count in (1, 2, 8):
        suture.set_threads(count)
        stitch = suture.Stitch.fit(h_a, h_b)
        found.add(stitch.P_up.tobytes() + stitch.P_down.tobytes() + stitch.up(h_a).tobytes())
    assert len(found) == 1


def test_svcca(rng: np.random.Generator) -> None:
    h = rng.normal(size=(2000, 5))
    noise = rng.normal(size=(2000, 5))
    alike = suture.svcca(h, h @ rng.normal(size=(5, 5)))
    assert alike.mean_correlation == pytest.approx(1, abs=1e-6)
    assert (alike.kept_a, float(alike)) == (5, alike.mean_correlation)
    assert suture.svcca(h, noise).mean_correlation < 0.2
    assert suture.svcca(suture.Moments(h, noise)) == suture.svcca(h, noise)
    # Correlation r in each direction: noise added to an orthogonal copy.
    mixed = suture.svcca(h, h + noise, variance_kept=1.0)
    assert mixed.mean_correlation == pytest.approx(np.sqrt(0.5), abs=0.03)


def test_svcca_grid(rng: np.random.Generator) -> None:
    a = [rng.normal(size=(300, 4)) for _ in range(2)]
    b = {"x": a[1] * 2, "y": rng.normal(size=(300, 6)), "z": a[0]}
    seen: list[tuple[int, int]] = []
    grid = suture.svcca_grid(a, b, progress=lambda done, total: seen.append((done, total)))
    assert grid.shape == (2, 3)
    expected = [[float(suture.svcca(x, y)) for y in b.values()] for x in a]
    # White coordinates are float32.
    np.testing.assert_allclose(grid, expected, atol=1e-6)
    assert grid[0, 2] > 0.99 < grid[1, 0]
    # Three layers of B are whitened, then six pairs compared.
    assert seen == [(i, 9) for i in range(1, 10)]
    acts = suture.Activations(
        {1: a[0].astype(np.float32), 2: a[1].astype(np.float32)}, token_ids=list(range(300))
    )
    np.testing.assert_allclose(suture.svcca_grid(acts, b), expected, atol=1e-6)

# SPDX-License-Identifier: Apache-2.0
"""Probes carried by pairs, against NumPy and scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from test_carry import HELD_OUT, ROWS

import suture

D_A, D_B = 10, 14
Rows = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Rows of A, and of B: a linear map of them with noise and a large mean."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(ROWS, D_A)) * np.linspace(0.5, 2, D_A) + 3
    b = a @ rng.normal(size=(D_A, D_B)) + 0.5 * rng.normal(size=(ROWS, D_B)) + 30
    return a.astype(np.float32), b.astype(np.float32)


def probe(outputs: int, width: int = D_A) -> suture.Probe:
    rng = np.random.default_rng(outputs)
    return suture.Probe(
        rng.normal(size=(outputs, width)) * 3,
        rng.normal(size=outputs),
        classes=["no", "yes"] if outputs == 1 else [f"c{i}" for i in range(outputs)],
        metadata={"model_name": "A", "hook_name": "blocks.1.hook_resid_pre", "note": "kept"},
    )


def carried(of: suture.Probe, a: Any, b: Any, **options: Any) -> Any:
    return suture.carry(of, a, b, **{"rows": suture.Rows.all(), "progress": False} | options)


class Reference:
    """The regression, in float64."""

    def __init__(self, of: suture.Probe, a: np.ndarray, b: np.ndarray) -> None:
        self.z = a.astype(np.float64) @ of.weights.T.astype(np.float64) + of.bias
        x = b.astype(np.float64)
        self.mean, self.h, self.n = x.mean(0), x - x.mean(0), len(x)
        self.cov = self.h.T @ self.h / self.n
        self.scale = np.trace(self.cov) / len(self.cov)

    def solve(self, target: np.ndarray, ridge: float) -> np.ndarray:
        added = ridge * self.scale * np.eye(len(self.cov))
        return np.linalg.solve(self.cov + added, target)

    def weights(self, ridge: float) -> np.ndarray:
        return self.solve(self.h.T @ (self.z - self.z.mean(0)) / self.n, ridge)

    def errors(self, ridge: float) -> np.ndarray:
        """Of each output, by generalised cross-validation, as a share of its variance."""
        left = ((self.z - self.z.mean(0) - self.h @ self.weights(ridge)) ** 2).mean(0)
        free = 1 - (1 + np.trace(self.solve(self.cov, ridge))) / self.n
        return left / self.z.var(0) / free**2


@pytest.mark.parametrize("outputs", [1, 3, 5])
@pytest.mark.parametrize("way", ["up", "down"])
def test_is_numpys_ridge_regression_of_the_logits(rows: Rows, outputs: int, way: str) -> None:
    a, b = rows if way == "up" else rows[::-1]
    of = probe(outputs, a.shape[1])
    made, report = carried(of, a, b)
    reference = Reference(of, a[~HELD_OUT], b[~HELD_OUT])
    grid = 10 ** (np.arange(-80, 17) / 8)
    best = grid[int(np.argmin([reference.errors(ridge).sum() for ridge in grid]))]
    # The error is flat: rounding may choose the neighbour.
    assert abs(np.log10(report.ridge / best)) < 0.126
    assert (report.rows, report.held_out_rows) == (reference.n, HELD_OUT.sum())
    weights = reference.weights(report.ridge)
    np.testing.assert_allclose(made.weights, weights.T, rtol=1e-5, atol=1e-6)
    bias = reference.z.mean(0) - reference.mean @ made.weights.T.astype(np.float64)
    np.testing.assert_allclose(made.bias, bias, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(report.r_squared, 1 - reference.errors(report.ridge), atol=1e-8)
    same = made.predict(b[HELD_OUT]) == of.predict(a[HELD_OUT])
    assert report.agreement == same.mean() > 0.8
    np.testing.assert_array_equal(made.classes, of.classes)
    assert made.metadata["note"] == "kept"
    assert made.metadata["transferred_from"]["model_name"] == "A"
    assert f"{report.rows} pairs" in str(report)


def test_a_given_ridge_is_scikit_learns(rows: Rows) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    of = probe(3)
    made, report = carried(of, *rows, ridge=0.1)
    assert report.ridge == 0.1
    reference = Reference(of, *(side[~HELD_OUT] for side in rows))
    alpha = 0.1 * reference.scale * reference.n
    known = linear.Ridge(alpha).fit(rows[1][~HELD_OUT].astype(np.float64), reference.z)
    np.testing.assert_allclose(made.weights, known.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.bias, known.intercept_, rtol=1e-4, atol=1e-4)


def test_is_the_probe_composed_with_the_ridge_stitch_of_the_same_ridge(rows: Rows) -> None:
    of = probe(3)
    a, b = (side[~HELD_OUT] for side in rows)
    stitch = suture.Stitch.fit(
        a, b, method="ridge", ridge=0.01, rows=suture.Rows.all(), progress=False
    )
    made, _ = carried(of, *rows, ridge=0.01)
    through = stitch.transfer(of)
    np.testing.assert_allclose(made.weights, through.weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.bias, through.bias, rtol=1e-4, atol=1e-3)


def test_pairs_say_what_belongs_together(rows: Rows) -> None:
    a, b = rows
    order = np.random.default_rng(1).permutation(ROWS)
    inverse = np.argsort(order)
    made, _ = carried(probe(1), a, b[order], pairs=(np.arange(ROWS), inverse), ridge=0.01)
    straight, _ = carried(probe(1), a, b, ridge=0.01)
    np.testing.assert_allclose(made.weights, straight.weights, rtol=1e-5, atol=1e-6)
    unpaired, report = carried(probe(1), a, b[order], ridge=0.01)
    assert report.r_squared[0] < 0.05
    assert np.abs(unpaired.weights - straight.weights).max() > 0.1


def test_iterators_are_read_once(rows: Rows) -> None:
    a, b = rows
    made, report = suture.carry(
        probe(3), iter([a[:1000], a[1000:]]), iter([b[:3000], b[3000:]]),
        rows=suture.Rows.all(), progress=False,
    )  # fmt: skip
    whole, known = carried(probe(3), a, b)
    np.testing.assert_allclose(made.weights, whole.weights, rtol=1e-5, atol=1e-6)
    assert (report.rows, report.agreement) == (known.rows, known.agreement)


def test_an_output_that_does_not_vary_keeps_its_logit(rows: Rows) -> None:
    weights = np.random.default_rng(2).normal(size=(3, D_A))
    weights[1] = 0
    made, report = carried(suture.Probe(weights, [0.0, 7.0, 0.0]), *rows)
    assert np.isnan(report.r_squared[1])
    assert np.isfinite(report.r_squared[[0, 2]]).all()
    assert not made.weights[1].any()
    assert made.bias[1] == 7
    with pytest.raises(suture.NumericalError, match="logits of the probe do not vary"):
        carried(suture.Probe(np.zeros(D_A), 1.0), *rows)
    constant = np.ones((ROWS, D_A), np.float32)
    with pytest.raises(ValueError, match="acts_a is the same in all"):
        carried(probe(1), constant, rows[1])
    with pytest.raises(ValueError, match="acts_b is the same in all"):
        carried(probe(1), rows[0], constant)


def test_fewer_rows_than_coordinates_are_warned_of(rows: Rows) -> None:
    with pytest.warns(suture.SutureWarning, match="12 pairs of rows for the 14 coordinates"):
        made, report = carried(probe(1), *(side[:12] for side in rows))
    assert np.isfinite(made.weights).all()
    assert report.held_out_rows == 0
    assert np.isnan(report.agreement)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        carried(probe(1), *(side[:400] for side in rows))


@pytest.mark.parametrize("side", ["acts_a", "acts_b"])
@pytest.mark.parametrize("held_out", [False, True])
def test_a_value_that_is_not_finite_is_named(rows: Rows, side: str, held_out: bool) -> None:
    given = dict(zip(("acts_a", "acts_b"), (side.copy() for side in rows), strict=True))
    row = int(np.flatnonzero(held_out == HELD_OUT)[-1])
    given[side][row, 3] = np.nan
    with pytest.raises(ValueError, match=rf"{side}\[{row}, 3\] is nan"):
        carried(probe(1), given["acts_a"], given["acts_b"])


def test_held_out_blocks_are_thinned_evenly(rows: Rows, monkeypatch: Any) -> None:
    from suture._carry_linear import _HeldOut

    blocks = len(np.unique(np.flatnonzero(HELD_OUT) // 64))
    assert blocks > 4
    monkeypatch.setattr(_HeldOut, "MOST", blocks - 1)
    of = probe(1)
    made, report = carried(of, *rows)
    kept = np.unique(np.flatnonzero(HELD_OUT) // 64)[::2]
    used = HELD_OUT & np.isin(np.arange(ROWS) // 64, kept)
    assert report.held_out_rows == used.sum()
    same = made.predict(rows[1][used]) == of.predict(rows[0][used])
    assert report.agreement == same.mean()


def test_a_cancelled_run_raises_and_leaves_the_probe(rows: Rows) -> None:
    of = probe(1)
    before = of.weights.copy(), of.bias.copy(), dict(of.metadata)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carried(of, *rows, progress=stop)
    np.testing.assert_array_equal(of.weights, before[0])
    np.testing.assert_array_equal(of.bias, before[1])
    assert of.metadata == before[2]
    made, _ = carried(of, *rows)
    assert made.d_in == D_B


def test_same_bits_for_any_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(9000, 70)).astype(np.float32)
    b = (a @ rng.normal(size=(70, 90)) + rng.normal(size=(9000, 90))).astype(np.float32)
    found = []
    try:
        for threads in (1, 2, 8):
            suture.set_threads(threads)
            made, report = carried(probe(3, 70), a, b)
            numbers = made.weights.tobytes(), made.bias.tobytes(), report.r_squared.tobytes()
            found.append((*numbers, report.ridge, report.agreement))
    finally:
        suture.set_threads(0)
    assert found[0] == found[1] == found[2]

# SPDX-License-Identifier: Apache-2.0
"""Probes against scikit-learn, and against NumPy where that has no word for it."""

from __future__ import annotations

import itertools
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import suture

Data = tuple[np.ndarray, np.ndarray, dict[str, Any]]


def pair_of(loader: Any, a: int, b: int) -> Data:
    X, y = loader(return_X_y=True)
    rows = (y == a) | (y == b)
    return X[rows], y[rows], {}


def made(n: int, d: int, seed: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    return X, X @ rng.normal(size=d) + noise * rng.normal(size=n) > 0


def separable() -> Data:
    X, y = made(150, 4, 1, 0.0)
    return X, y, {"C": 100.0}


def correlated() -> Data:
    X, y = made(300, 8, 2)
    # Columns that are nearly, and quite, the same.
    X = np.hstack([X, X[:, :3] + 1e-3 * made(300, 3, 3)[0], X[:, 3:5]])
    return X, y, {}


def ill_scaled() -> Data:
    X, y = made(300, 6, 4)
    return X * [1e-3, 1, 1e3, 1e5, 1, 10] + [0, 100, 0, 0, -5, 0], y, {}


def wide() -> Data:
    X, y = made(60, 500, 5)
    return X, y, {}


def large() -> Data:
    X, y = made(800, 450, 6, 20.0)
    return X.astype(np.float32), y, {"C": 0.1}


def sparse() -> Data:
    X = sp.random_array((500, 700), density=0.03, rng=np.random.default_rng(7), format="csr")
    return X, np.asarray(X.sum(1)) > np.median(X.sum(1)), {"C": 10.0}


def weighted() -> Data:
    X, y = made(250, 5, 8)
    weight = np.random.default_rng(9).integers(0, 4, 250).astype(float)
    return X, y, {"sample_weight": weight}


def imbalanced() -> Data:
    X, y = made(600, 5, 10)
    keep = ~y | (np.arange(600) % 15 == 0)
    return X[keep], y[keep], {"balanced": True}


DATA = {
    "breast cancer": lambda: (*load_breast_cancer(return_X_y=True), {}),
    "digits 3 and 8": lambda: pair_of(load_digits, 3, 8),
    "iris 1 and 2": lambda: pair_of(load_iris, 1, 2),
    "wine 0 and 1": lambda: pair_of(load_wine, 0, 1),
    "separable": separable,
    "correlated": correlated,
    "ill-scaled": ill_scaled,
    "wide": wide,
    "large": large,
    "sparse": sparse,
    "weighted": weighted,
    "imbalanced": imbalanced,
}


def judge(X: Any, options: dict[str, Any]) -> LogisticRegression:
    """scikit-learn's, solved as far as float64 goes."""
    weight = "balanced" if options.get("balanced") else None
    solver = "lbfgs" if sp.issparse(X) else "newton-cholesky"
    return LogisticRegression(
        C=options.get("C", 1.0), class_weight=weight, solver=solver, tol=1e-11, max_iter=100_000
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", DATA)
def test_coefficients_are_those_of_scikit_learn(name: str) -> None:
    X, y, options = DATA[name]()
    probe = suture.Probe.fit(X, y, **options)
    exact = X.astype(np.float64)
    found = judge(X, options).fit(exact, y, sample_weight=options.get("sample_weight"))
    # Both columns' and samples' sizes differ: a coefficient counts by what it does to a logit.
    size = np.sqrt(np.asarray(sp.csr_array(exact).multiply(exact).mean(0))).ravel()
    assert probe.report is not None
    assert probe.report.converged
    assert np.abs((probe.weights - found.coef_) * np.maximum(size, 1)).max() < 1e-4 * max(
        1, np.abs(found.coef_ * np.maximum(size, 1)).max()
    )
    assert np.abs(probe.weights - found.coef_).max() < 1e-4
    logits = probe.logits(X).ravel()
    # The intercept stands for the means as well, so it is compared by what comes out.
    assert np.abs(logits - found.decision_function(exact)).max() < 1e-4 * max(
        1, np.abs(logits).max()
    )
    assert (probe.predict(X) == found.predict(exact)).all()


def gradient(
    probe: suture.Probe, X: np.ndarray, y: np.ndarray, C: float, weight: np.ndarray
) -> tuple[np.ndarray, float]:
    """Of 0.5 |w|² + C Σ weight log(1 + exp(-margin)), in NumPy."""
    w, c = probe.weights[0].astype(np.float64), float(probe.bias[0])
    residual = C * weight * (expit(X @ w + c) - (y == probe.classes[1]))
    return w + X.T @ residual, residual.sum()


@pytest.mark.parametrize("shape", [(400, 20), (300, 450)])
@pytest.mark.parametrize("C", [1e-4, 1.0, 1e4])
def test_the_gradient_is_zero_at_the_end(shape: tuple[int, int], C: float) -> None:
    X, y = made(*shape, 11, 5.0)
    weight = np.random.default_rng(12).uniform(0, 2, shape[0])
    probe = suture.Probe.fit(X, y, C=C, sample_weight=weight)
    slope, shift = gradient(probe, X, y, C, weight)
    start = C * np.abs(X.T @ (weight * (y - 0.5))).max()
    # float32 weights move it by their rounding times the curvature.
    assert np.abs(slope).max() < 1e-4 * max(start, 1e-3)
    assert abs(shift) < 1e-4 * C * weight.sum()
    assert probe.report is not None
    value = (
        0.5 * (probe.weights.astype(float) ** 2).sum()
        + C
        * (
            weight * np.logaddexp(0, -np.where(y, 1, -1) * (X @ probe.weights[0] + probe.bias[0]))
        ).sum()
    )
    assert np.isclose(probe.report.objective, value, rtol=1e-5)


@pytest.mark.parametrize("shape", [(300, 12), (200, 450)])
@pytest.mark.parametrize("balanced", [False, True])
def test_one_against_the_rest(shape: tuple[int, int], balanced: bool) -> None:
    X, _ = made(*shape, 13)
    y = np.array(["de", "en", "fr", "pl"])[np.argmax(X[:, :4] + [1, 0.5, 0, 0], axis=1)]
    probe = suture.Probe.fit(X, y, balanced=balanced)
    judged = OneVsRestClassifier(judge(X, {"balanced": balanced})).fit(X, y)
    assert probe.classes.tolist() == ["de", "en", "fr", "pl"]
    found = np.vstack([one.coef_ for one in judged.estimators_])
    assert probe.weights.shape == (4, shape[1])
    assert np.abs(probe.weights - found).max() < 1e-4
    assert np.abs(probe.logits(X) - judged.decision_function(X)).max() < 1e-3
    assert (probe.predict(X) == judged.predict(X)).all()
    assert np.abs(probe.predict_proba(X) - judged.predict_proba(X)).max() < 1e-5


@pytest.mark.parametrize("loader", [load_breast_cancer, load_wine])
def test_standardized(loader: Any) -> None:
    X, y = loader(return_X_y=True)
    rows = y < 2
    X, y = np.hstack([X[rows], np.full((rows.sum(), 1), 7.0)]), y[rows]
    probe = suture.Probe.fit(X, y, standardize=True)
    judged = make_pipeline(StandardScaler(), judge(X, {})).fit(X, y)
    scale = judged[0].scale_
    assert np.abs(probe.weights * scale - judged[1].coef_).max() < 1e-4
    assert probe.weights[0, -1] == 0
    assert np.abs(probe.logits(X).ravel() - judged.decision_function(X)).max() < 1e-3


@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"balanced": True, "C": 5.0}])
@pytest.mark.parametrize("cols", [40, 600])
def test_sparse_and_dense_are_the_same(cols: int, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(14)
    indices = np.array([rng.permutation(cols)[:8] for _ in range(300)])
    indices[:50, 5:] = -1
    codes = suture.SparseCodes(indices, rng.uniform(0.1, 2, indices.shape), cols)
    dense, csr = codes.to_dense(), codes.to_scipy()
    y = dense[:, : cols // 2].sum(1) > dense[:, cols // 2 :].sum(1)
    probes = [suture.Probe.fit(X, y, tolerance=1e-9, **options) for X in (dense, codes, csr)]
    for probe in probes[1:]:
        assert np.abs(probe.weights - probes[0].weights).max() < 1e-5
        assert np.abs(probe.bias - probes[0].bias).max() < 1e-5
    for X in (codes, csr, csr.astype(np.float64).tocoo()):
        assert np.abs(probes[0].logits(X) - probes[0].logits(dense)).max() < 1e-5


def test_a_weight_counts_as_so_many_samples() -> None:
    X, y = made(120, 6, 15)
    times = np.random.default_rng(16).integers(0, 4, 120)
    weighted_probe = suture.Probe.fit(X, y, sample_weight=times, tolerance=1e-9)
    repeated = suture.Probe.fit(np.repeat(X, times, 0), np.repeat(y, times), tolerance=1e-9)
    assert np.abs(weighted_probe.weights - repeated.weights).max() < 1e-6


@pytest.mark.parametrize("name", ["breast cancer", "large", "sparse"])
def test_the_same_bits_for_any_number_of_threads(name: str, threads: None) -> None:
    X, y, options = DATA[name]()
    found = []
    for count in (1, 2, 5):
        suture.set_threads(count)
        probe = suture.Probe.fit(X, y, **options)
        found.append((probe.weights.tobytes(), probe.bias.tobytes(), probe.logits(X).tobytes()))
        found[-1] += (suture.select_features(X, y, 5).tobytes(),)
    assert found[0] == found[1] == found[2]


def test_the_same_bits_on_all_kernels() -> None:
    code = (
        "import numpy as np, suture; rng = np.random.default_rng(0)\n"
        "for shape in [(500, 20), (300, 450)]:\n"
        "    X = rng.normal(size=shape).astype(np.float32)\n"
        "    probe = suture.Probe.fit(X, X[:, 0] + rng.normal(size=shape[0]) > 0)\n"
        "    print(probe.weights.tobytes().hex(), probe.bias.tobytes().hex())\n"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | kernels,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for kernels in ({}, {"SUTURE_KERNELS": "portable"})
    ]
    assert found[0] == found[1] != ""


def test_numbers_far_out() -> None:
    plain, y = made(200, 3, 17)
    # Logits of thousands, a column of 1e30, a mean a million times the deviation.
    X = np.hstack([plain * 1e4, plain[:, :1] * 1e30, 1e6 + plain[:, 1:2]])
    probe = suture.Probe.fit(X, y, C=1e6)
    assert probe.accuracy(X, y) >= LogisticRegression(C=1e6).fit(plain, y).score(plain, y) - 0.02
    assert np.isfinite(probe.logits(X)).all()


def test_losses_beyond_float32() -> None:
    # Rough products are float32: where slopes do not fit into that, the fit is exact all along.
    rng = np.random.default_rng(8)
    X = rng.normal(size=(300, 200)).astype(np.float32)
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    w = np.where(y == 1, 2.0, 1.0)
    wanted = suture.Probe.fit(X, y, sample_weight=w, tolerance=1e-9)
    scaled = X.astype(np.float64) * 1e-25
    found = suture.Probe.fit(scaled, y, sample_weight=w, C=1e50, tolerance=1e-9)
    np.testing.assert_allclose(found.weights * 1e-25, wanted.weights, atol=1e-6)
    with pytest.raises(suture.NumericalError, match="lower C or sample_weight"):
        suture.Probe.fit(X, y, C=1e300)


@pytest.mark.parametrize("sparse_input", [False, True])
@pytest.mark.parametrize("C", [1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", ["sums", "one-hot", "outliers", "rare"])
@pytest.mark.parametrize("shape", [(1500, 40), (1500, 120), (150, 400)])
def test_columns_that_float32_cannot_tell_apart(
    shape: tuple[int, int], kind: str, C: float, sparse_input: bool
) -> None:
    # With little penalty, products that are rounded to float32 lead nowhere at some point: the fit
    # has to notice, and end within its tolerance all the same.
    rng = np.random.default_rng(12)
    n, d = shape
    X = rng.normal(size=shape)
    if kind == "sums":
        few = rng.normal(size=(n, d // 3))
        X = few @ rng.normal(size=(d // 3, d)) / d
    elif kind == "one-hot":
        X = np.eye(d)[rng.integers(0, d, n)]
    elif kind == "outliers":
        X *= np.where(rng.random((n, 1)) < 0.01, 300, 1)
    else:
        X = np.maximum(X - 1.5, 0)
    X = X.astype(np.float32).astype(np.float64)
    z = X @ rng.normal(size=d)
    y = (z - np.median(z)) / z.std() + rng.logistic(size=n) > 0
    probe = suture.Probe.fit(sp.csr_array(X) if sparse_input else X, y, C=C)
    assert probe.report is not None
    assert probe.report.converged
    wanted = newton(X, y, C)
    distance = np.linalg.norm(probe.weights[0] - wanted[1:])
    # Of the tolerance, 1e-6, and of weights rounded to float32.
    assert distance <= 1.2e-6 * (1 + np.linalg.norm(wanted[1:]))


def newton(X: np.ndarray, y: np.ndarray, C: float) -> np.ndarray:
    """Intercept and weights, by Newton's method on all of float64."""
    A = np.hstack([np.ones((len(X), 1)), X])
    sign = np.where(y, 1.0, -1.0)
    ridge = np.r_[0.0, np.ones(X.shape[1])]
    v = np.zeros(A.shape[1])

    def value(v: np.ndarray) -> float:
        return float(0.5 * ridge @ v**2 + C * np.logaddexp(0, -sign * (A @ v)).sum())

    for _ in range(200):
        p = expit(A @ v)
        gradient = ridge * v + C * A.T @ (p - y)
        H = C * (A.T * (p * (1 - p))) @ A + np.diag(ridge)
        step = -np.linalg.solve(H, gradient)
        length = 1.0
        while length > 1e-9 and value(v + length * step) > value(v) + 1e-12 * abs(value(v)):
            length /= 2
        v = v + length * step
        if -gradient @ step <= 1e-20 * (1 + v @ v):
            break
    return v


def test_not_converged_is_a_warning() -> None:
    X, y = made(100, 5, 18)
    with pytest.warns(suture.SutureWarning, match="not converged in 1 steps"):
        probe = suture.Probe.fit(X, y, max_iterations=1)
    assert probe.report is not None
    assert not probe.report.converged


def test_labels_are_told_by_their_letters(tmp_path: Path) -> None:
    # One letter, or a letter and its accent: Unicode calls them equivalent.
    X = np.random.default_rng(9).normal(size=(40, 3))
    probe = suture.Probe.fit(X, ["caf\u00e9", "cafe\u0301"] * 20)
    probe.save(tmp_path / "probe.safetensors")
    assert suture.Probe.load(tmp_path / "probe.safetensors").classes.tolist() == [
        "cafe\u0301", "caf\u00e9",
    ]  # fmt: skip


def test_every_kind_of_label() -> None:
    X, y = made(60, 3, 19)
    for names in (["b", "a"], [7, -2], [True, False], [0.5, 0.25]):
        labels = [names[int(one)] for one in y]
        probe = suture.Probe.fit(X, labels)
        assert probe.classes.tolist() == sorted(names)
        assert type(probe.predict(X).tolist()[0]) is type(names[0])
        assert probe.accuracy(X, labels) == np.mean(probe.predict(X) == np.array(labels))


# -- Features ------------------------------------------------------------------------------------


def best_features(X: np.ndarray, y: np.ndarray, k: int) -> list[int]:
    scores = np.zeros(X.shape[1])
    for label in np.unique(y):
        scores = np.maximum(scores, np.abs(X[y == label].mean(0) - X[y != label].mean(0)))
    return np.lexsort((np.arange(len(scores)), -scores))[:k].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("classes", [2, 5])
def test_features_are_those_that_differ_most(classes: int) -> None:
    rng = np.random.default_rng(20)
    # Halves, so that sums are exact and there are ties.
    X = rng.integers(0, 4, size=(200, 60)).astype(np.float32) / 2
    X[rng.random(X.shape) < 0.7] = 0
    X[:, 30:35] = X[:, 10:15]
    y = np.arange(200) % classes
    expected = best_features(X.astype(float), y, 40)
    assert suture.select_features(X, y, 40).tolist() == expected
    assert suture.select_features(X.astype(np.float64), y, 40).tolist() == expected
    assert suture.select_features(sp.csr_array(X), y, 40).tolist() == expected
    indices = np.where(X > 0, np.arange(60), -1)
    codes = suture.SparseCodes(indices, X, 60)
    assert suture.select_features(codes, y, 40).tolist() == expected


def test_choosing_among_many_classes_takes_little_memory() -> None:
    # Sums of 4096 classes by 1024 features are 32 MiB: not many of those at a time.
    program = """
import numpy as np, suture
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0])
X = np.zeros((8192, 1024), np.float32)
X[:2, 7] = 1
before = peak()
assert suture.select_features(X, np.arange(8192) // 2, 1).tolist() == [7]
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert int(done.stdout) < 400 * 1024


@pytest.mark.parametrize("sparse_input", [False, True])
@pytest.mark.parametrize("cols", [30, 900])
def test_sparse_probes(sparse_input: bool, cols: int) -> None:
    X, y = made(300, cols, 21)
    X[X < 1] = 0
    data = sp.csr_array(X) if sparse_input else X
    order = suture.select_features(data, y, 25)
    probes = suture.Probe.fit_sparse(data, y, k=[20, 1, 5])
    assert list(probes) == [1, 5, 20]
    for k, probe in probes.items():
        chosen = order[:k]
        assert sorted(probe.weights.nonzero()[1].tolist()) == sorted(chosen.tolist())
        found = judge(X, {}).fit(X[:, chosen], y)
        assert np.abs(probe.weights[0, chosen] - found.coef_).max() < 1e-4
        alone = suture.Probe.fit(data, y, features=chosen)
        assert np.abs(probe.weights - alone.weights).max() < 1e-5


def test_many_features_of_more() -> None:
    X, y = made(150, 800, 22)
    chosen = np.random.default_rng(23).permutation(800)[:500]
    probe = suture.Probe.fit(X, y, features=chosen)
    found = judge(X, {}).fit(X[:, chosen], y)
    assert np.abs(probe.weights[0, chosen] - found.coef_).max() < 1e-4
    assert np.count_nonzero(probe.weights) == 500


# -- Pooling -------------------------------------------------------------------------------------


def test_pooling() -> None:
    rng = np.random.default_rng(24)
    X = rng.normal(size=(100, 7)).astype(np.float32)
    sample = rng.integers(0, 9, 100)
    expected = np.stack([X[sample == s].astype(float).mean(0) for s in range(9)])
    assert np.abs(suture.pool(X, sample) - expected).max() < 1e-6
    parts = [X[:33], X[33:34], X[34:]]
    assert (suture.pool(parts, sample) == suture.pool(X, sample)).all()
    mask = rng.random(100) < 0.8
    kept = np.stack([X[mask & (sample == s)].astype(float).mean(0) for s in range(9)])
    assert np.abs(suture.pool(X, sample, mask=mask) - kept).max() < 1e-6
    left_out = np.where(mask, sample, -1)
    assert (suture.pool(X, left_out) == suture.pool(X, sample, mask=mask)).all()
    offsets = [0, 1, 40, 100]
    by_offsets = np.stack([X[a:b].astype(float).mean(0) for a, b in itertools.pairwise(offsets)])
    assert np.abs(suture.pool(X, offsets=offsets) - by_offsets).max() < 1e-6
    huge = sample.astype(np.uint64) + 2**63  # would be negative, and left out
    with pytest.raises(ValueError, match=r"sample holds 92233720368547758\d\d, expected less"):
        suture.pool(X, huge)
    batch = X[:98].reshape(14, 7, 7)
    assert np.abs(suture.pool(batch) - batch.astype(float).mean(1)).max() < 1e-6


def test_pooling_codes() -> None:
    rng = np.random.default_rng(25)
    indices = np.array([rng.permutation(30)[:6] for _ in range(80)])
    indices[:20, 3:] = -1
    codes = suture.SparseCodes(indices, rng.uniform(0.1, 2, indices.shape), 30)
    sample = rng.integers(0, 5, 80)
    pooled = suture.pool(codes, sample)
    dense = codes.to_dense()
    expected = np.stack([dense[sample == s].astype(float).mean(0) for s in range(5)])
    assert np.abs(pooled.to_dense() - expected).max() < 1e-6
    assert (np.diff(pooled.values, axis=1) <= 0).all()


def test_samples_without_tokens_are_named() -> None:
    X = np.ones((4, 2), np.float32)
    with pytest.raises(ValueError, match="sample 1 has no rows, expected at least 1"):
        suture.pool(X, [0, 0, 2, 2])
    with pytest.raises(ValueError, match="sample 1 has no rows"):
        suture.pool(X, offsets=[0, 2, 2, 4])
    with pytest.raises(ValueError, match="sample 0 has no rows"):
        suture.pool(X, [0, 1, 1, 1], mask=[False, True, True, True])


# -- Transfer and files ----------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_transferred_probe_has_the_same_logits(direction: Any, classes: int) -> None:
    rng = np.random.default_rng(26)
    d = {"up": 12, "down": 20}[direction]
    stitch = suture.Stitch(
        *(rng.normal(size=s) for s in [(12, 20), (20,), (20, 12), (12,)]),
        metadata={"model_a": "a", "layer_a": 2, "model_b": "b", "layer_b": 3},
    )
    outputs = 1 if classes == 2 else classes
    source, target = ("a", "b") if direction == "up" else ("b", "a")
    layers = {"a": 2, "b": 3}
    hook = {"model_name": source, "hook_name": f"blocks.{layers[source]}.hook_resid_pre"}
    probe = suture.Probe(
        rng.normal(size=(outputs, d)), rng.normal(size=outputs), metadata=hook | {"task": "lang"}
    )
    moved = stitch.transfer(probe, direction=direction)
    h = rng.normal(size=(50, 32 - d))
    back = stitch.down(h) if direction == "up" else stitch.up(h)
    # One rounding of the weights and one of the mapped activations, summed over d.
    assert np.abs(moved.logits(h) - probe.logits(back)).max() < 1e-4
    exact = h @ (stitch.P_down if direction == "up" else stitch.P_up).astype(float)
    exact = (exact + (stitch.b_down if direction == "up" else stitch.b_up)) @ probe.weights.T
    assert np.abs(moved.logits(h) - exact - probe.bias).max() < 1e-4
    assert moved.metadata["model_name"] == target
    assert moved.metadata["hook_name"] == f"blocks.{layers[target]}.hook_resid_pre"
    assert moved.metadata["task"] == "lang"
    assert moved.metadata["transferred_from"] == hook
    assert moved.classes.tolist() == probe.classes.tolist()


def test_a_probe_of_another_model_is_refused() -> None:
    eye = (np.eye(2), np.zeros(2), np.eye(2), np.zeros(2))
    stitch = suture.Stitch(*eye, metadata={"model_a": "a"})
    probe = suture.Probe([1.0, 2.0], 0.0, metadata={"model_name": "other"})
    with pytest.raises(ValueError, match="probe comes from model other, expected a"):
        stitch.transfer(probe)


@pytest.mark.parametrize("classes", [["x", "true"], [0, 1, 2], [0.5, 1.5], [False, True]])
def test_a_file_holds_everything(classes: list[Any], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    outputs = 1 if len(classes) == 2 else len(classes)
    weights = np.random.default_rng(27).normal(size=(outputs, 5)).astype(np.float32)
    notes = {"model_name": "m", "layer": 3, "number": "7", "classes": "a note of mine"}
    probe = suture.Probe(weights, weights[:, 0], classes=classes, metadata=notes)
    probe.save(tmp_path / "probe.safetensors")
    for again in (
        suture.Probe.load(tmp_path / "probe.safetensors"),
        pickle.loads(pickle.dumps(probe)),
    ):
        assert (again.weights == weights).all()
        assert (again.bias == weights[:, 0]).all()
        assert again.classes.tolist() == classes
        assert again.metadata == notes
        assert repr(again) == repr(probe)
    tensors = load_file(tmp_path / "probe.safetensors")
    assert tensors["weights"].shape == (outputs, 5)
    assert tensors["bias"].shape == (outputs,)


def test_long_fits_report_and_stop() -> None:
    X, _ = made(3000, 900, 28)
    y = np.arange(3000)

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    # The callback comes at most every 30 ms; this takes much longer.
    with pytest.raises(RuntimeError, match="enough"):
        suture.Probe.fit(X, y % 9, C=1e6, tolerance=1e-14, progress=stop)


def test_arrays_of_all_kinds() -> None:
    X, y = made(60, 5, 29)
    X = np.round(X * 8) / 8
    expected = suture.Probe.fit(X, y)
    for same in (
        X.astype(np.float32),
        X.astype(np.float16),
        np.asfortranarray(X),
        [X[:20], X[20:]],
        X.reshape(6, 10, 5),
        np.repeat(X, 2, axis=1)[:, ::2],
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            probe = suture.Probe.fit(same, y)
        assert np.abs(probe.weights - expected.weights).max() < 1e-6


# -- Command line ----------------------------------------------------------------------------------


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from suture.cli import main

    rng = np.random.default_rng(30)
    P = rng.normal(size=(6, 4))
    h_b = rng.normal(size=(300, 6)).astype(np.float32)
    h_a = h_b @ P
    y = np.where(h_a[:, 0] > 0, "yes", "no")
    np.save(tmp_path / "a.npy", h_a)
    np.save(tmp_path / "b.npy", h_b)
    (tmp_path / "labels.txt").write_text("\n".join(y) + "\n")
    suture.Stitch(P.T, np.zeros(6), P, np.zeros(4)).save(tmp_path / "stitch.safetensors")
    given = [str(tmp_path / name) for name in ("a.npy", "labels.txt", "b.npy", "p.safetensors")]
    arguments = ["probe", *given[:2], "--out", given[3], "--json", "--quiet"]
    held = ["--stitch", str(tmp_path / "stitch.safetensors"), "--held-out", given[2], given[1]]
    assert main([*arguments, *held]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["converged"]
    assert result["accuracy"] > 0.98
    # The stitch is exact, so the transferred probe is the same classifier.
    assert result["held_out_accuracy"] == result["accuracy"]
    moved = suture.Probe.load(given[3])
    assert moved.d_in == 6
    assert moved.classes.tolist() == ["no", "yes"]
    assert main(["probe", given[2], given[1], "--use", given[3], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == result["accuracy"]
    assert main([*arguments, "--k", "2"]) == 0
    assert len(json.loads(capsys.readouterr().out)["features"]) == 2
    assert main(["probe", *given[:2], "--pool"]) == 1
    assert "pool needs an extracted folder" in capsys.readouterr().err

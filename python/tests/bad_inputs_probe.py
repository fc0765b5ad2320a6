# SPDX-License-Identifier: Apache-2.0
"""Rows for probes, feature selection and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from bad_input_table import D_A, A, B, bad_activations, bad_numbers, codes, row, short, stitch

import suture
from suture import Probe

Y = np.arange(80) % 2
NAN = float("nan")


def probe(**changes: Any) -> Probe:
    return Probe(**{"weights": np.ones(D_A), "bias": 0.5} | changes)


# -- Probe ---------------------------------------------------------------------------------------
for weights in (None, "x", np.ones(4, int), np.ones((1, 4), complex)):
    row("Probe", lambda _, w=weights: probe(weights=w), TypeError, "weights", "expected")
row("Probe", lambda _: probe(weights=np.ones((2, 4))), ValueError, "bias", "1", "2", "expected")
row(
    "Probe",
    lambda _: probe(weights=np.ones((2, 4)), bias=np.ones(2)),
    ValueError,
    "weights",
    "(2, 4)",
    "expected (1, d_in)",
)
row("Probe", lambda _: probe(weights=np.ones((1, 1, 4))), ValueError, "weights", "expected")
row("Probe", lambda _: probe(weights=[1.0, NAN]), ValueError, "weights[0, 1]", "nan", "finite")
row("Probe", lambda _: probe(bias=NAN), ValueError, "bias[0, 0]", "nan", "expected finite")
row("Probe", lambda _: probe(bias=np.ones(3)), ValueError, "bias", "3", "expected")
row("Probe", lambda _: probe(classes=3), TypeError, "classes", "3", "expected")
row("Probe", lambda _: probe(classes="ab"), TypeError, "classes", "'ab'", "expected")
row("Probe", lambda _: probe(classes=[1, (2,)]), TypeError, "classes[1]", "(2,)", "expected")
row("Probe", lambda _: probe(classes=[1, NAN]), ValueError, "classes", "nan", "expected finite")
row("Probe", lambda _: probe(classes=[1, 2, 3]), ValueError, "classes", "3 labels", "expected 2")
row("Probe", lambda _: probe(classes=["a", "a"]), ValueError, "classes[1]", '"a"', "once")
row("Probe", lambda _: probe(metadata=[1]), TypeError, "metadata", "list", "expected a dict")
row(
    "Probe.metadata",
    lambda _: setattr(probe(), "metadata", {"x": {1}}),
    TypeError,
    "metadata",
    "{1}",
    "expected",
)

# -- Fitting, and what it has in common with selection -------------------------------------------
for target, call in (
    ("Probe.fit", lambda X, y: Probe.fit(X, y)),
    ("Probe.fit_sparse", lambda X, y: Probe.fit_sparse(X, y, k=2)),
    ("select_features", lambda X, y: suture.select_features(X, y, 2)),
):
    for _, X, error, parts in (
        ("none", None, TypeError, ("None", "expected")),
        ("text", "no/such.npy", FileNotFoundError, ("no/such.npy", "expected an .npy file")),
        ("whole numbers", A.astype(int), TypeError, ("int64", "expected float32")),
        ("no rows", A[:0], ValueError, ("no rows", "expected at least 1")),
        ("one row", A[0], ValueError, ("(4,)", "expected (N, d)")),
        ("empty CSR", sp.csr_array((0, 4)), ValueError, ("(0, 4)", "expected (N, d)")),
        ("complex CSR", sp.csr_array(A[:, :2] + 1j), TypeError, ("complex", "expected numbers")),
    ):
        row(target, lambda _, c=call, X=X: c(X, Y), error, "X", *parts)
    bad = A.copy()
    bad[41, 1] = np.inf
    row(target, lambda _, c=call, X=bad: c(X, Y), ValueError, "X[41, 1]", "inf", "expected finite")
    bad64 = A.astype(np.float64)
    bad64[41, 1] = 1e300
    row(target, lambda _, c=call, X=bad64: c(X, Y), ValueError, "X[41, 1]", "inf", "finite")
    sparse_bad = sp.csr_array(bad)
    row(target, lambda _, c=call, X=sparse_bad: c(X, Y), ValueError, "X", "inf", "expected finite")
    for y, error, parts in (
        (Y[:-1], ValueError, ("(79,)", "expected (80,)")),
        (None, TypeError, ("None", "expected one value for each row")),
        ("label", TypeError, ("'label'", "expected one value for each row")),
        (np.zeros(80), ValueError, ("one class 0.0", "expected at least 2")),
        (["de"] * 80, ValueError, ("one class 'de'", "expected at least 2")),
        (np.where(Y, NAN, 1.0), ValueError, ("y[1] is nan", "expected labels")),
        (np.array([1, "a"] * 40, object), TypeError, ("int and str", "of one kind")),
        ([1, "a"] * 39 + [None, (2,)], TypeError, ("sequences", "expected one value")),
        (Y + 1j, TypeError, ("complex", "expected")),
        (np.array(Y, "M8[s]"), TypeError, ("datetime", "expected")),
    ):
        row(target, lambda _, c=call, y=y: c(A, y), error, "y", *parts)

for target, fit in (("Probe.fit", Probe.fit), ("Probe.fit_sparse", Probe.fit_sparse)):
    sparse = {"k": 2} if target.endswith("sparse") else {}

    def with_option(name: str, value: Any, fit: Any = fit, sparse: Any = sparse) -> object:
        return fit(A, Y, **sparse, **{name: value})

    for name in ("C", "tolerance"):
        bad_numbers(
            target,
            name,
            lambda v, n=name, w=with_option: w(n, v),
            -1.0,
            0.0,
            NAN,
            float("inf"),
            "1",
            None,
        )
    bad_numbers(
        target, "max_iterations", lambda v, w=with_option: w("max_iterations", v), 0, -1, 2**31, "x"
    )
    for name in ("standardize", "balanced"):
        row(target, lambda _, n=name, w=with_option: w(n, 1), TypeError, name, "1", "True or False")
    for value, error, parts in (
        (np.ones(79), ValueError, ("(79,)", "expected (80,)")),
        (np.ones(80, complex), TypeError, ("complex", "expected numbers")),
        (-np.ones(80), ValueError, ("[0] is -1.0", "expected a finite number")),
        (np.full(80, NAN), ValueError, ("[0] is nan", "expected a finite number")),
        (np.zeros(80), ValueError, ("0 for all", "expected some above 0")),
        (2.0, TypeError, ("2.0", "expected one value")),
    ):
        row(
            target,
            lambda _, v=value, w=with_option: w("sample_weight", v),
            error,
            "sample_weight",
            *parts,
        )
    row(
        target,
        lambda _, w=with_option: w("sample_weight", 1.0 * Y),
        ValueError,
        "y has no sample of weight above 0 of class 0",
        "expected at least one",
    )
    for value, error, parts in (
        ([0, 4], ValueError, ("4", "expected 0 to 3")),
        ([-1, 2], ValueError, ("-1", "expected 0 to 3")),
        ([1, 1], ValueError, ("[1, 1]", "expected each feature once")),
        ([], ValueError, ("(0,)", "expected (k,)")),
        ([[1, 2]], ValueError, ("(1, 2)", "expected (k,)")),
        ([1.5, 2.0], TypeError, ("float64", "expected whole numbers")),
    ):
        row(target, lambda _, v=value, w=with_option: w("features", v), error, "features", *parts)
    row(target, lambda _, w=with_option: w("metadata", [1]), TypeError, "metadata", "list")
bad_numbers("Probe.fit_sparse", "k", lambda v: Probe.fit_sparse(A, Y, k=v), 0, -1, 5, "x", None)
row("Probe.fit_sparse", lambda _: Probe.fit_sparse(A, Y, k=[]), TypeError, "k", "[]", "expected")
row(
    "Probe.fit_sparse",
    lambda _: Probe.fit_sparse(A, Y, k=[1, 3], features=[0, 1]),
    ValueError,
    "features has 2",
    "expected at least k = 3",
)
bad_numbers("select_features", "k", lambda v: suture.select_features(A, Y, v), 0, -1, 5, "x", None)

# -- Applying ------------------------------------------------------------------------------------
for target, apply in (
    ("Probe.logits", lambda p, X: p.logits(X)),
    ("Probe.predict", lambda p, X: p.predict(X)),
    ("Probe.predict_proba", lambda p, X: p.predict_proba(X)),
    ("Probe.accuracy", lambda p, X: p.accuracy(X, Y)),
):
    bad_activations(target, "X", A, "d_in = 4", lambda X, a=apply: a(probe(), X))
    row(target, lambda _, a=apply: a(probe(), codes()), ValueError, "X", "(2, 12)", "expected")
    csr = sp.csr_array(B)
    row(target, lambda _, a=apply, X=csr: a(probe(), X), ValueError, "X", "(80, 6)", "expected")
row("Probe.accuracy", lambda _: probe().accuracy(A, Y[:3]), ValueError, "y", "(3,)", "expected")
row("Probe.accuracy", lambda _: probe().accuracy(A, 1), ValueError, "y", "()", "expected (80,)")
row("Probe.save", lambda f: probe().save(f / "no" / "x"), OSError, "no")
row("Probe.save", lambda _: probe().save(None), TypeError, "path", "None", "expected a path")
row("Probe.save", lambda _: probe().save(""), ValueError, "path", "''", "expected a path")
row("Probe.load", lambda _: Probe.load(3), TypeError, "path", "3", "expected a path")
row("Probe.load", lambda f: Probe.load(f / "x"), FileNotFoundError, "x", "Probe.save wrote")
row("Probe.load", lambda f: Probe.load(short(f, probe().save, "")), suture.FormatError, "cut")
row(
    "Probe.load",
    lambda f: (stitch().save(f / "s.safetensors"), Probe.load(f / "s.safetensors")),
    suture.FormatError,
    "stitch/1",
    "expected probe/1",
)

# -- Pooling -------------------------------------------------------------------------------------
ONE = np.zeros(80, int)
bad_pooled = A.copy()
bad_pooled[41, 2] = NAN
for X, error, parts in (
    (None, TypeError, ("None", "expected")),
    (A[:0], ValueError, ("no rows", "expected")),
    (A.astype(int), TypeError, ("int64", "expected float32")),
    (bad_pooled, ValueError, ("X[41, 2] is nan", "expected finite")),
    ([A[:40], bad_pooled[40:]], ValueError, ("X[41, 2] is nan", "expected finite")),
):
    row("pool", lambda _, X=X: suture.pool(X, ONE), error, "X", *parts)
for sample, error, parts in (
    (None, TypeError, ("None", "expected the sample of each token")),
    (ONE[:-1], ValueError, ("(79,)", "expected (80,)")),
    (ONE - 1, ValueError, ("negative for all", "expected")),
    (ONE + 0.5, TypeError, ("float64", "expected whole numbers")),
    (ONE.reshape(8, 10), ValueError, ("(8, 10)", "expected (N,)")),
    (np.where(Y, 1000, 0), ValueError, ("sample 1000", "expected at most 80")),
    (2 * Y, ValueError, ("sample 1 has no rows", "expected at least 1")),
):
    row("pool", lambda _, s=sample: suture.pool(A, s), error, "sample", *parts)
for offsets, error, parts in (
    ([0, 40], ValueError, ("[0, 40]", "80 last")),
    ([1, 80], ValueError, ("[1, 80]", "expected 0 first")),
    ([0], ValueError, ("[0]", "expected 0 first")),
    ([0, 50, 40, 80], ValueError, ("[2] is 40", "expected at least 50")),
    ([0.0, 80.0], TypeError, ("float64", "expected whole numbers")),
):
    row("pool", lambda _, o=offsets: suture.pool(A, offsets=o), error, "offsets", *parts)
row("pool", lambda _: suture.pool(A, ONE, offsets=[0, 80]), TypeError, "offsets", "beside sample")
row("pool", lambda _: suture.pool(A, ONE, mask=ONE), TypeError, "mask", "int64", "truth values")
row("pool", lambda _: suture.pool(A, ONE, mask=Y[:3] > 0), ValueError, "mask", "(3,)", "(80,)")
row("pool", lambda _: suture.pool(A, ONE, mask=Y > 5), ValueError, "sample 0 has no rows")
bad_numbers("pool", "samples", lambda v: suture.pool(A, Y, samples=v), 1, -1, "x")
row("pool", lambda _: suture.pool(A, Y, samples=3), ValueError, "sample 2 has no rows")

# -- Transfer ------------------------------------------------------------------------------------
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(probe(weights=np.ones(3))),
    ValueError,
    "probe",
    "d_in = 3",
    "expected d_a = 4",
)
row(
    "Stitch.transfer",
    lambda _: stitch(model_a="a").transfer(probe(metadata={"model_name": "z"})),
    ValueError,
    "probe comes from model z",
    "expected a",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(probe(), refit=B),
    TypeError,
    "refit",
    "expected None",
)
row("Stitch.transfer", lambda _: stitch().transfer(probe(), "no"), ValueError, "direction", "'no'")

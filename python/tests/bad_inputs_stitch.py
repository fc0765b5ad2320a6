# SPDX-License-Identifier: Apache-2.0
"""Rows for stitches."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import (
    D_A,
    D_B,
    WEIGHTS,
    A,
    B,
    bad_activations,
    bad_numbers,
    moments,
    npy,
    row,
    sae,
    short,
    stitch,
    with_value,
)

import suture
from suture import Moments, Stitch

# -- Stitch ------------------------------------------------------------------------------------
for name, array in WEIGHTS.items():
    wrong = array[..., :-1]

    def with_weight(value: Any, name: str = name) -> Stitch:
        return Stitch(**WEIGHTS | {name: value})

    row(
        "Stitch", lambda _, w=with_weight: w(None), TypeError, name, "NoneType", "expected an array"
    )
    row(
        "Stitch",
        lambda _, w=with_weight, a=array: w(a.astype(int)),
        TypeError,
        name,
        "int64",
        "expected float32",
    )
    row(
        "Stitch",
        lambda _, w=with_weight, a=wrong: w(a),
        ValueError,
        name if name != "P_up" else "",
        str(wrong.shape[-1]),
        "expected",
    )
    row(
        "Stitch",
        lambda _, w=with_weight, a=array: w(np.full_like(a, np.nan)),
        ValueError,
        name,
        "nan",
        "expected finite",
    )
    row("Stitch", lambda _, w=with_weight, a=array: w(a[None, None]), ValueError, name, "expected")
row(
    "Stitch",
    lambda _: Stitch(**WEIGHTS, metadata=[1]),
    TypeError,
    "metadata",
    "list",
    "expected a dict",
)
row(
    "Stitch",
    lambda _: Stitch(**WEIGHTS, metadata={1: 2}),
    TypeError,
    "metadata",
    "1",
    "expected strings",
)
row(
    "Stitch",
    lambda _: Stitch(**WEIGHTS, metadata={"x": A}),
    TypeError,
    "metadata",
    "x",
    "expected JSON",
)
row(
    "Stitch",
    lambda _: Stitch(**WEIGHTS, metadata={"x": np.nan}),
    ValueError,
    "metadata",
    "nan",
    "expected JSON",
)
for target, make in (("Stitch.metadata", stitch), ("SAE.metadata", sae)):
    row(
        target,
        lambda _, m=make: setattr(m(), "metadata", [1]),
        TypeError,
        "metadata",
        "list",
        "expected a dict",
    )
    row(
        target,
        lambda _, m=make: setattr(m(), "metadata", {"x": {1}}),
        TypeError,
        "metadata",
        "{1}",
        "expected",
    )
bad_numbers(
    "Stitch.fit",
    "alpha",
    lambda v: Stitch.fit(A, B, alpha=v),
    -1.0,
    float("nan"),
    float("inf"),
    "1",
    None,
)
bad_numbers("Stitch.fit", "ridge", lambda v: Stitch.fit(A, B, ridge=v), -1.0, float("nan"), "1")
for name, value in (("objective", "share"), ("method", "lasso")):
    row(
        "Stitch.fit",
        lambda _, n=name, v=value: Stitch.fit(A, B, **{n: v}),
        ValueError,
        name,
        value,
        "expected",
    )
for method in ("ridge", "procrustes"):
    row(
        "Stitch.fit",
        lambda _, m=method: Stitch.fit(A, B, method=m, objective="raw"),
        ValueError,
        "objective",
        "raw",
        "expected",
    )
row(
    "Stitch.fit",
    lambda _: Stitch.fit(A, B, method="procrustes", ridge=0.5),
    ValueError,
    "ridge",
    "0.5",
    "expected None",
)
bad_numbers(
    "Stitch.fit",
    "tolerance",
    lambda v: Stitch.fit(A, B, tolerance=v),
    0.0,
    -1.0,
    float("nan"),
    None,
)
bad_numbers(
    "Stitch.fit", "max_iterations", lambda v: Stitch.fit(A, B, max_iterations=v), 0, -5, 2**31, None
)
row("Stitch.fit", lambda _: Stitch.fit(), TypeError, "acts_a", "None", "expected activations")
row(
    "Stitch.fit",
    lambda _: Stitch.fit(moments(), B),
    TypeError,
    "acts_b",
    "ndarray",
    "expected None",
)
row(
    "Stitch.fit",
    lambda _: Stitch.fit(A, B, moments=moments()),
    TypeError,
    "moments",
    "acts_a",
    "expected one",
)
row(
    "Stitch.fit",
    lambda _: Stitch.fit(moments=A),
    TypeError,
    "moments",
    "ndarray",
    "expected suture.Moments",
)
row(
    "Stitch.fit",
    lambda _: Stitch.fit(A, B, metadata=3),
    TypeError,
    "metadata",
    "int",
    "expected a dict",
)
row("Stitch.fit", lambda _: Stitch.fit(A[:1], B[:1]), ValueError, "acts_a", "1", "expected")
row(
    "Stitch.fit", lambda _: Stitch.fit(Moments(d_a=2, d_b=3)), ValueError, "acts_a", "0", "expected"
)
row(
    "Stitch.fit",
    lambda _: Stitch.fit(A, B, progress=3),
    TypeError,
    "progress",
    "3",
    "expected True, False",
)
row(
    "Stitch.evaluate",
    lambda _: stitch().evaluate(Moments(A, A)),
    ValueError,
    "acts_a",
    "d_b=4",
    "expected",
)
bad_numbers(
    "Stitch.evaluate", "alpha", lambda v: stitch().evaluate(A, B, alpha=v), -1.0, float("nan"), "x"
)
for target, name, good, width in (
    ("Stitch.up", "h_a", A, "d_a"),
    ("Stitch.down", "h_b", B, "d_b"),
    ("Stitch.round_trip_a", "h_a", A, "d_a"),
    ("Stitch.round_trip_b", "h_b", B, "d_b"),
):
    method = target.partition(".")[2]
    bad_activations(target, name, good, width, lambda x, m=method: getattr(stitch(), m)(x))
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(None),
    TypeError,
    "sae",
    "NoneType",
    "expected suture.SAE",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), "left"),
    ValueError,
    "direction",
    "left",
    "expected",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), None),
    TypeError,
    "direction",
    "None",
    "expected",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), "down"),
    ValueError,
    "sae",
    "4",
    "expected",
    "6",
)
row(
    "Stitch.transfer", lambda _: stitch(model_a="x").transfer(sae(metadata={"model_name": "y"})),
    ValueError, "sae", "y", "expected", "x",
)  # fmt: skip
row(
    "Stitch.transfer", lambda _: stitch().transfer(sae(normalization="layer_norm")),
    suture.UnsupportedError, "layer_norm",
)  # fmt: skip
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), refit=A),
    ValueError,
    "refit",
    f"(80, {D_A})",
    f"expected (…, {D_B})",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), refit=[B, with_value(B, np.nan)]),
    ValueError,
    "refit[121, 2]",
    "nan",
    "expected finite",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), refit=iter([B])),
    TypeError,
    "refit",
    "iterator",
    "expected arrays",
)
bad_numbers(
    "Stitch.transfer",
    "refit_tokens",
    lambda v: stitch().transfer(sae(), refit=B, refit_tokens=v),
    0,
    -1,
    "8",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), refit_tokens=8),
    TypeError,
    "refit_tokens",
    "8",
    "expected None",
)
row(
    "Stitch.transfer",
    lambda _: stitch().transfer(sae(), tied_rounds=2),
    TypeError,
    "tied_rounds",
    "2",
    "expected 0",
)
bad_numbers(
    "Stitch.transfer",
    "tied_rounds",
    lambda v: stitch().transfer(sae(), refit=B, tied_rounds=v),
    -1,
    1001,
    "8",
)
row(
    "refit_decoder",
    lambda _: suture.refit_decoder(sae(architecture="relu", k=None), A, tied_rounds=1),
    suture.UnsupportedError,
    "tied_rounds",
    "relu",
    "expected topk",
)
bad_activations("refit_decoder", "acts", A, "d_in", lambda x: suture.refit_decoder(sae(), x))
row(
    "refit_decoder",
    lambda _: suture.refit_decoder(None, A),
    TypeError,
    "sae",
    "NoneType",
    "expected suture.SAE",
)
row(
    "refit_decoder",
    lambda _: suture.refit_decoder(sae(normalization="layer_norm"), A),
    suture.UnsupportedError,
    "layer_norm",
    "expected",
)
for name, values in (
    ("tokens", (0, -1, "8")),
    ("ridge", (0.0, -1.0, float("nan"), 1e13, "x", None)),
    ("tied_rounds", (-1, 1001, "8", None)),
    ("tolerance", (0.0, -1.0, float("nan"), "x", None)),
    ("max_iterations", (0, -1, 2**31, "8", None)),
):
    bad_numbers(
        "refit_decoder", name, lambda v, n=name: suture.refit_decoder(sae(), A, **{n: v}), *values
    )
SAVED = (("Stitch", stitch, "", "s.safetensors"), ("SAE", sae, "sae_weights.safetensors", "sae"))
for name, make, file, _ in SAVED:
    load = getattr(suture, name).load
    row(
        f"{name}.save",
        lambda _, m=make: m().save(None),
        TypeError,
        "path",
        "None",
        "expected a path",
    )
    row(f"{name}.save", lambda _, m=make: m().save(""), ValueError, "path", "''", "expected a path")
    row(f"{name}.save", lambda _, m=make: m().save("x\0y"), ValueError, "path", "expected a path")
    row(f"{name}.save", lambda f, m=make: m().save(npy(f) + "/x"), OSError, "acts.npy")
    row(
        f"{name}.load",
        lambda _, load=load: load(None),
        TypeError,
        "path",
        "None",
        "expected a path",
    )
    row(
        f"{name}.load",
        lambda _, load=load: load("no/such"),
        FileNotFoundError,
        "path",
        "no/such",
        "expected",
    )
    row(
        f"{name}.load",
        lambda f, m=make, file=file, load=load: load(short(f, m().save, file)),
        suture.FormatError, "cut",
    )  # fmt: skip
row("Stitch.load", lambda f: Stitch.load(npy(f)), suture.FormatError, "acts.npy")
row("Stitch.load", lambda f: Stitch.load(f), OSError, "")

# SPDX-License-Identifier: Apache-2.0
"""Rows for steering vectors."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from bad_input_table import (
    D_A,
    D_B,
    A,
    B,
    bad_activations,
    bad_numbers,
    row,
    sae,
    short,
    stitch,
    with_value,
)

import suture
from suture import SteeringVector

V = np.array([0.0, 1.0, 2.0, 3.0])


def vector(**changes: Any) -> SteeringVector:
    return SteeringVector(**{"vector": V, "z_mean": 2.0, "mean": V} | changes)


def saved(folder: Path) -> Path:
    vector().save(folder / "vector.safetensors")
    return folder / "vector.safetensors"


target = "SteeringVector"
for name in ("vector", "mean"):

    def given(value: Any, name: str = name) -> SteeringVector:
        return vector(**{name: value})

    row(target, lambda _, g=given: g(V.astype(int)), TypeError, name, "int64", "expected float32")
    row(target, lambda _, g=given: g(V[None, None]), ValueError, name, "expected (d,)")
    row(target, lambda _, g=given: g(V[:0]), ValueError, name, "expected")
    row(target, lambda _, g=given: g(V * np.nan), ValueError, name, "nan", "expected finite")
    row(target, lambda _, g=given: g("x"), TypeError, name, "str", "expected an array")
row(target, lambda _: vector(vector=None), TypeError, "vector", "None", "expected an array")
row(target, lambda _: vector(vector=0 * V), ValueError, "vector", "zero", "expected a direction")
row(target, lambda _: vector(mean=V[:3]), ValueError, "mean", "3", "expected", "4")
bad_numbers(target, "z_mean", lambda v: vector(z_mean=v), np.nan, np.inf, "1", None)
row(target, lambda _: vector(metadata=[1]), TypeError, "metadata", "list", "expected a dict")
row(target, lambda _: vector(metadata={"x": {1}}), TypeError, "metadata", "{1}", "expected JSON")
target = "SteeringVector.metadata"
row(target, lambda _: setattr(vector(), "metadata", [1]), TypeError, "metadata", "expected a dict")

target = "SteeringVector.fit"


def fit(positive: Any = A, negative: Any = -A, **more: Any) -> SteeringVector:
    return SteeringVector.fit(positive, negative, **more)


bad_activations(target, "negative", A, "the width of positive", lambda v: fit(negative=v))
row(target, lambda _: fit(A[:0]), ValueError, "positive", "no rows", "expected at least 1")
row(target, lambda _: fit([]), ValueError, "positive", "empty", "expected at least one array")
row(target, lambda _: fit([A[:0], A[:0]]), ValueError, "positive", "no rows", "expected at least 1")
row(target, lambda _: fit(iter([A[:0]])), ValueError, "positive", "no rows", "expected at least 1")
row(target, lambda _: fit(None), TypeError, "positive", "None", "expected")
row(target, lambda _: fit(A.astype(int)), TypeError, "positive", "int64", "expected float32")
row(target, lambda _: fit([A, A[:, :3]]), ValueError, "positive[1]", "(80, 3)", "expected")
row(target, lambda _: fit(A, A), ValueError, "positive and negative", "same mean", "expected")
row(target, lambda _: fit(0 * A, 0 * A), ValueError, "same mean", "expected means that differ")
row(target, lambda _: fit(A, metadata=3), TypeError, "metadata", "int", "expected a dict")
row(target, lambda _: fit(A, progress=3), TypeError, "progress", "3", "expected True")

target = "SteeringVector.apply"
bad_activations(target, "h", A, "d = 4", lambda v: vector().apply(v))
row(target, lambda _: vector().apply(A, "set"), ValueError, "mode", "'set'", "expected one of")
row(target, lambda _: vector().apply(A, None), TypeError, "mode", "None", "expected one of")
bad_numbers(target, "strength", lambda v: vector().apply(A, strength=v), np.nan, np.inf, "1", None)

target = "SteeringVector.save"
row(target, lambda _: vector().save(3), TypeError, "path", "3", "expected a path")
row(target, lambda _: vector().save(""), ValueError, "path", "expected a path")
row(target, lambda f: vector().save(f), OSError, "")
row(target, lambda f: vector().save(f / "no" / "x"), OSError, "no/x")
row(target, lambda f: vector().save(f / "x", "pt"), ValueError, "format", "'pt'", "expected one of")
row(target, lambda f: vector().save(f / "x", layer=3), TypeError, "layer", "3", "expected None")

target = "SteeringVector.load"
row(target, lambda _: SteeringVector.load(None), TypeError, "path", "None", "expected a path")
row(target, lambda _: SteeringVector.load("no/such"), FileNotFoundError, "path", "no/such")
row(target, lambda f: SteeringVector.load(f), OSError, "")
row(
    target, lambda f: SteeringVector.load(short(f, vector().save, "")),
    suture.FormatError, "cut",
)  # fmt: skip
row(target, lambda f: SteeringVector.load(short(f, stitch().save, "")), suture.FormatError, "cut")
row(
    target, lambda f: SteeringVector.load(saved(f), layer=3),
    TypeError, "layer", "3", "expected None",
)  # fmt: skip

target = "Stitch.transfer"
row(
    target, lambda _: stitch().transfer(vector(), "down"),
    ValueError, "vector", "d = 4", "expected d_b = 6",
)  # fmt: skip
row(
    target, lambda _: stitch(model_a="x").transfer(vector(metadata={"model_name": "y"})),
    ValueError, "vector", "y", "expected x",
)  # fmt: skip
row(
    target,
    lambda _: stitch(layer_a=3).transfer(
        vector(metadata={"hook_name": "blocks.2.hook_resid_pre"})
    ),
    ValueError, "vector", "layer 2", "expected 3",
)  # fmt: skip
row(target, lambda _: stitch().transfer(vector(mean=None)), ValueError, "mean", "acts", "expected")
row(target, lambda _: stitch().transfer(vector(), refit=B), TypeError, "refit", "expected None")
row(
    target,
    lambda _: suture.Stitch(
        np.zeros((D_A, D_B)), np.ones(D_B), np.zeros((D_B, D_A)), np.ones(D_A)
    ).transfer(vector()),
    suture.NumericalError, "vector", "zero", "expected",
)  # fmt: skip


def acts(value: Any) -> SteeringVector:
    return stitch().transfer(vector(), acts=value)


row(target, lambda _: acts(A), ValueError, "acts", "(80, 4)", "expected (…, 6)", "d_b = 6")
row(target, lambda _: acts(B[:0]), ValueError, "acts", "no rows", "expected at least 1")
row(target, lambda _: acts([]), ValueError, "acts", "empty", "expected at least one array")
row(target, lambda _: acts(B.astype(int)), TypeError, "acts", "int64", "expected float32")
row(target, lambda _: acts(3), TypeError, "acts", "int", "expected an array")
row(
    target, lambda _: acts([B, with_value(B, np.nan)]),
    ValueError, "acts[121, 2]", "nan", "expected finite",
)  # fmt: skip
row(
    target, lambda _: stitch().transfer(sae(), acts=B),
    TypeError, "acts", "SAE", "expected None",
)  # fmt: skip

if importlib.util.find_spec("gguf"):

    def control(folder: Path, **changes: Any) -> Path:
        vector(**changes).save(folder / "v.gguf", "gguf", layer=5)
        return folder / "v.gguf"

    target = "SteeringVector.save"
    row(
        target, lambda f: vector().save(f / "x.gguf", "gguf"),
        ValueError, "layer", "None", "hook_name", "expected",
    )  # fmt: skip
    row(
        target, lambda f: vector().save(f / "x.gguf", "gguf", layer=1),
        suture.UnsupportedError, "layer", "1", "expected at least 2",
    )  # fmt: skip
    bad_numbers(target, "layer", lambda v: vector().save("x.gguf", "gguf", layer=v), -1)
    row(
        target, lambda _: vector().save("x.gguf", "gguf", layer=2.5),
        TypeError, "layer", "2.5", "expected",
    )  # fmt: skip
    for name, part in (("2", "residual stream"), ("here", "residual stream")):
        row(
            target, lambda _, n=name: vector().save("x.gguf", "gguf", layer=n),
            ValueError, "layer", name, "expected", part,
        )  # fmt: skip
    row(
        target, lambda _: vector().save("x.gguf", "gguf", layer="blocks.3.hook_mlp_out"),
        ValueError, "layer", "hook_mlp_out", "expected a layer of the residual stream",
    )  # fmt: skip
    for hook, parts in (
        ("blocks.3.hook_mlp_out", ("mlp_out", "expected the residual stream", "layer")),
        ("here", ("hook_name", "here", "expected a name of the residual stream")),
    ):
        row(
            target,
            lambda _, h=hook: vector(metadata={"hook_name": h}).save("x.gguf", "gguf"),
            ValueError, *parts,
        )  # fmt: skip
    row(target, lambda f: control(f, z_mean=0), ValueError, "z_mean", "0", "expected")
    row(target, lambda f: control(f / "no"), FileNotFoundError, "path", "no/v.gguf")
    target = "SteeringVector.load"
    row(
        target, lambda f: SteeringVector.load(control(f), layer=3),
        ValueError, "layer", "3", "expected one of [5]",
    )  # fmt: skip
    row(
        target, lambda f: SteeringVector.load(control(f), layer="layers.2"),
        ValueError, "layer", "3", "expected one of [5]",
    )  # fmt: skip
    row(
        target,
        lambda f: SteeringVector.load(
            short(f, lambda path: vector().save(path, "gguf", layer=5), "")
        ),
        suture.FormatError, "cut", "expected a whole GGUF",
    )  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""Rows for SAEs, codes and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import (
    D_SAE,
    SAE_WEIGHTS,
    A,
    bad_activations,
    bad_numbers,
    codes,
    edited_config,
    row,
    sae,
)

import suture
from suture import Evaluation, SparseCodes

# -- SAE ---------------------------------------------------------------------------------------
for name, array in SAE_WEIGHTS.items():

    def with_array(value: Any, name: str = name) -> suture.SAE:
        return sae(**{name: value})

    row("SAE", lambda _, w=with_array: w(None), TypeError, name, "None", "expected an array")
    row(
        "SAE",
        lambda _, w=with_array, a=array: w(a.astype(int)),
        TypeError,
        name,
        "int64",
        "expected float32",
    )
    row(
        "SAE",
        lambda _, w=with_array, a=array: w(a[..., :-1]),
        ValueError,
        "" if name == "W_enc" else name,
        "expected",
    )
    row(
        "SAE",
        lambda _, w=with_array, a=array: w(np.full_like(a, np.inf)),
        ValueError,
        name,
        "inf",
        "expected finite",
    )
bad_numbers("SAE", "k", lambda v: sae(k=v), 0, -1, D_SAE + 1, 2**40, "3", None)
row(
    "SAE",
    lambda _: sae(architecture="tok"),
    ValueError,
    "architecture",
    "'tok'",
    "expected one of 'topk'",
)
row("SAE", lambda _: sae(architecture=3), TypeError, "architecture", "3", "expected one of 'topk'")
row("SAE", lambda _: sae(architecture="relu"), TypeError, "k", "3", "expected None")
row("SAE", lambda _: sae(threshold=1.0), TypeError, "threshold", "given", "expected None for topk")
row(
    "SAE",
    lambda _: sae(architecture="jumprelu", k=None),
    TypeError,
    "threshold",
    "None",
    "expected an array",
)
row(
    "SAE",
    lambda _: sae(architecture="jumprelu", k=None, threshold=1.0),
    ValueError,
    "threshold",
    "1",
    "expected",
    "12",
)
row(
    "SAE",
    lambda _: sae(architecture="batchtopk", k=None, threshold=np.nan),
    ValueError,
    "threshold",
    "nan",
    "expected",
)
row(
    "SAE",
    lambda _: sae(architecture="gated", k=None),
    TypeError,
    "b_enc",
    "given",
    "expected None for gated",
)
row(
    "SAE",
    lambda _: sae(normalization="x"),
    ValueError,
    "normalization",
    "'x'",
    "expected one of 'none'",
)
row(
    "SAE",
    lambda _: sae(normalization="fixed_scale"),
    TypeError,
    "scale",
    "None",
    "expected a number",
)
row(
    "SAE",
    lambda _: sae(normalization="fixed_scale", scale=0),
    ValueError,
    "scale",
    "0.0",
    "expected",
)
row("SAE", lambda _: sae(scale=2.0), TypeError, "scale", "2.0", "expected None")
row(
    "SAE",
    lambda _: sae(apply_b_dec_to_input=1),
    TypeError,
    "apply_b_dec_to_input",
    "1",
    "expected True or False",
)
row(
    "SAE",
    lambda _: sae(rescale_by_decoder_norm="x"),
    TypeError,
    "rescale_by_decoder_norm",
    "'x'",
    "expected",
)
row("SAE", lambda _: sae(metadata=3), TypeError, "metadata", "int", "expected a dict")
bad_numbers("SAE.init", "d_in", lambda v: suture.SAE.init(v, 8, k=2), 0, -1, 2**31, "8", None)
bad_numbers("SAE.init", "d_sae", lambda v: suture.SAE.init(8, v, k=2), 0, -1, 2**31, "8", None)
bad_numbers("SAE.init", "k", lambda v: suture.SAE.init(8, 16, k=v), 0, 17, None)
bad_numbers("SAE.init", "seed", lambda v: suture.SAE.init(8, 16, k=2, seed=v), -1, 2**64, None)
row(
    "SAE.init",
    lambda _: suture.SAE.init(8, 16, k=2, architecture="x"),
    ValueError,
    "architecture",
    "'x'",
    "expected",
)
row(
    "SAE.init",
    lambda _: suture.SAE.init(8, 16, architecture="gated"),
    suture.UnsupportedError,
    "gated",
)
for target, given in (
    ("SAE.encode", lambda x: sae().encode(x)),
    ("SAE.__call__", lambda x: sae()(x)),
):
    bad_activations(target, "x", A, "d_in", given)
for target, given in (
    ("SAE.evaluate", lambda x: sae().evaluate(x)),
    ("Evaluation.update", lambda x: Evaluation(sae()).update(x)),
):
    bad_activations(target, "acts", A, "d_in", given)
row(
    "SAE.decode",
    lambda _: sae().decode(A),
    TypeError,
    "codes",
    "ndarray",
    "expected suture.SparseCodes",
)
row(
    "SAE.decode", lambda _: sae().decode(SparseCodes([[0]], [[1.0]], 5)), ValueError,
    "codes", "d_sae = 5", "expected 12",
)  # fmt: skip
row(
    "SAE.decode", lambda _: sae(normalization="layer_norm").decode(codes()),
    suture.UnsupportedError, "layer_norm",
)  # fmt: skip
row("SAE.load", lambda f: suture.SAE.load(edited_config(f, architecture="x")), Exception, "x")
row("SAE.load", lambda f: suture.SAE.load(edited_config(f, d_sae=13)), suture.FormatError, "13")
row("SAE.load", lambda f: suture.SAE.load(edited_config(f, k=99)), suture.FormatError, "99")
row("Evaluation", lambda _: Evaluation(None), TypeError, "sae", "NoneType", "expected suture.SAE")


# -- Codes -------------------------------------------------------------------------------------
row(
    "SparseCodes",
    lambda _: SparseCodes([[1.5]], [[1.0]], 3),
    TypeError,
    "indices",
    "float64",
    "expected whole",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[1]], [[1]], 3),
    TypeError,
    "values",
    "int64",
    "expected floating",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([1], [1.0], 3),
    ValueError,
    "indices",
    "(1,)",
    "expected (N, width)",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[1, 2]], [[1.0]], 3),
    ValueError,
    "values",
    "(1, 1)",
    "expected (1, 2)",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[3]], [[1.0]], 3),
    ValueError,
    "indices",
    "3",
    "expected less than d_sae",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[2**40]], [[1.0]], 3),
    ValueError,
    "indices",
    str(2**40),
    "expected",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[1]], [[np.nan]], 3),
    ValueError,
    "values",
    "nan",
    "expected",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[1]], [[1e300]], 3),
    ValueError,
    "values",
    "inf",
    "expected",
)
row(
    "SparseCodes",
    lambda _: SparseCodes([[1, 1]], [[1.0, 2.0]], 3),
    ValueError,
    "indices",
    "1",
    "expected each latent once",
)
bad_numbers(
    "SparseCodes", "d_sae", lambda v: SparseCodes([[0]], [[1.0]], v), 0, -1, 2**31, "x", None
)
row(
    "SparseCodes.__getitem__", lambda _: codes()[2], IndexError, "rows", "2", "expected less than 2"
)
row("SparseCodes.__getitem__", lambda _: codes()[-3], IndexError, "rows", "-3", "expected")
row(
    "SparseCodes.__getitem__",
    lambda _: codes()[0, 1],
    TypeError,
    "rows",
    "(0, 1)",
    "expected one index",
)
row("SparseCodes.__getitem__", lambda _: codes()["x"], IndexError, "rows", "'x'", "expected")
row("SparseCodes.__getitem__", lambda _: codes()[[5]], IndexError, "rows", "[5]", "expected")

# -- some of the latents -------------------------------------------------------------------------
target = "SAE.select"
for value, kind, *words in (
    ([], ValueError, "latents", "empty"),
    ([0, 0], ValueError, "latents[1]", "0", "twice"),
    ([0, D_SAE], ValueError, "latents[1]", f"{D_SAE}", f"{D_SAE - 1}"),
    ([-1], ValueError, "latents[0]", "-1"),
    ([0.5], TypeError, "latents", "float64"),
    ([[1]], ValueError, "latents", "(1, 1)"),
    (np.zeros(D_SAE, bool), ValueError, "latents", "none"),
    (np.ones(D_SAE - 1, bool), ValueError, "latents", f"({D_SAE - 1},)", f"({D_SAE},)"),
    ([*range(D_SAE), 0], ValueError, "latents", f"{D_SAE + 1}"),
):
    row(target, lambda _, v=value: sae().select(v, A), kind, *words)
row(target, lambda _: sae().select([1]), TypeError, "acts", "None", "topk")
row(target, lambda _: sae().select(range(D_SAE), A), TypeError, "acts", "expected None")
bad_activations(target, "acts", A, "d_in", lambda v: sae().select([1], v, progress=False))
row(target, lambda _: sae().select([1], A, rows=[True]), ValueError, "rows", "1")
row(target, lambda _: sae().select([1], iter([A])), TypeError, "acts", "iterator")

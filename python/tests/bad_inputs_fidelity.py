# SPDX-License-Identifier: Apache-2.0
"""Rows for `suture.fidelity` and `suture.Fidelity`."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import D_B, D_SAE, A, B, bad_activations, bad_numbers, codes, row, sae

import suture

RNG = np.random.default_rng(2)
SAE_B = suture.SAE(
    W_enc=RNG.normal(size=(D_B, D_SAE)), b_enc=np.zeros(D_SAE),
    W_dec=RNG.normal(size=(D_SAE, D_B)), b_dec=np.zeros(D_B), k=3,
)  # fmt: skip
OTHER_CODES = suture.SparseCodes([[1], [2]], [[2.0], [1.0]], D_SAE + 1)
ROWS = np.arange(len(A))


def compare(a: Any = A, b: Any = B, sae_a: Any = None, sae_b: Any = SAE_B, **more: Any) -> object:
    return suture.fidelity(sae() if sae_a is None else sae_a, a, sae_b, b, progress=False, **more)


row("fidelity", lambda _: compare(sae_a=A), TypeError, "sae_a", "ndarray", "expected suture.SAE")
row("fidelity", lambda _: compare(sae_b=3), TypeError, "sae_b", "int", "expected suture.SAE")
row(
    "fidelity",
    lambda _: compare(sae_b=suture.SAE.init(D_B, D_SAE + 2, k=3)),
    ValueError,
    "sae_b",
    f"d_sae = {D_SAE + 2}",
    f"expected {D_SAE}",
)
bad_activations("fidelity", "acts_a", A, "d_in", lambda v: compare(a=v))
bad_activations("fidelity", "acts_b", B, "d_in", lambda v: compare(b=v))
row("fidelity", lambda _: compare(b=B[:-1]), ValueError, "acts_b", f"{len(B) - 1}", f"{len(A)}")
for pairs, *words in (
    ((ROWS, ROWS[1:]), "pairs[1]", f"{len(A) - 1} elements"),
    ((ROWS[:0], ROWS[:0]), "pairs", "empty"),
    ((ROWS + 1, ROWS), "pairs[0]", f"{len(A)}"),
    ((ROWS, ROWS - 1), "pairs[1][0]", "-1"),
):
    row("fidelity", lambda _, p=pairs: compare(pairs=p), ValueError, *words, "expected")
row("fidelity", lambda _: compare(pairs=3), TypeError, "pairs", "int", "expected (rows_a, rows_b)")

target = "Fidelity"
bad_numbers(target, "d_sae", suture.Fidelity, 0, -1, 2**31, "8", None)


def made() -> suture.Fidelity:
    return suture.Fidelity(D_SAE)


target = "Fidelity.update"
row(target, lambda _: made().update(A, codes()), TypeError, "codes_a", "ndarray", "SparseCodes")
row(target, lambda _: made().update(codes(), None), TypeError, "codes_b", "None", "SparseCodes")
for name, pair in (("codes_a", (OTHER_CODES, codes())), ("codes_b", (codes(), OTHER_CODES))):
    row(target, lambda _, p=pair: made().update(*p), ValueError, name, "d_sae = 13", "expected 12")
row(target, lambda _: made().update(codes(), codes()[:1]), ValueError, "codes_b", "1 rows", "2")
row(target, lambda _: made().update(codes(), codes(), progress=3), TypeError, "progress", "3")

target = "Fidelity.merge"
row(target, lambda _: made().merge(3), TypeError, "other", "int", "expected suture.Fidelity")
row(target, lambda _: made().merge(suture.Fidelity(5)), ValueError, "other", "d_sae = 5", "12")
bad_numbers("Fidelity.summary", "min_count", lambda v: made().summary(v), 0, -1, "8", None)

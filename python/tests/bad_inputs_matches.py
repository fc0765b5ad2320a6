# SPDX-License-Identifier: Apache-2.0
"""Rows for `suture.best_matches`."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import D_A, D_B, A, B, bad_activations, bad_numbers, row, sae

import suture

SAE_B = suture.SAE.init(D_B, 20, k=3)
ROWS = np.arange(len(A))


def matched(a: Any = A, b: Any = B, sae_a: Any = None, sae_b: Any = SAE_B, **more: Any) -> object:
    return suture.best_matches(
        sae() if sae_a is None else sae_a, a, sae_b, b, progress=False, **more
    )


target = "best_matches"
row(target, lambda _: matched(sae_a=A), TypeError, "sae_a", "ndarray", "expected suture.SAE")
row(target, lambda _: matched(sae_b=3), TypeError, "sae_b", "int", "expected suture.SAE")
row(target, lambda _: matched(), ValueError, "acts_a", "80 pairs of rows", "at least 128")
bad_activations(target, "acts_a", A, "d_in", lambda v: matched(a=v))
bad_activations(target, "acts_b", B, "d_in", lambda v: matched(b=v))
row(target, lambda _: matched(b=B[:-1]), ValueError, "acts_b", f"{len(B) - 1}", f"{len(A)}")
row(
    target,
    lambda _: matched(sae_a=suture.SAE.init(D_A + 1, 12, k=3)),
    ValueError,
    "acts_a",
    f"expected (…, {D_A + 1})",
)
row(target, lambda _: matched(pairs=3), TypeError, "pairs", "int", "expected (rows_a, rows_b)")
row(target, lambda _: matched(pairs=(ROWS + 1, ROWS)), ValueError, "pairs[0]", f"{len(A)}")
bad_numbers(target, "min_count", lambda v: matched(min_count=v), 0, -1, "8", None)

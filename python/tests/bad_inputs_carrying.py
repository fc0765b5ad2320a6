# SPDX-License-Identifier: Apache-2.0
"""Rows for `suture.carry`."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import A, B, bad_activations, bad_numbers, row, sae, with_value

import suture

ROWS = np.arange(len(A))


def carry(a: Any = A, b: Any = B, of: Any = None, **more: Any) -> object:
    return suture.carry(sae() if of is None else of, a, b, progress=False, **more)


target = "carry"
row(
    target,
    lambda _: carry(of=A),
    TypeError,
    "sae",
    "ndarray",
    "expected suture.SAE, suture.Probe or",
)
bad_activations(target, "acts_a", A, "d_in", lambda v: carry(a=v))
bad_activations(target, "acts_b", B, None, lambda v: carry(b=v))
row(target, lambda _: carry(b=B[:-1]), ValueError, "acts_b", f"{len(B) - 1}", f"{len(A)}")
for array, name in ((A, "acts_a"), (B, "acts_b")):
    bad = with_value(array, np.nan)
    given = {"a": bad} if name == "acts_a" else {"b": bad}
    row(target, lambda _, g=given: carry(rows=suture.Rows.all(), **g), ValueError, f"{name}[41, 2]")
for pairs, *words in (
    ((ROWS, ROWS[1:]), "pairs[1]", f"{len(A) - 1} elements"),
    ((ROWS[:0], ROWS[:0]), "pairs", "empty"),
    ((ROWS + 1, ROWS), "pairs[0]", f"{len(A)}"),
):
    row(target, lambda _, p=pairs: carry(pairs=p), ValueError, *words, "expected")
bad_numbers(target, "rounds", lambda v: carry(rounds=v), -1, 101, "2", None)
bad_numbers(target, "sample", lambda v: carry(sample=v), 0, -1, 2**31, "8", None)
bad_numbers(target, "ridge", lambda v: carry(ridge=v), 0, -1.0, 1e13, "1")
row(target, lambda _: carry(refit=3), TypeError, "refit", "3")
row(target, lambda _: carry(site="nowhere"), ValueError, "site", "nowhere")
row(target, lambda _: carry(rows=ROWS[:3] > 0), ValueError, "rows", "3")
row(target, lambda _: carry(a=iter([A])), TypeError, "acts_a", "iterator", "refit=False")
row(
    target,
    lambda _: carry(b=np.ones_like(B), rows=suture.Rows.all()),
    suture.NumericalError,
    "do not vary",
)
PROBE = suture.Probe(np.arange(1.0, 5.0), 0.0)
bad_activations(target, "acts_a", A, "d_in", lambda v: carry(a=v, of=PROBE))
bad_activations(target, "acts_b", B, None, lambda v: carry(b=v, of=PROBE))
row(target, lambda _: carry(b=B[:-1], of=PROBE), ValueError, "acts_b", f"{len(B) - 1}", f"{len(A)}")
row(target, lambda _: carry(pairs=(ROWS, ROWS[1:]), of=PROBE), ValueError, "pairs[1]", "expected")
bad_numbers(target, "ridge", lambda v: carry(ridge=v, of=PROBE), 0, -1.0, 1e13, "1")
row(target, lambda _: carry(rounds=3, of=PROBE), TypeError, "rounds", "3", "probe")
row(target, lambda _: carry(sample=8, of=PROBE), TypeError, "sample", "8", "probe")
row(target, lambda _: carry(refit=False, of=PROBE), TypeError, "refit", "False", "probe")
row(target, lambda _: carry(site="nowhere", of=PROBE), ValueError, "site", "nowhere")
row(target, lambda _: carry(a=iter([A]), rows=ROWS > 3, of=PROBE), TypeError, "acts_a", "iterator")
for array, name in ((A, "acts_a"), (B, "acts_b")):
    given = {"a" if name == "acts_a" else "b": np.ones_like(array)}
    row(
        target,
        lambda _, g=given: carry(rows=suture.Rows.all(), of=PROBE, **g),
        ValueError,
        name,
        "expected it to vary",
    )
row(
    target,
    lambda _: carry(of=suture.Probe(np.zeros(4), 0.0)),
    suture.NumericalError,
    "logits of the probe do not vary",
)

# -- steering vectors ----------------------------------------------------------------------------
vector = suture.SteeringVector.fit(A[:20], A[20:])
row(target, lambda _: carry(of=suture.SteeringVector(A[0], 1.0)), ValueError, "sae", "no mean")
row(target, lambda _: carry(of=vector, a=A[:, 1:]), ValueError, "acts_a", f"d = {A.shape[1]}")
row(target, lambda _: carry(of=vector, b=B[:-1]), ValueError, f"{len(B) - 1}", f"{len(A)}")
row(target, lambda _: carry(of=vector, rounds=3), TypeError, "rounds", "3", "a steering vector")
row(target, lambda _: carry(of=vector, refit=False), TypeError, "refit", "a steering vector")
bad_numbers(target, "ridge", lambda v: carry(of=vector, ridge=v), 0, -1.0, 1e13, "1")
row(target, lambda _: carry(of=vector, site="nowhere"), ValueError, "site", "nowhere")
row(target, lambda _: carry(of=vector, b=np.ones_like(B), rows=suture.Rows.all()), ValueError,
    "acts_b", "the same", "expected it to vary")  # fmt: skip
probe = suture.Probe.fit(A, A[:, 0] > np.median(A[:, 0]))
row(target, lambda _: carry(of=probe, a=A[:1], b=B[:1]), ValueError, "acts_a and acts_b", "1 pair")

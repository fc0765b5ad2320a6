# SPDX-License-Identifier: Apache-2.0
"""Rows for moments, SVCCA, threads and activations."""

from __future__ import annotations

import numpy as np
from bad_input_table import (
    D_A,
    D_B,
    A,
    B,
    bad_activations,
    bad_numbers,
    moments,
    row,
    stitch,
    with_value,
)

import suture
from suture import Moments, Stitch

# -- Library -----------------------------------------------------------------------------------
bad_numbers("set_threads", "threads", suture.set_threads, -1, 1025, 10**30, "2", None)
row("set_threads", lambda _: suture.set_threads(1.5), TypeError, "threads", "1.5", "whole number")


# -- Moments -----------------------------------------------------------------------------------
PAIRED = ("Moments", "Moments.update", "Stitch.fit", "Stitch.evaluate", "svcca")
for target, call in zip(
    PAIRED,
    (
        lambda a, b: Moments(a, b, d_a=D_A, d_b=D_B),
        lambda a, b: moments().update(a, b),
        lambda a, b: stitch().evaluate(a, b),
        lambda a, b: stitch().evaluate(a, b),
        lambda a, b: Moments(d_a=D_A, d_b=D_B).update(a, b),
    ),
    strict=True,
):
    if target in ("Stitch.fit", "svcca"):
        continue
    bad_activations(target, "acts_a", A, "d_a", lambda x, call=call: call(x, B))
    bad_activations(target, "acts_b", B, "d_b", lambda x, call=call: call(A, x))
for target, call in zip(
    PAIRED,
    (
        Moments,
        lambda a, b, **k: moments().update(a, b, **k),
        Stitch.fit,
        lambda a, b, **k: stitch().evaluate(a, b, **k),
        suture.svcca,
    ),
    strict=True,
):
    row(target, lambda _, c=call: c(A, B[1:]), ValueError, "acts_b", "79 rows", "expected 80")
    row(
        target,
        lambda _, c=call: c(iter([A]), iter([B, B])),
        ValueError,
        "acts_b",
        "160",
        "expected 80",
    )
    row(target, lambda _, c=call: c(A, None), TypeError, "acts_b", "None", "expected")
    row(target, lambda _, c=call: c(None, B), TypeError, "acts_a", "None", "expected")
    row(
        target,
        lambda _, c=call: c(with_value(A, np.nan), B),
        ValueError,
        "acts_a[41, 2]",
        "nan",
        "expected",
    )
    row(
        target,
        lambda _, c=call: c(A, with_value(B, np.inf)),
        ValueError,
        "acts_b[41, 2]",
        "inf",
        "expected",
    )
    row(
        target,
        lambda _, c=call: c(A[:0], B[:0]),
        ValueError,
        "acts_a",
        "(0, 4)",
        "expected at least 1",
    )
    row(
        target,
        lambda _, c=call: c(A.astype(int), B),
        TypeError,
        "acts_a",
        "int64",
        "expected float32",
    )
    for pairs, error, *words in (
        (([0, 1], [0]), ValueError, "pairs[1]", "1 elements", "expected 2"),
        (([0, 80], [0, 1]), ValueError, "pairs[0][1]", "80", "0 to 79"),
        (([0, 1], [-1, 1]), ValueError, "pairs[1][0]", "-1", "0 to 79"),
        (([], []), ValueError, "pairs", "empty", "at least one"),
        (([0.5], [0]), TypeError, "pairs[0]", "float64", "whole numbers"),
        (([True], [0]), TypeError, "pairs[0]", "bool", "whole numbers"),
        (([[0]], [0]), ValueError, "pairs[0]", "(1, 1)", "expected (N,)"),
        (3, TypeError, "pairs", "int", "(rows_a, rows_b)"),
        (([0], [0], [0]), TypeError, "pairs", "length 3", "(rows_a, rows_b)"),
    ):
        row(target, lambda _, c=call, p=pairs: c(A, B, pairs=p), error, *words)  # type: ignore[arg-type]
row(
    "Moments",
    lambda _: Moments(d_a=2, d_b=2, pairs=([0], [0])),
    TypeError,
    "pairs",
    "without acts_a",
    "expected",
)
row(
    "svcca",
    lambda _: suture.svcca(moments(), pairs=([0], [0])),
    TypeError,
    "pairs",
    "beside moments",
)

# -- Alignment ---------------------------------------------------------------------------------
row(
    "align",
    lambda _: suture.align([1, 3, 2], [1]),
    ValueError,
    "ends_a[2]",
    "2 after 3",
    "expected",
)
row("align", lambda _: suture.align([1], [9, 8]), ValueError, "ends_b[1]", "8 after 9", "expected")
row("align", lambda _: suture.align([-1, 3], [3]), ValueError, "ends_a[0]", "-1", "expected")
row("align", lambda _: suture.align([[1]], [9]), ValueError, "ends_a", "(1, 1)", "expected (N,)")
row("align", lambda _: suture.align([1], [1.5]), TypeError, "ends_b", "float64", "whole numbers")
row("align", lambda _: suture.align("ab", [1]), ValueError, "ends_a", "()", "expected (N,)")
row("align", lambda _: suture.align([2**64 - 1], [1]), ValueError, "ends_a", "2**63")

for name in ("d_a", "d_b"):
    bad_numbers(
        "Moments",
        name,
        lambda v, name=name: Moments(**{"d_a": 2, "d_b": 2} | {name: v}),
        0,
        -3,
        "2",
        None,
    )
row(
    "Moments",
    lambda _: Moments(d_a=300_000, d_b=300_000),
    MemoryError,
    "does not fit in memory",
)
row(
    "Moments.merge",
    lambda _: moments().merge(None),
    TypeError,
    "other",
    "NoneType",
    "expected Moments",
)
row(
    "Moments.merge",
    lambda _: moments().merge(Moments(A, A)),
    ValueError,
    "other",
    "d_b = 4",
    "expected 4 and 6",
)
row(
    "Moments.merge",
    lambda _: (lambda m: m.merge(m))(moments()),
    ValueError,
    "other",
    "themselves",
    "expected",
)
row(
    "Moments.from_bytes",
    lambda _: Moments.from_bytes("x"),
    TypeError,
    "data",
    "str",
    "expected bytes",
)
row("Moments.from_bytes", lambda _: Moments.from_bytes(b""), suture.FormatError, "data", "too few")
row(
    "Moments.from_bytes",
    lambda _: Moments.from_bytes(moments().to_bytes()[:-9]),
    suture.FormatError,
    "data",
)
row("Moments.from_bytes", lambda _: Moments.from_bytes(b"?" * 500), suture.FormatError, "data")


# -- SVCCA -------------------------------------------------------------------------------------
for target, given in (
    ("svcca", lambda v: suture.svcca(A, B, variance_kept=v)),
    ("svcca_grid", lambda v: suture.svcca_grid([A], [B], variance_kept=v)),
):
    bad_numbers(target, "variance_kept", given, 0.0, 1.5, float("nan"), "x", None)
row("svcca", lambda _: suture.svcca(moments(), B), TypeError, "acts_b", "ndarray", "expected None")
row(
    "svcca_grid",
    lambda _: suture.svcca_grid(A, [B]),
    TypeError,
    "layers_a",
    "ndarray",
    "expected a mapping",
)
row("svcca_grid", lambda _: suture.svcca_grid([A], {}), ValueError, "layers_b", "empty", "expected")
row(
    "svcca_grid",
    lambda _: suture.svcca_grid(None, [B]),
    TypeError,
    "layers_a",
    "NoneType",
    "expected",
)
row(
    "svcca_grid",
    lambda _: suture.svcca_grid([iter([A])], [B]),
    TypeError,
    "layers_a[0]",
    "iterator",
    "expected",
)
row(
    "svcca_grid",
    lambda _: suture.svcca_grid({3: A[:, 0]}, [B]),
    ValueError,
    "layers_a[3]",
    "(80,)",
    "expected",
)
row(
    "svcca_grid",
    lambda _: suture.svcca_grid([A], {"x": B[:9]}),
    ValueError,
    "layers_b['x']",
    "9 rows",
    "expected 80",
)
row(
    "svcca_grid", lambda _: suture.svcca_grid([A], {7: with_value(B, np.nan)}), ValueError,
    "layers_b[7][41, 2]", "nan", "expected",
)  # fmt: skip


# -- Activations -------------------------------------------------------------------------------
def activations() -> suture.Activations:
    return suture.Activations({2: A}, token_ids=list(range(80)))


row(
    "Activations",
    lambda _: suture.Activations({}, token_ids=[1]),
    ValueError,
    "rows",
    "no layer",
    "expected",
)
row(
    "Activations",
    lambda _: suture.Activations({1: A}, token_ids=[1]),
    ValueError,
    "rows[1]",
    "(80, 4)",
    "expected",
)
row(
    "Activations",
    lambda _: suture.Activations({1: A}, token_ids=[0.5]),
    ValueError,
    "token_ids",
    "float64",
    "expected",
)
row(
    "Activations.open",
    lambda f: suture.Activations.open(f),
    FileNotFoundError,
    "folder",
    "manifest.json",
    "expected",
)
for alias in ("shards", "layer"):
    row(
        f"Activations.{alias}",
        lambda _, a=alias: getattr(activations(), a)(5),
        KeyError,
        "layer",
        "5",
        "expected",
    )
row("Activations.__getitem__", lambda _: activations()[5], KeyError, "layer", "5", "expected")


def known(ends: list[int], **more: list[int]) -> suture.Activations:
    """Activations of one text."""
    count = len(ends)
    given = {"text": [0] * count, "starts": [0] * count, "ends": ends, "begins": ends} | more
    return suture.Activations({0: np.zeros((count, 2), np.float32)}, token_ids=ends, **given)


PAIRS_WITH = "Activations.pairs_with"
row(PAIRS_WITH, lambda _: known([1]).pairs_with(None), TypeError, "other", "NoneType", "expected")
row(
    PAIRS_WITH,
    lambda _: known([1]).pairs_with(known([2])),
    ValueError,
    "other",
    "no end of a token is shared",
    "expected activations of the same texts",
)
row(
    PAIRS_WITH,
    lambda _: known([1, 4]).pairs_with(known([4], starts=[2])),
    ValueError,
    "other",
    "1 in windows that begin at different places",
    "extract_pair",
)
row(
    PAIRS_WITH,
    lambda _: known([1]).pairs_with(
        suture.Activations({0: np.zeros((1, 2), np.float32)}, token_ids=[7])
    ),
    ValueError,
    "other",
    "text, ends, starts not known",
    "expected activations with",
)
for target, call in (
    ("Moments", Moments),
    ("Stitch.fit", Stitch.fit),
    ("svcca", suture.svcca),
    ("Moments.update", lambda a, b: Moments(d_a=2, d_b=2).update(a, b)),
):
    row(
        target,
        lambda _, c=call: c(known([1, 2, 3]), known([2, 3, 5])),
        ValueError,
        "acts_b: token id 2 in row 0, expected 1 as in acts_a",
        "2 pairs: 66.7 % of A's rows",
        "pairs=acts_a.pairs_with(acts_b)",
    )
    row(
        target,
        lambda _, c=call: c(known([1, 2]).shards(0), known([1, 2, 3]).shards(0)),
        ValueError,
        "acts_b",
        "3 rows",
        "expected 2",
    )
row(
    "check_paired",
    lambda _: suture.check_paired([1, 2], [1, 3]),
    ValueError,
    "b",
    "3",
    "expected 2",
)
row(
    "check_paired",
    lambda _: suture.check_paired([1, 2], [1]),
    ValueError,
    "b",
    "1 rows",
    "expected 2",
)
row("width", lambda _: suture.width(3), TypeError, "acts", "int", "expected an array")
row("width", lambda _: suture.width(A[0]), ValueError, "acts", "(4,)", "expected (N, d)")


# -- Texts -------------------------------------------------------------------------------------
def _broken_text(folder):
    path = folder / "broken.jsonl"
    path.write_text('{"text": "a"}\n{"txt": 1}\n', encoding="utf-8")
    return suture.read_texts(path)


row("read_texts", lambda _: suture.read_texts(), ValueError, "paths", "empty", "at least one")
row("read_texts", lambda folder: suture.read_texts(folder / "none"), OSError, "none")
row("read_texts", _broken_text, ValueError, "broken.jsonl, line 2", "txt", "expected")
row("read_records", lambda _: suture.read_records(), ValueError, "paths", "empty", "at least one")
row("read_records", lambda folder: suture.read_records(folder / "none"), OSError, "none")

# SPDX-License-Identifier: Apache-2.0
"""Bad input to `suture.Rows`, and to everything that takes `rows=`."""

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
)

import suture
from suture import Moments, Rows, Stitch

row("Rows", lambda _: Rows(special=1), TypeError, "special", "1", "True or False")
row("Rows", lambda _: Rows(leave_out=5), TypeError, "leave_out", "5", "collection of token ids")
row("Rows", lambda _: Rows(leave_out="a"), TypeError, "leave_out", "'a'", "collection")
row("Rows", lambda _: Rows(leave_out=[3, -1]), ValueError, "leave_out[1]", "-1", "0 to")
row("Rows", lambda _: Rows(leave_out=[0.5]), TypeError, "leave_out[0]", "0.5", "whole number")
row("Rows", lambda _: Rows(leave_out=np.ones(2)), TypeError, "leave_out", "float64", "token ids")
row("Rows", lambda _: Rows(mask=[0, 1]), TypeError, "mask", "int64", "truth values")
row("Rows", lambda _: Rows(mask=True), TypeError, "mask", "True", "one for each row")
row("Rows", lambda _: Rows(mask="yes"), TypeError, "mask", "'yes'", "truth values")
row("Rows", lambda _: Rows(mask=[[True], []]), TypeError, "mask", "sequences")
row("Rows", lambda _: Rows(positions="first"), ValueError, "positions", "'first'", "'last'")
row("Rows", lambda _: Rows(positions=0), TypeError, "positions", "0", "'all'")
bad_numbers("Rows", "skip_positions", lambda v: Rows(skip_positions=v), -1, "2", None)
bad_numbers("Rows", "norm_bound", lambda v: Rows(norm_bound=v), 0, -3.0, np.nan, np.inf, "3")

row(
    "Rows.select",
    lambda _: Rows(mask=[True, False]).select(3, name="acts_a"),
    ValueError,
    "rows.mask",
    "(2,)",
    "expected (3,)",
    "acts_a",
)
row(
    "Rows.select",
    lambda _: Rows(leave_out=[13]).select(3, name="acts_a"),
    ValueError,
    "rows.leave_out",
    "[13]",
    "acts_a has no token_ids",
)
row(
    "Rows.select",
    lambda _: Rows(skip_positions=1).select(3),
    ValueError,
    "rows.skip_positions is 1",
    "expected 0",
    "positions",
)
row(
    "Rows.select",
    lambda _: Rows(positions="last").select(3),
    ValueError,
    "rows.positions",
    "'last'",
    "text or sequence",
)
row(
    "Rows.select",
    lambda _: Rows(positions="generated").select(3),
    ValueError,
    "rows.positions",
    "generated",
)
row(
    "Rows.select",
    lambda _: Rows(leave_out=[1]).select(3, token_ids=[1, 2]),
    ValueError,
    "token_ids",
    "(2,)",
    "expected (3,)",
)
row(
    "Rows.select",
    lambda _: Rows(leave_out=[1]).select(2, token_ids=[1, 1]),
    ValueError,
    "Rows(leave_out=[1])",
    "none of the 2 rows",
)

# -- Norms -------------------------------------------------------------------------------------
bad_activations("norm_bound", "acts", A, None, suture.norm_bound)
bad_activations("row_norms", "acts", A, None, suture.row_norms)
bad_numbers("norm_bound", "multiple", lambda v: suture.norm_bound(A, v), 0, -1.0, np.nan, "5", None)

# -- Moments with bounds -----------------------------------------------------------------------
for target, call in (
    ("Moments", lambda **k: Moments(A, B, **k)),
    ("Moments", lambda **k: Moments(d_a=D_A, d_b=D_B, **k)),
):
    row(target, lambda _, c=call: c(norm_bound_a=3), TypeError, "norm_bound_b", "None", "both")
    row(target, lambda _, c=call: c(norm_bound_b=3), TypeError, "norm_bound_a", "None", "both")
    for wrong in (0, -2.0, np.nan, -np.inf):
        row(
            target,
            lambda _, c=call, w=wrong: c(norm_bound_a=w, norm_bound_b=1),
            ValueError,
            "norm_bound_a",
            str(float(wrong)),
            "above 0",
        )
    row(
        target,
        lambda _, c=call: c(norm_bound_a=1, norm_bound_b="2"),
        TypeError,
        "norm_bound_b",
        "'2'",
        "number",
    )
row(
    "Moments",
    lambda _: Moments(d_a=D_A, d_b=D_B, rows=[True]),
    TypeError,
    "rows is given without acts_a",
)

# -- Everything that takes rows= of pairs ------------------------------------------------------
for target, call in (
    ("Moments", lambda rows: Moments(A, B, rows=rows)),
    ("Moments.update", lambda rows: moments().update(A, B, rows=rows)),
    ("Stitch.fit", lambda rows: Stitch.fit(A, B, rows=rows)),
    ("Stitch.evaluate", lambda rows: stitch().evaluate(A, B, rows=rows)),
    ("svcca", lambda rows: suture.svcca(A, B, rows=rows)),
    ("norm_bound", lambda rows: suture.norm_bound(A, rows=rows)),
):
    row(
        target,
        lambda _, c=call: c(np.ones(79, bool)),
        ValueError,
        "rows.mask",
        "(79,)",
        "expected (80,)",
    )
    row(target, lambda _, c=call: c(np.ones(80)), TypeError, "rows", "float64", "truth values")
    row(target, lambda _, c=call: c("all"), TypeError, "rows", "'all'", "suture.Rows")
    row(target, lambda _, c=call: c(3.0), TypeError, "rows", "3.0", "suture.Rows")
    row(target, lambda _, c=call: c(np.zeros(80, bool)), ValueError, "rows", "none of the 80")
    row(
        target,
        lambda _, c=call: c(Rows(leave_out=[13])),
        ValueError,
        "rows.leave_out is [13]",
        "acts",
        "token_ids",
    )
    row(
        target,
        lambda _, c=call: c(Rows(positions="last")),
        ValueError,
        "rows.positions is 'last'",
        "acts",
    )
    row(
        target,
        lambda _, c=call: c(Rows(skip_positions=2)),
        ValueError,
        "rows.skip_positions is 2",
        "acts",
    )
row(
    "Stitch.fit",
    lambda _: Stitch.fit(moments(), rows=np.ones(80, bool)),
    TypeError,
    "rows",
    "None beside moments",
)
row(
    "Moments",
    lambda _: Moments(iter([A]), B, rows=np.ones(80, bool)),
    TypeError,
    "rows",
    "acts_a is an iterator",
)
row(
    "Moments.merge",
    lambda _: moments().merge(Moments(A, B, norm_bound_a=50, norm_bound_b=60)),
    ValueError,
    "norm_bound_a = 50.0",
    "norm_bound_b = 60.0",
    "same bounds",
)

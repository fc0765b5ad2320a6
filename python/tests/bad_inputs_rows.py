# SPDX-License-Identifier: Apache-2.0
"""Bad input to `suture.Rows`, and to everything that takes `rows=`."""

from __future__ import annotations

import numpy as np
from bad_input_table import bad_numbers, row

from suture import Rows

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

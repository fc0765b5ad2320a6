# SPDX-License-Identifier: Apache-2.0
"""Which rows of two sets of activations belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._folders import INDEX_TYPES
from .alignment import shared_ends

__all__ = ["Pairing", "check_paired"]

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairing:
    """Rows of A and of B that belong together, as `pairs=` takes them: `rows_a, rows_b = pairing`.

    Attributes:
        rows_a, rows_b: (P,) int64, ascending; row rows_a[i] of A goes with row rows_b[i] of B.
        kept_a, kept_b: share of each side's rows that is in a pair.
        one_to_one: share of the pairs whose tokens also begin at one place of the text; NaN where
            that is unknown.
        apart: shared ends that are no pairs, because one model had read the text from an earlier
            byte on than the other.

    >>> import numpy as np
    >>> pairing = Pairing(np.array([0, 2]), np.array([1, 2]), 0.5, 0.4, 0.5, 0)
    >>> print(pairing)
    2 pairs: 50.0 % of A's rows, 40.0 % of B's; 50.0 % of them one token to one
    """

    rows_a: Int64
    rows_b: Int64
    kept_a: float
    kept_b: float
    one_to_one: float
    apart: int

    def __len__(self) -> int:
        return len(self.rows_a)

    def __iter__(self) -> Iterator[Int64]:
        return iter((self.rows_a, self.rows_b))

    def __str__(self) -> str:
        text = (
            f"{len(self):,} pairs: {self.kept_a:.1%} of A's rows, {self.kept_b:.1%} of B's; "
            f"{self.one_to_one:.1%} of them one token to one"
        ).replace("%", " %")
        return text + (f"; {self.apart:,} more ends in unlike windows" if self.apart else "")

    __repr__ = __str__


def align_rows(a: Any, b: Any, strict: bool = False) -> Pairing:
    """`Activations.pairs_with`."""
    if not hasattr(b, "token_ids"):
        raise TypeError(f"other is a {type(b).__name__}, expected suture.Activations")
    if same_tokens(a, b) or (
        len(a.token_ids) == len(b.token_ids) and not strict and _extracted_as_pair(a, b)
    ):
        rows = np.arange(len(a.token_ids), dtype=np.int64)
        return Pairing(rows, rows, 1.0, 1.0, _one_to_one(a, b), 0)
    _check_texts(a, b)
    sides: list[dict[str, Any]] = []
    for name, x in (("these activations", a), ("other", b)):
        known = {key: _optional(x, key) for key in ("text", "ends", "starts")}
        missing = [key for key, values in known.items() if values is None]
        if missing:
            raise ValueError(
                f"{name}: {', '.join(missing)} not known, expected activations with text, ends and "
                "starts, as suture.models.extract makes them from texts: their tokens differ"
            )
        sides.append(known)
    rows_a, rows_b = _shared(*sides)
    apart = 0
    if len(rows_a):
        together = sides[0]["starts"][rows_a] == sides[1]["starts"][rows_b]
        apart = int((~together).sum())
        rows_a, rows_b = rows_a[together], rows_b[together]
    begins_a, begins_b = (_optional(x, "begins") for x in (a, b))
    if begins_a is None or begins_b is None:
        if strict:
            raise ValueError("strict is True, expected False: begins are not known of both")
        one_to_one = float("nan")
    else:
        single = (begins_a[rows_a] >= 0) & (begins_a[rows_a] == begins_b[rows_b])
        if strict:
            rows_a, rows_b, single = rows_a[single], rows_b[single], single[single]
        one_to_one = float(single.mean()) if len(single) else float("nan")
    if not len(rows_a):
        raise ValueError(
            "other: no end of a token is shared with these activations"
            + (f" but {apart} in windows that begin at different places" if apart else "")
            + ", expected activations of the same texts"
            + (" (suture.models.extract_pair cuts windows at one place)" if apart else "")
        )
    totals = [len(x.token_ids) for x in (a, b)]
    return Pairing(
        rows_a, rows_b, len(rows_a) / totals[0], len(rows_b) / totals[1], one_to_one, apart
    )


def _one_to_one(a: Any, b: Any) -> float:
    """Share of equally numbered rows whose tokens begin at one place; 1 of equal tokens."""
    if same_tokens(a, b):
        return 1.0
    begins_a, begins_b = (_optional(x, "begins") for x in (a, b))
    if begins_a is None or begins_b is None:
        return float("nan")
    return float(((begins_a >= 0) & (begins_a == begins_b)).mean())


def _shared(a: dict[str, Any], b: dict[str, Any]) -> tuple[Int64, Int64]:
    """Rows whose tokens end at one place of one text, the last of each side."""
    reach = 1 + max(int(x["ends"].max(initial=0)) for x in (a, b))
    keys, rows = [], []
    for side in (a, b):
        known = np.flatnonzero((side["ends"] >= 0) & (side["starts"] >= 0) & (side["text"] >= 0))
        # Places of all texts on one line. 2**31 texts of 4 GiB each still fit.
        key = side["text"][known].astype(np.int64) * reach + side["ends"][known]
        if (np.diff(key) < 0).any():
            order = np.argsort(key, kind="stable")
            key, known = key[order], known[order]
        keys.append(key)
        rows.append(known)
    at_a, at_b = shared_ends(*keys)
    return rows[0][at_a], rows[1][at_b]


def _check_texts(a: Any, b: Any) -> None:
    """Refuses activations whose first texts are known to differ."""
    one, two = (getattr(x, "metadata", {}).get("text_digests") for x in (a, b))
    if not isinstance(one, dict) or not isinstance(two, dict):
        return
    common = max((int(count) for count in one.keys() & two.keys()), default=None)
    if common is not None and one[str(common)] != two[str(common)]:
        raise ValueError(
            f"other: the first {common} texts are not those of these activations, expected the "
            "same texts in the same order"
        )


def same_tokens(a: Any, b: Any) -> bool:
    """Whether row i of both is the same token of the same text."""
    for key in ("token_ids", "positions", "text", "ends"):
        one, two = _optional(a, key), _optional(b, key)
        if one is None or two is None:
            if key == "token_ids":
                return False
            continue
        if not np.array_equal(one, two):
            return False
    return True


def check_paired(a: Any, b: Any) -> None:
    """Refuse two sets of activations whose rows are not the same tokens in the same order, and say
    how they go together where that is known.

    Takes `Activations`, anything else with `token_ids`, or (N,) arrays of token ids. Positions,
    texts and ends are compared as well where both sides know them, for the same token read in
    another context is another row.

    Raises:
        ValueError: names the first row that differs and what each side holds there. Not for the
            two sides of one `suture.models.extract_pair`, whose tokens may differ.

    >>> check_paired([5, 6, 7], [5, 6, 7])
    >>> check_paired([5, 6, 7], [5, 9, 7])
    Traceback (most recent call last):
    ValueError: b: token id 9 in row 1, expected 6 as in a: the rows of a pair must be ...
    """
    refuse_unpaired(a, b, "a", "b")


def refuse_unpaired(a: Any, b: Any, name_a: str, name_b: str) -> None:
    """`check_paired` with what the caller calls the two."""
    sides = [
        index_array("token_ids", getattr(x, "token_ids", x), None, name)
        for name, x in ((name_a, a), (name_b, b))
    ]
    if len(sides[0]) == len(sides[1]) and _extracted_as_pair(a, b):
        return
    columns = [("token id", sides[0], sides[1])]
    for key, what in (("positions", "position"), ("text", "text"), ("ends", "end")):
        one, two = _optional(a, key), _optional(b, key)
        if one is not None and two is not None:
            columns.append((what, one, two))
    problem = None
    for what, one, two in columns:
        row = _first_difference(one, two)
        if row is not None:
            problem = (
                f"{name_b}: {what} {two[row]} in row {row}, expected {one[row]} as in {name_a}"
            )
        elif len(one) != len(two):
            problem = f"{name_b}: {len(two)} rows, expected {len(one)} as in {name_a}"
        if problem:
            break
    if problem is None:
        return
    hint = "the rows of a pair must be the same tokens in the same order; "
    try:
        pairing = align_rows(a, b)
        hint += (
            f"by the ends of their tokens they go together as {pairing}: pass "
            f"pairs={name_a}.pairs_with({name_b}), of the two suture.Activations"
        )
    except (TypeError, ValueError, AttributeError):
        hint += (
            "extract both models from the same texts with the same tokenizer, context and mask, or "
            "with suture.models.extract_pair where their tokenizers differ"
        )
    raise ValueError(f"{problem}: {hint}")


def _extracted_as_pair(a: Any, b: Any) -> bool:
    """Whether `extract_pair` made both, in one call."""
    one, two = (getattr(x, "metadata", {}).get("pairing") for x in (a, b))
    return (
        isinstance(one, dict)
        and isinstance(two, dict)
        and one.get("id") is not None
        and one.get("id") == two.get("id")
    )


def owner_of(acts: Any) -> Any:
    """The `Activations` whose rows these are, all of them in order; None where unknown."""
    if hasattr(acts, "token_ids") and hasattr(acts, "shards"):
        return acts
    return getattr(acts, "activations", None)


def _first_difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int | None:
    shared = min(len(a), len(b))
    differing = np.flatnonzero(a[:shared] != b[:shared])
    return int(differing[0]) if len(differing) else None


def _optional(x: Any, name: str) -> npt.NDArray[Any] | None:
    try:
        values = getattr(x, name)
    except AttributeError:
        return None
    return None if values is None else index_array(name, values, None)


def index_array(
    name: str, values: npt.ArrayLike, rows: int | None, label: str | None = None
) -> npt.NDArray[Any]:
    """One array of what is known of each row, in the type that it has in files."""
    array = np.asarray(values)
    kinds, expected = ("b", "truth values") if name == "generated" else ("iu", "integers")
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        raise ValueError(
            f"{label or name}: shape {array.shape}, dtype {array.dtype}, expected one-dimensional "
            f"{expected}"
        )
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name}: {len(array)} values, expected {rows}, one for each row")
    return array.astype(INDEX_TYPES[name], copy=False)

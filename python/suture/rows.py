# SPDX-License-Identifier: Apache-2.0
"""Which rows count: the one way to say it, for everything that reads activations."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from ._arguments import integer, real, word
from .codes import _numbers

__all__ = ["NORM_BOUND", "Positions", "Rows", "as_rows", "check_vocabulary", "special_token_ids"]

Positions = Literal["all", "last", "generated"]
Mask = npt.NDArray[np.bool_]


class _Unasked(float):
    """A bound that nobody has asked for: one like any other wherever norms are bounded, and no
    reason to bound, or to refuse, where they are not."""


NORM_BOUND = _Unasked(5.0)
"""Default bound on the norm of a row, as a multiple of the median of its stream; docs/design.md
says why."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows count, in a fit, in training, in an evaluation, in steering.

    A row must pass all of these. Everything that reads activations takes `rows=`: one of these, or
    a boolean mask (N,), which is `Rows(mask=mask)`; None is `Rows()`, so that special tokens and
    rows of enormous norm do not count unless you say so. What a function cannot apply, such as
    token ids where it gets a plain array, is refused by name if it was asked for.

    Args:
        special: count special tokens and chat markers too: the tokenizer's `all_special_ids`, and
            all of its added tokens that are marked as special.
        leave_out: token ids that never count.
        mask: (N,) truth values, one for each row; or of another shape with as many.
        positions: "all"; "last": of each text, the last row that counts otherwise; "generated":
            what a model wrote itself.
        skip_positions: the first so many positions of every sequence do not count, BOS counted.
        norm_bound: rows whose norm exceeds so many times the median norm of their stream do not
            count; None: no bound. A few tokens (first positions, line breaks, delimiters) have up
            to 100 times the norm of the others in many models, and carry most of the variance. Of
            pairs of rows, both have to be within their stream's bound. The default is one wherever
            norms decide what is computed (fits, training, evaluations, steering); what only hands
            rows on, as `extract` does, bounds them when you give a number, 5.0 too.

    >>> import suture
    >>> suture.Rows(leave_out=[13, 10], skip_positions=1)
    Rows(leave_out=[10, 13], skip_positions=1)
    >>> suture.Rows.all()
    Rows(special=True, norm_bound=None)
    >>> suture.Rows(norm_bound=0)
    Traceback (most recent call last):
    ValueError: norm_bound is 0.0, expected a finite number above 0
    """

    special: bool = False
    leave_out: Collection[int] = ()
    mask: npt.ArrayLike | None = None
    positions: Positions = "all"
    skip_positions: int = 0
    norm_bound: float | None = NORM_BOUND

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        if not isinstance(self.special, (bool, np.bool_)):
            raise TypeError(f"special is {self.special!r}, expected True or False")
        put("special", bool(self.special))
        put("leave_out", _token_ids("leave_out", self.leave_out))
        word("positions", self.positions, get_args(Positions))
        put("skip_positions", integer("skip_positions", self.skip_positions, 0))
        if self.norm_bound is not None and not isinstance(self.norm_bound, _Unasked):
            put("norm_bound", real("norm_bound", self.norm_bound, above=True))
        if self.mask is not None:
            put("mask", as_mask("mask", self.mask))

    @classmethod
    def all(cls) -> Self:
        """Every row counts.

        >>> import suture
        >>> suture.Rows.all().select(2).tolist()
        [True, True]
        """
        return cls(special=True, norm_bound=None)

    def select(
        self,
        count: int,
        *,
        token_ids: npt.ArrayLike | None = None,
        special_ids: Collection[int] = (),
        positions: npt.ArrayLike | None = None,
        texts: npt.ArrayLike | None = None,
        generated: npt.ArrayLike | None = None,
        name: str = "acts",
    ) -> Mask:
        """Which of `count` rows count, but for their norms.

        Args:
            count: N, the number of rows.
            token_ids: (N,) the token of each row; needed for `leave_out`.
            special_ids: ids of the special tokens, as from `special_token_ids`.
            positions: (N,) the position of each row in its sequence; needed for `skip_positions`.
            texts: (N,) the number of the text (or sequence) of each row; needed for "last".
            generated: (N,) truth values; needed for "generated".
            name: what the caller calls the rows.

        Returns:
            (N,) truth values.

        Raises:
            ValueError: a mask of another length, something that is needed and not known, or no
                row is left.

        >>> import suture
        >>> rows = suture.Rows(leave_out=[9], positions="last")
        >>> rows.select(5, token_ids=[5, 6, 9, 7, 8], texts=[0, 0, 0, 1, 1]).tolist()
        [False, True, False, False, True]
        """

        def known(what: str, values: npt.ArrayLike | None, field: str, expected: str) -> Any:
            if values is None:
                raise ValueError(
                    f"rows.{field} is {shown(getattr(self, field))}, expected {expected}: {name} "
                    f"has no {what}; pass suture.Activations that have, or rows=suture.Rows(mask=…)"
                )
            found = _numbers(values)
            if found.shape != (count,):
                raise ValueError(f"{what} has shape {found.shape}, expected ({count},) as {name}")
            return found

        kept: Mask = np.ones(count, np.bool_)
        if self.mask is not None:
            mask = np.asarray(self.mask)
            if mask.size != count:
                raise ValueError(
                    f"rows.mask has shape {mask.shape}, expected ({count},), one for each row of "
                    f"{name}"
                )
            kept &= mask.reshape(-1)
        leave_out: Any = self.leave_out
        if leave_out:
            ids = known("token_ids", token_ids, "leave_out", "none")
            kept &= ~np.isin(ids, np.fromiter(leave_out, np.int64, len(leave_out)))
        if not self.special and special_ids and token_ids is not None:
            ids = known("token_ids", token_ids, "special", "True")
            kept &= ~np.isin(ids, np.fromiter(special_ids, np.int64, len(special_ids)))
        if self.skip_positions:
            kept &= known("positions", positions, "skip_positions", "0") >= self.skip_positions
        if self.positions == "generated":
            kept &= known("generated", generated, "positions", "'all'") != 0
        if self.positions == "last":
            kept &= last_of_each(kept, known("text or sequence", texts, "positions", "'all'"))
        if count and not kept.any():
            raise ValueError(f"rows is {self!r}, which leaves none of the {count} rows of {name}")
        return kept

    def without_norm_bound(self) -> Rows:
        """The same without a bound on the norm.

        >>> import suture
        >>> suture.Rows(skip_positions=1).without_norm_bound()
        Rows(skip_positions=1, norm_bound=None)
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Rows(**values | {"norm_bound": None})

    @property
    def asked_bound(self) -> float | None:
        """`norm_bound` where it was given; None where it is the default, or off.

        >>> import suture
        >>> suture.Rows().asked_bound, suture.Rows(norm_bound=5).asked_bound
        (None, 5.0)
        """
        return None if isinstance(self.norm_bound, _Unasked) else self.norm_bound

    @property
    def selects(self) -> bool:
        """Whether anything but the norm was asked for that leaves rows out of a plain array."""
        return (
            self.mask is not None
            or bool(self.leave_out)
            or self.positions != "all"
            or self.skip_positions > 0
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        for field in fields(self):
            one, two = getattr(self, field.name), getattr(other, field.name)
            if field.name == "mask":
                if (one is None) != (two is None) or not (one is None or np.array_equal(one, two)):
                    return False
            elif one != two:
                return False
        return self.asked_bound == other.asked_bound

    def __hash__(self) -> int:
        mask = None if self.mask is None else np.asarray(self.mask).tobytes()
        others = [getattr(self, field.name) for field in fields(self) if field.name != "mask"]
        return hash((mask, *others, self.asked_bound))

    def __repr__(self) -> str:
        parts = []
        for field in fields(self):
            value = getattr(self, field.name)
            default = frozenset() if field.name == "leave_out" else field.default
            if field.name == "mask":
                if value is not None:
                    parts.append(f"mask=<{int(value.sum())} of {value.size}>")
            elif value != default or (field.name == "norm_bound" and self.asked_bound):
                parts.append(f"{field.name}={shown(value)}")
        return f"Rows({', '.join(parts)})"


def both_sides(rows: Any, expected: str = "(rows_a, rows_b)") -> tuple[Any, Any]:
    """What a caller gave as `rows=` for either of two sides: one for both, or a tuple of two.

    >>> both_sides(None), both_sides((None, [True]))
    ((None, None), (None, [True]))
    """
    if not isinstance(rows, tuple):
        return rows, rows
    if len(rows) != 2:
        raise ValueError(f"rows: a tuple of {len(rows)}, expected suture.Rows or {expected}")
    return rows


def as_rows(value: Any, name: str = "rows") -> Rows:
    """What a caller gave as `rows=`.

    >>> as_rows([True, False])
    Rows(mask=<1 of 2>)
    """
    if value is None:
        return Rows()
    if isinstance(value, Rows):
        return value
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__len__") or is_tensor(value)):
        raise TypeError(f"{name} is {value!r:.60}, expected suture.Rows, a boolean mask or None")
    return Rows(mask=as_mask(name, value))


def as_mask(name: str, value: Any) -> Mask:
    """Truth values, copied, so that a later change of the caller's does not change what counted."""
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name} is {value!r}, expected truth values, one for each row")
    try:
        found = _numbers(value)
    except ValueError:
        raise TypeError(
            f"{name} holds sequences, expected truth values, one for each row"
        ) from None
    if found.ndim == 0:
        raise TypeError(f"{name} is {value!r:.60}, expected truth values, one for each row")
    if found.dtype.kind != "b":
        raise TypeError(f"{name} has dtype {found.dtype}, expected truth values")
    mask: Mask = np.array(found, np.bool_)
    mask.flags.writeable = False
    return mask


def special_token_ids(tokenizer: Any) -> frozenset[int]:
    """The special tokens of a tokenizer, chat markers too: `all_special_ids`, and every added token
    that is marked as special. Many markers (`<|im_start|>`, `<start_of_turn>`) are only the latter.

    >>> class Tokenizer:
    ...     all_special_ids = [0, 1]
    >>> sorted(special_token_ids(Tokenizer()))
    [0, 1]
    """
    if not hasattr(tokenizer, "all_special_ids"):
        raise TypeError(
            f"tokenizer: {type(tokenizer).__name__}, expected a transformers tokenizer "
            "(it has all_special_ids) or None"
        )
    found = {int(i) for i in tokenizer.all_special_ids if i is not None}
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    found.update(int(i) for i, token in added.items() if getattr(token, "special", False))
    return frozenset(found)


def check_vocabulary(rows: Rows, size: int | None, of: str) -> None:
    """Refuses ids in `leave_out` that a vocabulary of `size` tokens does not have.

    >>> check_vocabulary(Rows(leave_out=[7]), 5, "model")
    Traceback (most recent call last):
    ValueError: rows.leave_out has 7, expected 0 to 4, the vocabulary of model
    """
    wrong = [i for i in rows.leave_out if size is not None and i >= size]
    if wrong:
        raise ValueError(
            f"rows.leave_out has {min(wrong)}, expected 0 to {(size or 0) - 1}, the vocabulary of "
            f"{of}"
        )


def token_index(acts: Any) -> dict[str, Any]:
    """What `acts` knows of its rows, as `Rows.select` takes it; nothing of a plain array."""
    if isinstance(acts, (str, os.PathLike)):
        if not os.path.exists(os.path.join(acts, "manifest.json")):
            return {}
        from .activations import Activations

        acts = Activations.open(os.fspath(acts))
    owner = getattr(acts, "activations", None)
    if owner is None:
        owner = acts
    found: dict[str, Any] = {}
    for name in ("token_ids", "positions", "generated"):
        found[name] = getattr(owner, name, None)
    texts = getattr(owner, "text", None)
    found["texts"] = getattr(owner, "sequence", None) if texts is None else texts
    return found if found["token_ids"] is not None else {}


def stream_mask(rows: Rows, acts: Any, stream: Any) -> Mask | None:
    """Which rows of a stream count, but for their norms; None: all."""
    if not rows.selects:
        return None
    refuse_iterator(rows, stream)
    return rows.select(stream.total, name=stream.name, **token_index(acts))


def refuse_iterator(rows: Rows, stream: Any) -> None:
    """Rows are chosen of what has a known number of them."""
    if stream.total is None:
        raise TypeError(
            f"rows is {rows!r}, expected no more than a norm_bound: {stream.name} is an iterator, "
            "whose rows only reading tells; pass arrays, paths or a list of them"
        )


def is_tensor(value: Any) -> bool:
    """An array of another library."""
    return hasattr(value, "detach") or hasattr(value, "__array__")


def shown(value: Any) -> str:
    """A field's value in a message."""
    if isinstance(value, frozenset):
        first = sorted(value)[:8]
        return f"[{', '.join(map(str, first))}{', …' if len(value) > len(first) else ''}]"
    return repr(value)


def _token_ids(name: str, value: Any) -> frozenset[int]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise TypeError(f"{name} is {value!r}, expected a collection of token ids")
    if is_tensor(value):
        value = _numbers(value)
        if value.ndim != 1 or (value.size and value.dtype.kind not in "iu"):
            raise TypeError(
                f"{name} has shape {value.shape} and dtype {value.dtype}, expected token ids (n,)"
            )
    return frozenset(integer(f"{name}[{i}]", token, 0, 2**31 - 1) for i, token in enumerate(value))


def last_of_each(kept: Mask, texts: npt.NDArray[Any]) -> Mask:
    """Of each text, the last row that is kept."""
    places = np.flatnonzero(kept)
    last = np.zeros_like(kept)
    # The first of each when they are read backwards.
    backwards = texts[places][::-1]
    last[places[::-1][np.unique(backwards, return_index=True)[1]]] = True
    return last

# SPDX-License-Identifier: Apache-2.0
"""Checks of single values: each names the argument, its value and what was expected."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ._core import FormatError


def integer(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number within bounds; what behaves as an index is one, a bool is not."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a whole number") from None
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} is {number}, expected {bounds}")
    return number


def real(
    name: str, value: Any, *, least: float = 0.0, above: bool = False, most: float = math.inf
) -> float:
    """A finite number, at least (or above) `least`, and at most `most`."""
    try:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, expected a number") from None
    low = number <= least if above else number < least
    if low or not number <= most or math.isinf(number):
        bounds = "" if least == -math.inf else f" {'above' if above else 'at least'} {least:g}"
        if most != math.inf:
            bounds += f" and at most {most:g}"
        raise ValueError(f"{name} is {number}, expected a finite number{bounds}")
    return number


def word(name: str, value: Any, options: Sequence[str]) -> str:
    """One of a few words."""
    listed = ", ".join(repr(option) for option in options)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected one of {listed}")
    if value not in options:
        raise ValueError(f"{name} is {value!r}, expected one of {listed}")
    return value


def whole_numbers(name: str, values: Any) -> npt.NDArray[np.int64]:
    """A one-dimensional array of whole numbers, possibly empty, as int64."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}, expected (N,)")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} has dtype {array.dtype}, expected whole numbers")
    if array.dtype == np.uint64 and array.max() > 2**63 - 1:
        raise ValueError(f"{name} holds {array.max()}, expected less than 2**63")
    return np.ascontiguousarray(array, np.int64)


def instance(name: str, value: Any, kind: type | tuple[type, ...], expected: str) -> None:
    """An object of a class."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}, expected {expected}")


def path_text(value: Any) -> str:
    """A path as text."""
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"path is {value!r}, expected a path")
    text = os.fspath(value)
    if not isinstance(text, str):
        raise TypeError(f"path is {value!r}, expected text or a pathlib.Path")
    if not text or "\0" in text:
        raise ValueError(f"path is {text!r}, expected a path")
    return text


def existing(name: str, path: str, expected: str) -> None:
    """Something at a path."""
    try:
        os.stat(path)
    except OSError as error:
        reason = f"{name} is {path!r}, expected {expected}: {error.strerror}"
        raise type(error)(error.errno, reason) from None


@contextmanager
def named(start: int = 0, **names: str | tuple[str, int | npt.NDArray[np.int64]]) -> Iterator[None]:
    """Puts the caller's names, and row numbers of the whole input, into messages of the core.

    The core knows the parameters of its own functions and the rows of one block:
    `named(4096, h_a="acts_a")` turns "h_a[3, 1] is nan" into "acts_a[4099, 1] is nan".
    A name may have a start of its own, `h_a=("acts_a", 4096)`, or the number of each row.
    """
    try:
        yield
    except ValueError as error:
        # Not what a caller's own progress function raises.
        if type(error) not in (ValueError, FormatError):
            raise
        text = str(error)
        for parameter, given in names.items():
            name, first = (given, start) if isinstance(given, str) else given
            pattern = rf"(^|\bof |\bas ){parameter}\b(?:\[(\d+), (\d+)\])?"

            def rename(found: re.Match[str], name: str = name, first: Any = first) -> str:
                lead, row, column = found.groups()
                if row is None:
                    return f"{lead}{name}"
                number = first + int(row) if isinstance(first, int) else first[int(row)]
                return f"{lead}{name}[{number}, {column}]"

            text = re.sub(pattern, rename, text)
        if text == str(error):
            raise
        raise type(error)(text) from None


class Counted(Protocol):
    """Something with a number of rows."""

    @property
    def rows(self) -> int: ...


@contextmanager
def counted(
    name: str, matrices: Sequence[Counted], starts: Sequence[int] | None = None
) -> Iterator[None]:
    """Puts row numbers of the whole input into messages of the core, which knows its matrices:
    "acts[1][2, 0] is nan" becomes "acts[42, 0] is nan" where the first one has 40 rows. `starts`
    are the numbers of their first rows where they do not follow one another."""
    try:
        yield
    except ValueError as error:
        found = re.match(rf"{name}\[(\d+)\]\[(\d+), (\d+)\]", str(error))
        if found is None or type(error) is not ValueError:
            raise
        index, row, column = map(int, found.groups())
        before = sum(matrix.rows for matrix in matrices[:index])
        start = before if starts is None else starts[index]
        raise ValueError(f"{name}[{start + row}, {column}]{str(error)[found.end() :]}") from None

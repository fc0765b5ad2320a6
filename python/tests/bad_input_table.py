# SPDX-License-Identifier: Apache-2.0
"""The table of bad inputs: what a row is, and rows that many functions share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture import Moments, SparseCodes, Stitch, Trainer

D_A, D_B, D_SAE = 4, 6, 12
RNG = np.random.default_rng(0)
A = RNG.normal(size=(80, D_A)).astype(np.float32)
B = RNG.normal(size=(80, D_B)).astype(np.float32)
WEIGHTS = {
    "P_up": RNG.normal(size=(D_A, D_B)),
    "b_up": RNG.normal(size=D_B),
    "P_down": RNG.normal(size=(D_B, D_A)),
    "b_down": RNG.normal(size=D_A),
}
SAE_WEIGHTS = {
    "W_enc": RNG.normal(size=(D_A, D_SAE)),
    "b_enc": RNG.normal(size=D_SAE),
    "W_dec": RNG.normal(size=(D_SAE, D_A)),
    "b_dec": RNG.normal(size=D_A),
}


def with_value(array: np.ndarray, value: float, at: int = 41) -> np.ndarray:
    changed = array.copy()
    changed[at, 2] = value
    return changed


def moments() -> Moments:
    return Moments(A, B)


def stitch(**metadata: Any) -> Stitch:
    return Stitch(**WEIGHTS, metadata=metadata)


def sae(**changes: Any) -> suture.SAE:
    return suture.SAE(**SAE_WEIGHTS | {"k": 3} | changes)


def codes() -> SparseCodes:
    return SparseCodes([[1, 2], [3, -1]], [[2.0, 1.0], [1.0, 0.0]], D_SAE)


def trainer() -> Trainer:
    return Trainer(sae(), batch_size=8)


def short(folder: Path, make: Callable[[Path], object], file: str) -> Path:
    """A file without its last quarter."""
    target = folder / "cut"
    make(target)
    path = target / file if file else target
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    return target


def npy(folder: Path, size: int | None = None) -> str:
    path = folder / "acts.npy"
    np.save(path, A)
    if size is not None:
        path.write_bytes(path.read_bytes()[:size])
    return str(path)


def edited_config(folder: Path, **changes: Any) -> Path:
    sae().save(folder / "edited")
    path = folder / "edited" / "cfg.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder / "edited"


@dataclasses.dataclass
class Row:
    """A call that must fail; `parts` are what the message must have."""

    target: str
    call: Callable[[Path], object]
    error: type[BaseException]
    parts: tuple[str, ...]


ROWS: list[Row] = []


def row(
    target: str, call: Callable[[Path], object], error: type[BaseException], *parts: str
) -> None:
    ROWS.append(Row(target, call, error, parts))


# Activations, in every place that takes them. `given` calls with the bad ones; `width` None takes
# any.
def bad_activations(
    target: str, name: str, good: np.ndarray, width: str | None, given: Callable[[Any], object]
) -> None:
    d = good.shape[1]
    row(
        target,
        lambda _: given(good[:0]),
        ValueError,
        name,
        "no rows",
        f"(0, {d})",
        "expected at least 1",
    )
    row(target, lambda _: given([]), ValueError, name, "empty", "expected at least one array")
    row(target, lambda _: given(good[0]), ValueError, name, f"({d},)", "expected (N, d)")
    if width is not None:
        row(
            target,
            lambda _: given(good[:, :3]),
            ValueError,
            name,
            "(80, 3)",
            f"expected (…, {d})",
            width,
        )
    row(target, lambda _: given(good.astype(int)), TypeError, name, "int64", "expected float32")
    row(
        target,
        lambda _: given(good.astype(">f4")),
        TypeError,
        name,
        "big-endian float32",
        "expected",
    )
    row(target, lambda _: given(good + 1j), TypeError, name, "complex", "expected float32")
    row(target, lambda _: given(good.astype(object)), TypeError, name, "object", "expected float32")
    row(target, lambda _: given(None), TypeError, name, "None", "expected")
    row(target, lambda _: given(3.5), TypeError, name, "float", "expected an array")
    row(target, lambda _: given({"a": good}), TypeError, name, "dict", "expected an array")
    row(
        target,
        lambda _: given([[1.0, 2.0]]),
        TypeError,
        name,
        "list",
        "expected an array or a path",
    )
    row(
        target,
        lambda _: given([good, good[:, :3]]),
        ValueError,
        f"{name}[1]",
        "(80, 3)",
        f"expected (…, {d})",
    )
    for value in (np.nan, np.inf):
        text = str(value)
        row(
            target,
            lambda _, v=value: given(with_value(good, v)),
            ValueError,
            f"{name}[41, 2]",
            text,
            "expected finite",
        )
    row(
        target, lambda _: given([good[:40], with_value(good[40:], np.nan, 1)]), ValueError,
        f"{name}[41, 2]", "nan", "expected finite",
    )  # fmt: skip
    row(
        target,
        lambda _: given("no/such.npy"),
        FileNotFoundError,
        name,
        "no/such.npy",
        "expected an .npy file",
    )
    row(target, lambda f: given(f), ValueError, name, "without .npy files", "expected")
    row(
        target,
        lambda f: given(npy(f, 1000)),
        suture.FormatError,
        name,
        "acts.npy",
        "expected a whole .npy file",
    )
    row(
        target,
        lambda f: given(npy(f, 5)),
        suture.FormatError,
        name,
        "acts.npy",
        "expected a whole .npy file",
    )
    row(target, lambda f: given(f / "x.txt"), FileNotFoundError, name, "x.txt", "expected")


def bad_numbers(
    target: str, name: str, given: Callable[[Any], object], *values: Any, expected: str = "expected"
) -> None:
    for value in values:
        error = TypeError if isinstance(value, (str, type(None), list)) else ValueError
        row(target, lambda _, v=value: given(v), error, name, repr(value), expected)

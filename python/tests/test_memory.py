# SPDX-License-Identifier: Apache-2.0
"""Weights share the core's memory, keep it alive, and nothing leaks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import suture


def stitch() -> suture.Stitch:
    rng = np.random.default_rng(0)
    return suture.Stitch(*(rng.normal(size=s) for s in [(40, 50), (50,), (50, 40), (40,)]))


def sae() -> suture.SAE:
    return suture.SAE.init(40, 300, k=5)


def codes() -> suture.SparseCodes:
    return sae().encode(np.random.default_rng(0).normal(size=(200, 40)))


VIEWS: list[tuple[Callable[[], Any], str]] = [
    *((stitch, name) for name in ("P_up", "b_up", "P_down", "b_down")),
    *((sae, name) for name in ("W_enc", "b_enc", "W_dec", "b_dec")),
    *((codes, name) for name in ("indices", "values", "counts")),
]
NAMES = [f"{make.__name__}.{name}" for make, name in VIEWS]


@pytest.mark.parametrize(("make", "name"), VIEWS, ids=NAMES)
def test_views(make: Callable[[], Any], name: str) -> None:
    thing = make()
    view = getattr(thing, name)
    assert np.shares_memory(view, getattr(thing, name))
    assert not view.flags.writeable
    with pytest.raises(ValueError, match=r"read-only|WRITEABLE"):
        view[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        view.flags.writeable = True
    kept = view.copy()
    core = weakref.ref(thing._core)
    del thing
    gc.collect()
    # The array keeps the handle; what else the core allocates does not reach its memory.
    assert core() is not None
    churn = [make() for _ in range(5)]
    np.testing.assert_array_equal(view, kept)
    del view, churn
    gc.collect()
    assert core() is None


MAKERS: dict[str, Callable[[], Any]] = {
    "Moments": lambda: suture.Moments(np.ones((5, 3)), np.ones((5, 4))),
    "Stitch": stitch,
    "SAE": sae,
    "SparseCodes": codes,
    "Evaluation": lambda: suture.Evaluation(sae()).update(np.ones((5, 40))),
    "Trainer": lambda: suture.Trainer(sae(), batch_size=8),
    "transferred": lambda: stitch().transfer(sae()),
    "folded": lambda: sae().fold(),
    "trained": lambda: suture.train(sae(), np.ones((16, 40)), batch_size=8).trainer,
}


@pytest.mark.parametrize("name", list(MAKERS))
def test_objects_are_released(name: str) -> None:
    made = MAKERS[name]()
    outer, core = weakref.ref(made), weakref.ref(made._core)
    del made
    gc.collect()
    assert outer() is None
    assert core() is None


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_memory_does_not_grow(rng: np.random.Generator) -> None:
    x = rng.normal(size=(300, 128)).astype(np.float32)
    bad = x.copy()
    bad[-1, -1] = np.nan

    def once() -> None:
        # 128 x 2048 floats twice: 2 MiB for each of these.
        big = suture.SAE.init(128, 2048, k=4)
        big.encode(x)
        big.fold().evaluate(x)
        for fail in (big.encode, big, big.evaluate):
            with pytest.raises(ValueError, match="nan"):
                fail(bad)
        suture.Trainer(big, batch_size=100).step(x)
        suture.Moments(x, x).to_bytes()

    for _ in range(3):
        once()
    before = resident_bytes()
    for _ in range(20):
        once()
    assert resident_bytes() - before < 20 << 20

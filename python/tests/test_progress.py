# SPDX-License-Identifier: Apache-2.0
"""The bar, and the arithmetic behind it."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

import suture
from suture import _progress, _train_loop


class Bar:
    made: list[Bar]

    def __init__(self, **settings: Any) -> None:
        self.settings, self.n, self.total, self.closed = settings, 0, None, False
        self.notes: dict[str, str] = {}
        Bar.made.append(self)

    def update(self, by: int) -> None:
        self.n += by

    def set_postfix(self, notes: dict[str, str], refresh: bool) -> None:
        self.notes = notes

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    Bar.made = []
    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)
    return Bar.made


def test_bar_after_a_while_only(bars: list[Bar], monkeypatch: pytest.MonkeyPatch) -> None:
    h = np.ones((300_000, 32), np.float32)
    suture.Moments(h, h)
    assert bars == []
    monkeypatch.setattr(_progress, "BAR_AFTER_SECONDS", 0.0)
    suture.Moments(h, h)
    suture.Moments(h, h, progress=False)
    assert len(bars) == 1
    assert bars[0].closed
    assert bars[0].total == len(h)
    assert 0 < bars[0].n <= len(h)
    assert bars[0].settings["desc"] == "moments"


def test_the_bar_of_a_run_shows_its_metrics(
    bars: list[Bar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "BAR_AFTER_SECONDS", 0.0)
    rows = [
        {"explained_variance_average": 0.71234, "l0": 32.0, "dead": 5},
        {"explained_variance_average": 0.5, "l0": 16.04, "dead": 0},
    ]
    with _progress.Meter(True, "train", 100) as meter:
        # Before there is a bar, and after.
        meter.note(l0="1.0")
        meter.show(10, 100)
        assert bars[0].notes == {"l0": "1.0"}
        meter.note(**_train_loop.notes(rows))
    assert bars[0].notes == {
        "explained_variance": "0.7123 0.5000",
        "l0": "32.0 16.0",
        "dead": "5 0",
    }


def test_no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(_progress, "BAR_AFTER_SECONDS", 0.0)
    h = np.ones((300_000, 32), np.float32)
    assert suture.Moments(h, h).tokens == len(h)


def test_parts_add_up() -> None:
    seen: list[tuple[int, int]] = []
    with _progress.Meter(lambda done, total: seen.append((done, total)), "x", 300) as meter:
        for start in (0, 100, 200):
            part = meter.part(start, 100)
            assert part is not None
            part(1, 4)
            part(4, 4)
    assert seen == [(25, 300), (100, 300), (125, 300), (200, 300), (225, 300), (300, 300)]
    with _progress.Meter(False, "x", 300) as meter:
        assert meter.part(0, 100) is None


def test_an_exception_of_the_callers_own_comes_out_as_it_is():
    class OwnError(ValueError):
        def __init__(self, one, two):
            super().__init__(f"x is {one} or {two}")

    def report(done, total):
        raise OwnError(1, 2)

    sae = suture.SAE.init(16, 512, k=8)
    with pytest.raises(OwnError, match="x is 1 or 2"):
        sae.encode(np.zeros((400_000, 16), np.float32), progress=report)

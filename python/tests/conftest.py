# SPDX-License-Identifier: Apache-2.0
"""Which package is tested, and seeds: fixed, overridable by SUTURE_TEST_SEED, printed when a test
fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# `python -m pytest` puts the folder above on the path. The package in it is the one to test where
# it has been built in place (`setup.py build_ext --inplace`); otherwise the installed one is.
ABOVE = Path(__file__).resolve().parents[1]
if not (ABOVE / "suture" / "_core.abi3.so").exists():
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != ABOVE]

# Shells start background jobs with Ctrl-C ignored; the processes that tests start inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

SEED = int(os.environ.get("SUTURE_TEST_SEED", "20251122"))


def pytest_report_header() -> str:
    return f"SUTURE_TEST_SEED={SEED}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


@pytest.fixture
def model() -> Any:
    """A tiny language model of the test's own."""
    from suture.models import tiny_pair

    return tiny_pair()[0]


@pytest.fixture
def tokenizer() -> Any:
    from suture.models import tiny_pair

    return tiny_pair()[2]


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    import suture

    yield
    suture.set_threads(0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections.append(("seed", f"SUTURE_TEST_SEED={SEED}"))
    return report

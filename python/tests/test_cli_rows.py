# SPDX-License-Identifier: Apache-2.0
"""`--norm-bound` of the command line: as `rows=` in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suture
from suture.cli import main

RNG = np.random.default_rng(2)
A = RNG.normal(size=(3000, 8)).astype(np.float32)
B = (A @ RNG.normal(size=(8, 12)) + 0.1 * RNG.normal(size=(3000, 12))).astype(np.float32)
A[::300] *= 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    return tmp_path


def run(capsys: Any, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", "--quiet"]) == 0
    # JSON proper: no Infinity, no NaN.
    found: dict[str, Any] = json.loads(
        capsys.readouterr().out, parse_constant=lambda text: pytest.fail(text)
    )
    return found


@pytest.mark.filterwarnings("ignore::suture.SutureWarning")
def test_norm_bound_of_the_command_line(folder: Path, capsys: Any) -> None:
    a, b, out = folder / "a.npy", folder / "b.npy", folder / "stitch.safetensors"
    fitted = run(capsys, "fit", a, b, "--held-a", a, "--held-b", b, "--out", out)
    assert fitted["rows"]["left_out"] == 10
    assert fitted["held_out"]["tokens"] == 2990
    assert run(capsys, "evaluate", out, a, b)["tokens"] == 2990
    assert run(capsys, "evaluate", out, a, b, "--norm-bound", "none")["tokens"] == 3000
    every = run(capsys, "fit", a, b, "--norm-bound", "none", "--out", out)
    assert every["rows"]["left_out"] == 0
    assert every["rows"]["a"]["norm_bound"] is None
    assert any("few rows" in text for text in every["warnings"])
    options = ("--d-sae", 32, "--k", 4, "--tokens", 3000, "--out", folder / "sae")
    trained = run(capsys, "train", a, *options)
    assert trained["rows"]["beyond"] == 10
    assert run(capsys, "train", a, *options, "--norm-bound", 2000)["rows"]["beyond"] == 0
    metrics = run(capsys, "evaluate", folder / "sae", a, "--norm-bound", 3)
    expected = suture.SAE.load(folder / "sae").evaluate(A, rows=suture.Rows(norm_bound=3))
    assert metrics["explained_variance_ordinary"] == expected["explained_variance_ordinary"]


def test_norm_bounds_that_are_none(folder: Path, capsys: Any) -> None:
    for text in ("0", "-1", "nan", "all"):
        with pytest.raises(SystemExit):
            main(["evaluate", str(folder), str(folder / "a.npy"), "--norm-bound", text])
        assert f"'{text}' is neither a number above 0 nor 'none'" in capsys.readouterr().err

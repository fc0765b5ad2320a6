# SPDX-License-Identifier: Apache-2.0
"""`suture carry`, `suture fidelity` and held-out rows of `suture transfer`: as in Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suture
from suture._folders import FORMAT, FORMAT_VERSION, INDEX_TYPES
from suture.cli import main

RNG = np.random.default_rng(4)
A = RNG.normal(size=(4000, 8)).astype(np.float32)
B = (A @ RNG.normal(size=(8, 12)) + 0.1 * RNG.normal(size=(4000, 12))).astype(np.float32)
FIT, HELD = slice(0, 3000), slice(3000, 4000)


def write_acts(folder: Path, rows: np.ndarray, ends: np.ndarray, vocabulary: int) -> None:
    """A folder as `suture extract` writes them: layers 2 and 3 of one text."""
    nothing = np.zeros(len(ends), np.int64)
    index = {
        "token_ids": ends % vocabulary, "positions": np.arange(len(ends)), "sequence": nothing,
        "text": nothing, "begins": ends - 1, "ends": ends, "starts": nothing,
    }  # fmt: skip
    blocks = {"layer_02": rows, "layer_03": rows} | {
        name: values.astype(INDEX_TYPES[name]) for name, values in index.items()
    }
    for name, values in blocks.items():
        (folder / name).mkdir(parents=True)
        np.save(folder / name / "00000.npy", values)
    manifest = {
        "format": FORMAT, "version": FORMAT_VERSION, "d": rows.shape[1], "dtype": "float32",
        "layers": [2, 3], "shards": [len(rows)], "index": list(index),
        "metadata": {"model": f"model-{folder.name}"},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("carry")
    for name, rows in (("a", A), ("b", B)):
        np.save(folder / f"{name}.npy", rows[FIT])
        np.save(folder / f"held-{name}.npy", rows[HELD])
    suture.SAE.init(8, 32, k=4).save(folder / "sae")
    suture.SAE.init(12, 32, k=4).save(folder / "sae-b")
    suture.Stitch.fit(A[FIT], B[FIT], progress=False).save(folder / "stitch.safetensors")
    # Two models whose tokens differ: rows go together by their places in the text.
    ends = np.arange(1, 2001)
    for name, rows, kept in (("a", A, ends), ("b", B, ends[::2])):
        write_acts(folder / f"acts-{name}", rows[kept - 1], kept, 90 if name == "a" else 70)
    return folder


def run(capsys: Any, *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json", "--quiet"]) == 0
    found: dict[str, Any] = json.loads(
        capsys.readouterr().out, parse_constant=lambda text: pytest.fail(text)
    )
    return found


def test_carry_is_the_functions(folder: Path, capsys: Any) -> None:
    options = (folder / "sae", folder / "a.npy", folder / "b.npy", "--out", folder / "out")
    held = ("--held-out", folder / "held-a.npy", folder / "held-b.npy")
    found = run(capsys, "carry", *options, *held, "--rounds", 1, "--ridge", 0.01, "--sample", 2000)
    sae = suture.SAE.load(folder / "sae")
    expected, report = suture.carry(
        sae, A[FIT], B[FIT], rounds=1, ridge=0.01, sample=2000, progress=False
    )
    carried = suture.SAE.load(folder / "out")
    np.testing.assert_array_equal(carried.W_enc, expected.W_enc)
    np.testing.assert_array_equal(carried.W_dec, expected.W_dec)
    assert found["ridge"] == 0.01
    assert found["rows"] == report.rows
    assert found["refit"]["tokens"] == 3000
    summary = suture.fidelity(sae, A[HELD], expected, B[HELD], progress=False).summary()
    assert found["held_out"]["fidelity"]["correlation"]["median"] == summary.correlation.median
    assert found["held_out"]["fidelity"]["rows"] == 1000
    metrics = expected.evaluate(B[HELD], progress=False)
    assert found["held_out"]["explained_variance"] == metrics["explained_variance"]
    # Without refitting the decoder is another one, the encoder the same.
    plain = run(capsys, "carry", *options, "--ridge", 0.01, "--rounds", 1, "--no-refit")
    assert not {"refit", "held_out"} & plain.keys()
    other = suture.carry(sae, A[FIT], B[FIT], rounds=1, ridge=0.01, refit=False, progress=False)[0]
    np.testing.assert_array_equal(suture.SAE.load(folder / "out").W_dec, other.W_dec)


def test_folders_are_paired_and_say_the_site(folder: Path, capsys: Any) -> None:
    acts = [folder / "acts-a", folder / "acts-b"]
    layers = ("--layer-a", 2, "--layer-b", 3)
    out = ("--held-out", *acts, "--out", folder / "paired")
    found = run(capsys, "carry", folder / "sae", *acts, *layers, *out)
    assert found["pairing"]["pairs"] == found["held_out"]["fidelity"]["rows"] == 1000
    carried = suture.SAE.load(folder / "paired")
    assert carried.metadata["model_name"] == "model-acts-b"
    assert carried.metadata["hook_name"] == "blocks.3.hook_resid_pre"
    judged = run(capsys, "fidelity", folder / "sae", acts[0], folder / "paired", acts[1], *layers)
    assert judged.pop("pairing")["pairs"] == 1000
    assert judged == found["held_out"]["fidelity"]
    # Down, the source is B: pairs are turned round.
    held = ("--held-out", *acts, *layers, "--out", folder / "down")
    stitch = folder / "stitch.safetensors"
    moved = run(capsys, "transfer", stitch, folder / "sae-b", "--direction", "down", *held)
    again = run(
        capsys, "fidelity", folder / "sae-b", acts[1], folder / "down", acts[0],
        "--layer-a", 3, "--layer-b", 2,
    )  # fmt: skip
    again.pop("pairing")
    assert moved["held_out"]["fidelity"] == again


def test_transfer_is_judged_too(folder: Path, capsys: Any) -> None:
    held = ("--held-out", folder / "held-a.npy", folder / "held-b.npy")
    stitch, sae = folder / "stitch.safetensors", folder / "sae"
    found = run(capsys, "transfer", stitch, sae, *held, "--out", folder / "moved")
    judged = run(
        capsys, "fidelity", sae, folder / "held-a.npy", folder / "moved", folder / "held-b.npy"
    )
    assert found["held_out"]["fidelity"] == judged
    assert judged["correlation"]["median"] > 0.9
    none = run(
        capsys, "fidelity", sae, folder / "held-a.npy", folder / "moved", folder / "held-b.npy",
        "--min-count", 5000,
    )  # fmt: skip
    assert none["judged"] == 0
    assert none["correlation"]["median"] is None


def test_info_says_what_is_known_of_latents(folder: Path, capsys: Any) -> None:
    options = (folder / "sae", folder / "a.npy", folder / "b.npy", "--out", folder / "known")
    found = run(capsys, "carry", *options, "--no-refit")
    line = run(capsys, "info", folder / "known")["evidence"]
    known = suture.SAE.load(folder / "known").evidence
    assert known is not None
    assert line.startswith(f"carried by {found['rows']:,} pairs; ")
    judged = known.correlation[known.active_a >= 10]
    assert f"median {np.median(judged):.2f}" in line
    assert f"{(judged > 0.5).sum()} of {len(judged)} latents" in line
    assert "evidence" not in run(capsys, "info", folder / "sae")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("carry sae a.npy b.npy --ridge 0 --out x", ("ridge is 0", "above 0")),
        ("carry sae a.npy b.npy --rounds 101 --out x", ("rounds is 101", "0 to 100")),
        ("carry sae a.npy b.npy --sample 0 --out x", ("sample is 0", "expected")),
        ("carry sae b.npy a.npy --out x", ("acts_a", "12", "expected (…, 8)")),
        ("carry sae a.npy held-b.npy --out x", ("acts_b", "1000", "expected")),
        (
            "carry sae a.npy b.npy --held-out held-b.npy held-a.npy --out x",
            ("held-out", "width 12", "expected 8"),
        ),
        ("carry sae acts-a acts-b --out x", ("layer-a", "[2, 3]")),
        ("carry sae acts-a acts-b --layer-a 2 --layer-b 9 --out x", ("layer-b is 9",)),
        (
            "transfer stitch.safetensors sae --held-out a.npy a.npy --out x",
            ("held-out", "width 8", "expected 12"),
        ),
        ("fidelity sae a.npy sae-b b.npy --min-count 0", ("min-count is 0", "expected at least 1")),
        ("fidelity sae a.npy sae b.npy", ("acts_b", "12", "expected (…, 8)")),
    ],
)
def test_wrong_arguments_are_named(
    folder: Path, arguments: str, words: tuple[str, ...], capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    command, *rest = arguments.split()
    assert main([command, *rest, "--quiet"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"suture {command}: ")
    for word in words:
        assert word in said, said
    assert not (folder / "x").exists()

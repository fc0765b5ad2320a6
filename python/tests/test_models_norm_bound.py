# SPDX-License-Identifier: Apache-2.0
"""A bound on norms that is asked for in `extract` and `extract_pair`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tokenizers_zoo import TEXTS as MANY  # noqa: E402
from tokenizers_zoo import model as model_of  # noqa: E402
from tokenizers_zoo import tokenizer as tokenizer_of  # noqa: E402

import suture  # noqa: E402
from suture import Rows  # noqa: E402
from suture.activations import Activations, as_float32, check_paired  # noqa: E402
from suture.cli import main  # noqa: E402
from suture.models import _shards, extract, extract_pair, tiny_pair  # noqa: E402

MODEL, MODEL_B, TOKENIZER = tiny_pair()
TEXTS = [f"{number} of some texts, each of a few words" for number in range(20)]
LAYERS = [0, 2]


def letter(text: str) -> int:
    return int(TOKENIZER(text)["input_ids"][0])


with torch.no_grad():
    # "w" is of enormous norm in layer 0 of A and "m" of B, and so in the layers after it.
    MODEL.gpt_neox.embed_in.weight[letter("w")] *= 40
    MODEL_B.gpt_neox.embed_in.weight[letter("m")] *= 40


def within(acts: Activations, multiple: float) -> Any:
    """Rows within the bounds of all layers, of fewer rows than a sample has."""
    kept = np.ones(len(acts), bool)
    for layer in acts.layers:
        norms = np.linalg.norm(as_float32(acts[layer]).astype(float), axis=1)
        kept &= norms <= multiple * np.median(norms)
    return kept


def expect_rows(found: Activations, every: Activations, kept: Any) -> None:
    assert 0 < len(found) == kept.sum() < len(every)
    assert found.index == every.index
    for name in every.index:
        np.testing.assert_array_equal(getattr(found, name), getattr(every, name)[kept])
    for layer in every.layers:
        np.testing.assert_array_equal(as_float32(found[layer]), as_float32(every[layer])[kept])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rows_within_the_bounds_of_all_layers_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    monkeypatch.setattr(_shards, "SHARD_BYTES", 16 * 4 * 50)
    every = extract(MODEL, TOKENIZER, TEXTS, LAYERS, dtype=dtype)
    kept = within(every, 1.2)
    alone = [within(extract(MODEL, TOKENIZER, TEXTS, [n], dtype=dtype), 1.2) for n in LAYERS]
    assert kept.sum() < min(mask.sum() for mask in alone)
    assert not kept[every.token_ids == letter("w")].any()
    options: dict[str, Any] = {"rows": Rows(norm_bound=1.2), "dtype": dtype}
    memory = extract(MODEL, TOKENIZER, TEXTS, LAYERS, **options)
    folder = extract(MODEL, TOKENIZER, TEXTS, LAYERS, out=tmp_path / "acts", **options)
    for found in (memory, folder):
        expect_rows(found, every, kept)
        assert found.metadata["tokens"] == len(found)
        assert found.metadata["beyond"] == len(every) - len(found)
        for layer in LAYERS:
            bound = found.metadata["norm_bounds"][str(layer)]
            assert bound == pytest.approx(suture.norm_bound(every[layer], 1.2), rel=1e-14)
            norms = np.linalg.norm(as_float32(found[layer]), axis=1)
            assert found.metadata["median_norms"][str(layer)] == pytest.approx(np.median(norms))
    assert [len(block) for block in folder.shards(2)][:-1] == [
        50 if dtype == "float32" else 100
    ] * (len(folder.shards(2)) - 1)
    assert sorted(path.name for path in (tmp_path / "acts").iterdir()) == sorted(
        ["manifest.json", "layer_00", "layer_02", *every.index]
    )


def test_the_sample_is_that_of_norm_bound() -> None:
    texts = ["some words and more of them " * 10] * 30
    every = extract(MODEL, TOKENIZER, texts, LAYERS)
    assert len(every) > 4096
    kept = np.ones(len(every), bool)
    for layer in LAYERS:
        kept &= suture.row_norms(every[layer]) <= suture.norm_bound(every[layer], 2)
    expect_rows(extract(MODEL, TOKENIZER, texts, LAYERS, rows=Rows(norm_bound=2)), every, kept)


def test_a_default_bound_is_left_to_what_uses_the_rows() -> None:
    every = extract(MODEL, TOKENIZER, TEXTS, LAYERS)
    read = np.ones(sum(map(len, TEXTS)) + len(TEXTS), bool)  # BOS of each text too
    for rows in (None, Rows(), Rows(norm_bound=None), read):
        found = extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=rows)
        np.testing.assert_array_equal(found[2], every[2])
        assert found.metadata["norm_bounds"] == {}
        assert found.metadata["beyond"] == 0
    five = extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=Rows(norm_bound=5))
    expect_rows(five, every, within(every, 5))
    # What uses rows without a bound counts as many.
    counted = suture.Moments(every[2], every[2])
    assert counted.tokens == len(extract(MODEL, TOKENIZER, TEXTS, 2, rows=Rows(norm_bound=5)))


def test_with_other_rules() -> None:
    rules: dict[str, Any] = {"skip_positions": 3, "leave_out": [letter("s")]}
    every = extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=Rows(**rules), max_tokens=300)
    bounded = Rows(**rules, norm_bound=1.2)
    found = extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=bounded, max_tokens=300)
    assert len(every) == 300
    expect_rows(found, every, within(every, 1.2))
    texts = [text + "w" * (number % 4 == 0) for number, text in enumerate(TEXTS)]
    last = Rows(positions="last", norm_bound=3)
    every = extract(MODEL, TOKENIZER, texts, LAYERS, rows=last.without_norm_bound())
    expect_rows(extract(MODEL, TOKENIZER, texts, LAYERS, rows=last), every, within(every, 3))


def test_few_rows_and_none() -> None:
    few = extract(MODEL, TOKENIZER, ["a few words"], LAYERS, rows=Rows(norm_bound=0.01))
    assert len(few) == len("a few words")
    assert few.metadata["norm_bounds"] == {"0": None, "2": None}
    with pytest.raises(ValueError, match=r"rows.norm_bound leaves none of the \d+ rows: .* of at"):
        extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=Rows(norm_bound=0.01))
    with pytest.raises(ValueError, match=r"\d in layer 0 of GPT.*, .* in layer 2 of GPT"):
        extract(MODEL, TOKENIZER, TEXTS, LAYERS, rows=Rows(norm_bound=0.01))


def test_folders_know_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "acts"
    extract(MODEL, TOKENIZER, TEXTS, 2, out=out, rows=Rows(norm_bound=5))
    stamp = (out / "manifest.json").stat().st_mtime_ns
    extract(MODEL, TOKENIZER, TEXTS, 2, out=out, rows=Rows(norm_bound=5.0))
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match=r"norm_bound is 5.0 there and None here"):
        extract(MODEL, TOKENIZER, TEXTS, 2, out=out)
    # One from before there were bounds is one without.
    plain = tmp_path / "plain"
    extract(MODEL, TOKENIZER, TEXTS, 2, out=plain)
    manifest = json.loads((plain / "manifest.json").read_text())
    del manifest["metadata"]["settings"]["norm_bound"]
    (plain / "manifest.json").write_text(json.dumps(manifest))
    extract(MODEL, TOKENIZER, TEXTS, 2, out=plain)
    # What fails while rows are left out leaves the old folder as it was.
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(path: Path) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr(_shards, "load_shard", fail)
    with pytest.raises(OSError, match="no space left"):
        extract(MODEL, TOKENIZER, TEXTS, 2, out=out, rows=Rows(norm_bound=3), overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acts", "plain"]


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_pair_is_kept_if_both_rows_are_within(tmp_path: Path, in_folder: bool) -> None:
    def pair(name: str, rows: Any, **more: Any) -> tuple[Activations, Activations]:
        out = tmp_path / name if in_folder else None
        return extract_pair(
            MODEL, TOKENIZER, MODEL_B, TOKENIZER, TEXTS, LAYERS, [1], rows=rows, out=out, **more
        )

    every = pair("every", None)
    kept = within(every[0], 3) & within(every[1], 3)
    assert kept.sum() < min(within(side, 3).sum() for side in every)
    found = pair("both", Rows(norm_bound=3))
    for acts, whole in zip(found, every, strict=True):
        expect_rows(acts, whole, kept)
        told, was = acts.metadata["pairing"], whole.metadata["pairing"]
        assert told["pairs"] == kept.sum()
        assert told["kept_a"] == pytest.approx(kept.mean())
        assert told["one_to_one"] == 1
        assert told["id"] != was["id"]
    check_paired(*found)
    # Of one side alone, and of the first pairs.
    one = pair("one", (Rows(norm_bound=3), None), max_tokens=200)
    first = pair("first", None, max_tokens=200)
    expect_rows(one[1], first[1], within(first[0], 3))
    assert one[1].metadata["norm_bounds"] == {}
    assert one[0].metadata["beyond"] == one[1].metadata["beyond"] == 200 - len(one[0])
    with pytest.raises(ValueError, match=r"leaves none of the .* in layer 0 of .* layer 1 of"):
        pair("none", Rows(norm_bound=0.01))
    assert not (tmp_path / "none").exists()


def test_pairs_of_two_tokenizers_tell_their_shares() -> None:
    kinds = ("byte-level BPE", "Unigram")
    models = [model_of(kind) for kind in kinds]
    texts = [text for text in MANY.values() if text.isascii()]

    def pair(**more: Any) -> tuple[Activations, Activations]:
        return extract_pair(
            models[0], tokenizer_of(kinds[0]), models[1], tokenizer_of(kinds[1]), texts, 1, 2,
            **more,
        )  # fmt: skip

    a, b = pair()
    kept = within(a, 1.1) & within(b, 1.1)
    found = pair(rows=Rows(norm_bound=1.1))
    single = (a.begins >= 0) & (a.begins == b.begins)
    assert not single.all()
    for acts, whole, side in zip(found, (a, b), "ab", strict=True):
        expect_rows(acts, whole, kept)
        told, was = acts.metadata["pairing"], whole.metadata["pairing"]
        assert was["one_to_one"] == single.mean()
        assert told["one_to_one"] == single[kept].mean()
        share = was[f"kept_{side}"] * kept.mean()
        assert told[f"kept_{side}"] == pytest.approx(share)


def test_command_line(tmp_path: Path, capsys: Any) -> None:
    MODEL.save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    paths = [str(tmp_path / name) for name in ("model", "texts.txt")]
    arguments = ["extract", *paths, "--layers", "2", "--context", "64"]

    def tokens(name: str, *options: str) -> int:
        out = ["--out", str(tmp_path / name), "--json", "--quiet"]
        assert main([*arguments, *options, *out]) == 0
        return int(json.loads(capsys.readouterr().out)["tokens"])

    assert tokens("bounded", "--norm-bound", "3") < tokens("every")
    assert tokens("none", "--norm-bound", "none") == tokens("every")

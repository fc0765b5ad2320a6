# SPDX-License-Identifier: Apache-2.0
"""extract_pair: rows of two models with any tokenizers, against plain forward passes."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers_zoo import KINDS, TEXTS, model, tokenizer  # noqa: E402

import suture  # noqa: E402
from suture.cli import main  # noqa: E402
from suture.models import extract, extract_pair, tiny_pair  # noqa: E402

ALL = list(TEXTS.values())


def pair(a: str, b: str, texts: Any = ALL, **more: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*cannot encode", category=suture.SutureWarning)
        return extract_pair(
            model(a), tokenizer(a), model(b, 24), tokenizer(b), texts, [1], [2],
            progress=False, **more,
        )  # fmt: skip


def last_row(kind: str, width: int, ids: list[int], layer: int) -> Any:
    with torch.no_grad():
        states = model(kind, width)(torch.tensor([ids]), output_hidden_states=True).hidden_states
    assert layer < len(states) - 1 or width == 24
    # transformers' last entry is after the final norm: run the blocks by hand for that one.
    if layer < len(states) - 1:
        return states[layer][0, -1].numpy()
    seen = []
    block = model(kind, width).gpt_neox.layers[-1]
    handle = block.register_forward_hook(
        lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    try:
        with torch.no_grad():
            model(kind, width)(torch.tensor([ids]))
    finally:
        handle.remove()
    return seen[0][0, -1].numpy()


@pytest.mark.parametrize("kinds", list(itertools.combinations(KINDS, 2)), ids=" / ".join)
@pytest.mark.parametrize("context", [None, 16])
def test_rows_are_those_of_models_that_read_the_same_text(
    kinds: tuple[str, str], context: int | None
) -> None:
    sides = pair(*kinds, context=context)
    a, b = sides
    assert len(a) == len(b) > 0
    for name in ("text", "ends", "starts"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.ends > a.starts).all()
    rng = np.random.default_rng(1)
    for row in rng.choice(len(a), min(12, len(a)), replace=False):
        text = ALL[a.text[row]]
        start, end = int(a.starts[row]), int(a.ends[row])
        for kind, width, layer, acts in zip(kinds, (16, 24), (1, 2), sides, strict=True):
            whole = tokenizer(kind)(text, add_special_tokens=False)["input_ids"]
            # BOS, and so many of the text's tokens as the position says, the row's the last.
            size = int(acts.positions[row])
            stops = [
                at + 1
                for at in range(size - 1, len(whole))
                if whole[at] == acts.token_ids[row]
                and np.allclose(
                    last_row(kind, width, [1, *whole[at + 1 - size : at + 1]], layer),
                    acts[layer][row],
                    atol=1e-4,
                )
            ]
            spans = tokenizer(kind)(text, add_special_tokens=False, return_offsets_mapping=True)[
                "offset_mapping"
            ]
            read = [
                tuple(
                    len(text[:place].encode()) for place in (spans[at - size][0], spans[at - 1][1])
                )
                for at in stops
            ]
            # What stands between the window's beginning and its first token is white space.
            assert any(
                last == end and not text.encode()[start:first].decode().strip()
                for first, last in read
                if first >= start
            ), (kind, text, start, end, read)


def test_equal_tokenizers_give_the_identity() -> None:
    model_a, model_b, byte = tiny_pair()
    texts = ["first text", "", "emoji 👩‍👩‍👧", "a longer one, of several windows" * 4]
    a, b = extract_pair(model_a, byte, model_b, byte, texts, [1], [2])
    for acts, whole, layer in ((a, model_a, 1), (b, model_b, 2)):
        alone = extract(whole, byte, texts, layer)
        np.testing.assert_array_equal(acts[layer], alone[layer])
        for name in ("token_ids", "positions", "sequence", "text", "begins", "ends", "starts"):
            np.testing.assert_array_equal(getattr(acts, name), getattr(alone, name))
    assert a.metadata["pairing"]["kept_a"] == a.metadata["pairing"]["one_to_one"] == 1.0
    assert set(a.text.tolist()) == {0, 2, 3}
    assert a.metadata["texts"] == 4


def test_separate_extractions_align_to_the_same_rows() -> None:
    kinds = ("byte-level BPE", "Unigram")
    a, b = pair(*kinds)
    one = extract(model(kinds[0]), tokenizer(kinds[0]), ALL, 1)
    two = extract(model(kinds[1], 24), tokenizer(kinds[1]), ALL, 2)
    with pytest.raises(ValueError, match=r"acts_b: .*pairs=acts_a\.pairs_with\(acts_b\)"):
        suture.Moments(one, two)
    pairing = one.pairs_with(two)
    np.testing.assert_allclose(one[1][pairing.rows_a], a[1], atol=1e-5)
    np.testing.assert_allclose(two[2][pairing.rows_b], b[2], atol=1e-5)
    shares = a.metadata["pairing"]
    assert (pairing.kept_a, pairing.kept_b) == (shares["kept_a"], shares["kept_b"])
    assert pairing.one_to_one == shares["one_to_one"]
    assert suture.Moments(a, b, progress=False).tokens == len(a)
    assert len(a.pairs_with(b)) == len(a)
    with pytest.raises(ValueError, match="the first 12 texts are not those"):
        one.pairs_with(extract(model(kinds[1], 24), tokenizer(kinds[1]), ALL[::-1], 2))


def test_strict_pairs_also_begin_at_one_place() -> None:
    a, b = pair("byte-level BPE", "BPE with byte fallback", strict=True)
    assert (a.begins == b.begins).all()
    assert (a.begins >= 0).all()
    loose, _ = pair("byte-level BPE", "BPE with byte fallback")
    assert len(a) == round(loose.metadata["pairing"]["one_to_one"] * len(loose))
    assert a.metadata["pairing"]["one_to_one"] == 1.0


def test_rows_and_max_tokens() -> None:
    kinds = ("byte-level BPE", "characters")
    a, _ = pair(*kinds)
    few, _ = pair(*kinds, max_tokens=10)
    assert few.ends.tolist() == a.ends[:10].tolist()
    last, other = pair(*kinds, rows=suture.Rows(positions="last"))
    assert last.text.tolist() == np.unique(a.text).tolist()
    assert (last.ends == other.ends).all()
    assert last.ends.tolist() == [a.ends[a.text == text].max() for text in last.text]
    cut, _ = pair(*kinds, skip_positions=3)
    assert cut.positions.min() >= 3
    exchange = [("The quick brown ", "fox jumps"), ("", "all of it")]
    written, _ = pair(*kinds, texts=exchange, rows=suture.Rows(positions="generated"))
    assert written.ends[written.text == 0].min() > len("The quick brown ")
    assert written.generated.all()
    whole, _ = pair(*kinds, texts=exchange)
    assert whole.generated.sum() == len(written)
    ids = tokenizer(kinds[0])("fox", add_special_tokens=False)["input_ids"]
    left, _ = pair(*kinds, rows=(suture.Rows(leave_out=ids), suture.Rows()))
    assert not np.isin(left.token_ids, ids).any()


def test_folders_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("WordPiece", "characters")
    out = tmp_path / "pair"
    memory = pair(*kinds)
    a, b = pair(*kinds, out=out)
    for one, two, layer in ((a, memory[0], 1), (b, memory[1], 2)):
        np.testing.assert_array_equal(one[layer], two[layer])
        np.testing.assert_array_equal(one.ends, two.ends)
        assert one.metadata == two.metadata | {"settings": one.metadata["settings"]}
    assert suture.Moments(a, b, progress=False).tokens == len(a)
    stamp = (out / "a" / "manifest.json").stat().st_mtime_ns
    pair(*kinds, out=out)
    assert (out / "a" / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="strict is False there and True here"):
        pair(*kinds, out=out, strict=True)

    from suture.models import _reading

    def fail(*_: Any) -> Any:
        raise RuntimeError("stop")

    monkeypatch.setattr(_reading, "_bytes_of", fail)
    with pytest.raises(RuntimeError, match="stop"):
        pair(*kinds, out=out, strict=True, overwrite=True)
    with pytest.raises(RuntimeError, match="stop"):
        pair(*kinds, out=tmp_path / "new")
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pair"]
    assert len(suture.Activations.open(out / "b")) == len(b)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(FileExistsError, match="no pair of activations"):
        pair(*kinds, out=tmp_path / "other", overwrite=True)


class Slow:
    all_special_ids = ()
    is_fast = False

    def __call__(self, texts: list[str], **_: object) -> Any:
        return {"input_ids": [[3] for _ in texts]}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"texts": []}, ValueError, "texts: empty"),
        ({"texts": [[1, 2]]}, TypeError, "texts: token ids, expected texts"),
        ({"texts": ["a", 3]}, TypeError, r"texts\[1\]: int, expected a str"),
        ({"texts": ["\ud800"]}, ValueError, r"texts\[0\]: .*UTF-8"),
        ({"texts": ["", "  "]}, ValueError, "texts: no end of a token of tokenizer_a"),
        ({"tokenizer_b": Slow()}, ValueError, "tokenizer_b: Slow, which cannot tell"),
        ({"tokenizer_a": None}, TypeError, "tokenizer_a: NoneType"),
        ({"chunking": "pack"}, ValueError, "chunking: 'pack', expected 'split' or 'truncate'"),
        ({"layers_b": [9]}, ValueError, "layers_b: 9, expected 0 to 2"),
        ({"layers_a": []}, ValueError, "layers_a: empty"),
        ({"context": 1000}, ValueError, "context: 1000, expected at most 128"),
        ({"strict": "yes"}, TypeError, "strict: 'yes'"),
        ({"max_tokens": 0}, ValueError, "max_tokens: 0"),
        ({"model_names": "ab c"}, TypeError, "model_names: 'ab c'"),
        (
            {"rows": suture.Rows(leave_out=[5])},
            ValueError,
            r"rows is .* expected \(rows_a, rows_b\)",
        ),
        ({"rows": suture.Rows(mask=[True])}, ValueError, "expected none with a mask"),
        ({"rows": suture.Rows(positions="generated")}, ValueError, "without a continuation"),
        ({"rows": (None, None, None)}, ValueError, "rows: a tuple of 3"),
    ],
)
def test_bad_arguments(change: dict[str, Any], error: type[Exception], message: str) -> None:
    kinds = ("byte-level BPE", "WordPiece")
    given = {
        "model_a": model(kinds[0]),
        "tokenizer_a": tokenizer(kinds[0]),
        "model_b": model(kinds[1], 24),
        "tokenizer_b": tokenizer(kinds[1]),
        "texts": ["a text"],
        "layers_a": [1],
        "layers_b": [1],
    }
    with pytest.raises(error, match=message):
        extract_pair(**(given | change))


def test_texts_that_a_tokenizer_cannot_encode_are_told_of() -> None:
    kinds = ("byte-level BPE", "characters")
    with pytest.warns(suture.SutureWarning, match=r"tokenizer_b: 1 of 2 texts .* first texts\[1\]"):
        a, _ = extract_pair(
            model(kinds[0]), tokenizer(kinds[0]), model(kinds[1], 24), tokenizer(kinds[1]),
            ["plain", "snow \u2603 man"], [1], [2],
        )  # fmt: skip
    # No row at the snow man itself.
    assert len("snow \u2603".encode()) not in a.ends[a.text == 1]


@pytest.mark.filterwarnings("ignore::suture.SutureWarning")
def test_command_line(tmp_path: Path, capsys: Any) -> None:
    kinds = ("byte-level BPE", "Unigram")
    for name, kind, width in (("one", kinds[0], 16), ("two", kinds[1], 24)):
        model(kind, width).save_pretrained(tmp_path / name)
        tokenizer(kind).save_pretrained(tmp_path / name)
    (tmp_path / "texts.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in ALL), "utf-8"
    )
    one, two, texts = (str(tmp_path / name) for name in ("one", "two", "texts.jsonl"))

    def run(*arguments: str | Path) -> Any:
        assert main([*map(str, arguments), "--quiet", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    pair_of = run(
        "extract", one, texts, "--layers", "1", "--with", two, "--with-layers", "1", "2",
        "--out", tmp_path / "pair",
    )  # fmt: skip
    assert 0 < pair_of["pairing"]["kept_b"] <= 1
    fitted = run(
        "fit", tmp_path / "pair/a", tmp_path / "pair/b", "--layer-b", "2", "--ridge", "1e-3",
        "--out", tmp_path / "stitch",
    )  # fmt: skip
    assert "pairing" not in fitted
    assert fitted["after"]["tokens"] == pair_of["tokens"]
    # Extracted one by one, they are aligned when they are fitted.
    run("extract", one, texts, "--layers", "1", "--out", tmp_path / "a")
    run("extract", two, texts, "--layers", "1", "2", "--out", tmp_path / "b", "--bos", "always")
    again = run(
        "fit", tmp_path / "a", tmp_path / "b", "--layer-b", "2", "--ridge", "1e-3",
        "--held-a", tmp_path / "a", "--held-b", tmp_path / "b", "--out", tmp_path / "other",
    )  # fmt: skip
    assert again["pairing"]["pairs"] == again["held_out"]["tokens"] == pair_of["tokens"]
    assert again["after"]["up"] == pytest.approx(fitted["after"]["up"], rel=1e-3)
    told = run("evaluate", tmp_path / "stitch", tmp_path / "a", tmp_path / "b", "--layer", "1", "2")
    assert told["pairing"]["pairs"] == told["tokens"]
    for arguments, word in (
        (["--with", two], "with-layers"),
        (["--strict"], "strict"),
    ):
        assert main(["extract", one, texts, "--layers", "1", "--out", one, *arguments]) == 1
        assert word in capsys.readouterr().err

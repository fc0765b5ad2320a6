# SPDX-License-Identifier: Apache-2.0
"""extract_pair: rows of two models with any tokenizers, against plain forward passes."""

from __future__ import annotations

import itertools
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers_zoo import KINDS, TEXTS, tokenizer  # noqa: E402

import suture  # noqa: E402
from suture.cli import main  # noqa: E402
from suture.models import extract, extract_pair, tiny_pair  # noqa: E402

ALL = list(TEXTS.values())


@cache
def model(kind: str, width: int = 16) -> Any:
    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer(kind)),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return transformers.GPTNeoXForCausalLM(config).eval()


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


def random_stitch(d_a: int, d_b: int) -> suture.Stitch:
    rng = np.random.default_rng(2)
    return suture.Stitch(
        rng.normal(size=(d_a, d_b)), rng.normal(size=d_b), rng.normal(size=(d_b, d_a)),
        rng.normal(size=d_a),
    )  # fmt: skip


def test_stitched_loss_of_two_tokenizers_is_the_loop_written_out() -> None:
    kinds = ("byte-level BPE", "BPE with byte fallback")
    texts = ["The quick brown fox", "jumps over the lazy dog and then", "a"]
    models = {"a": model(kinds[0]), "b": model(kinds[1], 24)}
    tokens = {"a": tokenizer(kinds[0]), "b": tokenizer(kinds[1])}
    stitch = random_stitch(16, 24)
    maps = {
        "b": lambda x: x @ torch.tensor(stitch.P_up) + torch.tensor(stitch.b_up),
        "a": lambda x: x @ torch.tensor(stitch.P_down) + torch.tensor(stitch.b_down),
    }
    sums: dict[str, list[float]] = {}
    rows_seen = {"a": 0, "b": 0}

    def losses(side: str, ids: Any, new: Any, at: list[int]) -> list[float]:
        """Of the predictions made at `at`, with these rows before block 1 replaced."""

        def put(_: Any, args: Any) -> Any:
            if new is None:
                return None
            stream = args[0].clone()
            stream[0, at] = new
            return (stream, *args[1:])

        handle = models[side].gpt_neox.layers[1].register_forward_pre_hook(put)
        try:
            with torch.no_grad():
                logits = models[side](ids).logits[0]
        finally:
            handle.remove()
        scores = torch.log_softmax(logits.double(), -1)
        return [-float(scores[p, ids[0, p + 1]]) for p in at if p + 1 < ids.shape[1]]

    for text in texts:
        ids, ends, rows = {}, {}, {}
        for side in "ab":
            found = tokens[side](text, add_special_tokens=False, return_offsets_mapping=True)
            ids[side] = torch.tensor([[1, *found["input_ids"]]])
            spans = found["offset_mapping"]
            # The prefix of the second tokenizer covers the first letter that the next token has.
            ends[side] = {
                end: at + 1
                for at, (begin, end) in enumerate(spans)
                if end > begin and not (at + 1 < len(spans) and spans[at + 1][0] < end)
            }
            rows_seen[side] += len(spans)
        shared = sorted(ends["a"].keys() & ends["b"].keys())
        at = {side: [ends[side][end] for end in shared] for side in "ab"}
        for side in "ab":
            with torch.no_grad():
                states = models[side](ids[side], output_hidden_states=True).hidden_states
            rows[side] = states[1][0, at[side]]
            sums.setdefault(side, []).extend(losses(side, ids[side], None, at[side]))
        up, down = maps["b"](rows["a"]), maps["a"](rows["b"])
        for name, side, new in (
            ("a_to_b", "b", up),
            ("b_to_a", "a", down),
            ("a_to_b_to_a", "a", maps["a"](up)),
            ("b_to_a_to_b", "b", maps["b"](down)),
        ):
            sums.setdefault(name, []).extend(losses(side, ids[side], new, at[side]))
        sums.setdefault("pairs", []).append(len(shared))
    found = suture.models.stitched_loss(
        models["a"], models["b"], stitch, 1, 1, texts, tokens["a"], tokenizer_b=tokens["b"]
    )
    for name in ("a", "b", "a_to_b", "b_to_a", "a_to_b_to_a", "b_to_a_to_b"):
        assert getattr(found, name) == pytest.approx(np.mean(sums[name]), rel=1e-5), name
    assert (found.tokens, found.tokens_b) == (len(sums["a"]), len(sums["b"]))
    assert found.share_a == sum(sums["pairs"]) / rows_seen["a"]
    assert found.share_b == sum(sums["pairs"]) / rows_seen["b"]
    assert found.share_b < 1
    assert "replaced at shared ends" in str(found)
    assert found.to_dict()["share_b"] == found.share_b
    with pytest.raises(ValueError, match="special: 'stitch', expected 'own'"):
        suture.models.stitched_loss(
            models["a"], models["b"], stitch, 1, 1, texts, tokens["a"], tokenizer_b=tokens["b"],
            special="stitch",
        )  # fmt: skip


def test_stitched_loss_of_equal_tokenizers_is_that_of_one() -> None:
    a, b, byte = tiny_pair()
    stitch = random_stitch(16, 24)
    once = suture.models.stitched_loss(a, b, stitch, 1, 2, iter(["some text", "é"]), byte)
    twice = suture.models.stitched_loss(
        a, b, stitch, 1, 2, iter(["some text", "é"]), byte, tokenizer_b=byte
    )
    assert once == twice


def test_generate_puts_bos_once() -> None:
    a, _, byte = tiny_pair()
    seen: list[Any] = []
    handle = a.register_forward_pre_hook(
        lambda _m, _a, given: seen.append(given["input_ids"].tolist()), with_kwargs=True
    )
    prompts = ["<bos>ab", "ab"]
    try:
        for option, lengths in ((None, [3, 3]), (True, [4, 3]), (False, [3, 2])):
            for prompt, length in zip(prompts, lengths, strict=True):
                seen.clear()
                suture.models.generate(
                    a, byte, [prompt], max_new_tokens=1, prepend_bos=option, progress=False
                )
                assert len(seen[0][0]) == length
                assert seen[0][0].count(0) == length - 2
    finally:
        handle.remove()


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


def test_an_empty_and_a_split_text_do_not_shift_labels() -> None:
    a, _, byte = tiny_pair()
    texts = ["first", "long enough for several windows " * 6, "b"]
    acts = extract(a, byte, texts, 1)
    assert acts.sequence.max() > 2
    pooled = suture.pool(acts.shards(1))
    assert pooled.shape == (3, 16)
    for number in range(3):
        np.testing.assert_allclose(pooled[number], acts[1][acts.text == number].mean(0), atol=1e-5)
    with_empty = extract(a, byte, ["", *texts[1:]], 1)
    assert np.unique(with_empty.text).tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"no token of text 0 \(1 such of 3\)"):
        suture.pool(with_empty)
    np.testing.assert_allclose(
        suture.pool(with_empty[1], np.where(with_empty.text == 1, 0, 1)), pooled[1:], atol=1e-5
    )
    # An empty text at the end counts too.
    assert extract(a, byte, ["b", ""], 1).metadata["texts"] == 2


def test_chat_masks_say_what_was_generated() -> None:
    a, _, byte = tiny_pair()
    encoded = {
        "input_ids": [[0, 50, 51, 52], [0, 60, 61]],
        "attention_mask": [[1, 1, 1, 1], [1, 1, 1]],
        "assistant_masks": [[0, 0, 1, 1], [0, 0, 1]],
    }
    acts = extract(a, byte, encoded, 1)
    assert acts.generated.tolist() == [False, True, True, False, True]
    only = extract(a, byte, encoded, 1, rows=suture.Rows(positions="generated"))
    assert only.token_ids.tolist() == [51, 52, 61]
    np.testing.assert_allclose(only[1], acts[1][acts.generated], atol=1e-6)
    last = extract(a, byte, encoded, 1, rows=suture.Rows(positions="last"))
    assert last.token_ids.tolist() == [52, 61]
    masked = extract(a, byte, encoded, 1, rows=[False, True, False, True, False, False, True])
    assert masked.token_ids.tolist() == [50, 52, 61]
    with pytest.raises(ValueError, match=r"rows.mask has shape \(3,\), expected \(7,\)"):
        extract(a, byte, encoded, 1, rows=[True, False, True])
    with pytest.raises(ValueError, match=r"rows\.leave_out has 999, expected 0 to 258"):
        extract(a, byte, encoded, 1, rows=suture.Rows(leave_out=[999]))
    encoded["assistant_masks"] = [[0, 1], [1, 1, 1]]
    with pytest.raises(ValueError, match=r"assistant mask of shape \(2,\), expected \(4,\)"):
        extract(a, byte, encoded, 1)


def test_bos_once() -> None:
    kind = "byte-level BPE"
    texts = ["<s>chat", "plain"]
    for option, expected in ((None, [[1], [1]]), (True, [[1, 1], [1]]), (False, [[1], []])):
        acts = extract(
            model(kind), tokenizer(kind), texts, 1, prepend_bos=option, rows=suture.Rows.all()
        )
        for number, head in enumerate(expected):
            ids = acts.token_ids[acts.text == number].tolist()
            count = next((at for at, token in enumerate(ids) if token != 1), len(ids))
            assert ids[:count] == head
    # What is split goes on with BOS.
    acts = extract(
        model(kind), tokenizer(kind), ["<s>" + "abcdefgh" * 4], 1, context=8, rows=suture.Rows.all()
    )
    first = np.flatnonzero(acts.positions == 0)
    assert (acts.token_ids[first] == 1).all()
    assert (acts.token_ids == 1).sum() == len(first)

# SPDX-License-Identifier: Apache-2.0
"""extract: what becomes of texts and token ids, dtypes, folders, bad arguments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import suture.models  # noqa: E402
from suture.activations import Activations, as_float32, check_paired  # noqa: E402
from suture.models import _shards, extract, tiny_pair  # noqa: E402

MODEL, MODEL_B, TOKENIZER = tiny_pair()
BOS, EOS, PAD = 0, 1, 2
TEXTS = ["first text", "2nd", "", "a third, longer one"]
N = sum(map(len, TEXTS))


def encode(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(text)["input_ids"]
    return ids


def texts_of(acts: Activations) -> list[str]:
    return [
        TOKENIZER.decode(acts.token_ids[acts.sequence == number])
        for number in np.unique(acts.sequence)
    ]


def test_texts_begin_with_bos_which_is_masked() -> None:
    acts = extract(MODEL, TOKENIZER, TEXTS, layers=[0, 2])
    assert texts_of(acts) == [text for text in TEXTS if text]
    assert acts.positions.min() == 1
    assert len(acts) == N
    by_hand = [[BOS, *encode(text)] for text in TEXTS if text]
    same = extract(MODEL, TOKENIZER, by_hand, layers=[0, 2])
    np.testing.assert_array_equal(acts[2], same[2])
    without = extract(MODEL, TOKENIZER, TEXTS, layers=2, prepend_bos=False)
    assert without.positions.min() == 0
    assert len(without) == N
    assert not np.allclose(without[2], acts[2])


def test_split_truncate_pack() -> None:
    split = extract(MODEL, TOKENIZER, TEXTS, 1, context=9)
    assert texts_of(split) == ["first te", "xt", "2nd", "a third,", " longer ", "one"]
    cut = extract(MODEL, TOKENIZER, TEXTS, 1, context=9, chunking="truncate")
    assert texts_of(cut) == ["first te", "2nd", "a third,"]
    packed = extract(MODEL, TOKENIZER, TEXTS, 1, context=9, chunking="pack")
    assert texts_of(packed) == ["first te", "xt2nda", " third, ", "longer o", "ne"]
    assert len(packed) == N
    assert max(packed.positions) == 8


def test_one_text_generators_and_max_tokens() -> None:
    assert texts_of(extract(MODEL, TOKENIZER, "abc", 0)) == ["abc"]
    assert texts_of(extract(MODEL, TOKENIZER, np.array(["ab", "c"]), 0)) == ["ab", "c"]

    read = []

    def endless() -> Any:
        while True:
            read.append(1)
            yield "0123456789"

    acts = extract(MODEL, TOKENIZER, endless(), 0, max_tokens=25)
    assert len(acts) == 25
    assert texts_of(acts) == ["0123456789", "0123456789", "01234"]
    assert len(read) < 1000


def test_specials_and_first_positions_are_masked() -> None:
    ids = [[BOS, 50, EOS, 51, 52, BOS, 53]]
    acts = extract(MODEL, TOKENIZER, ids, 1)
    assert acts.token_ids.tolist() == [50, 51, 52, 53]
    assert acts.positions.tolist() == [1, 3, 4, 6]
    skipped = extract(MODEL, TOKENIZER, ids, 1, skip_positions=4)
    assert skipped.token_ids.tolist() == [52, 53]
    np.testing.assert_array_equal(skipped[1], acts[1][2:])
    # Without a tokenizer the configuration tells the special tokens.
    np.testing.assert_array_equal(extract(MODEL, None, ids, 1)[1], acts[1])


def test_padding_by_id_is_taken_off() -> None:
    rows = np.array([[PAD, PAD, BOS, 50, 51], [BOS, 60, 61, 62, PAD]])
    acts = extract(MODEL, TOKENIZER, rows, 1)
    assert acts.token_ids.tolist() == [50, 51, 60, 61, 62]
    assert acts.positions.tolist() == [1, 2, 1, 2, 3]
    encoded = TOKENIZER(["ab", "abc"], padding=True, return_tensors="pt")
    assert texts_of(extract(MODEL, TOKENIZER, encoded, 1)) == ["ab", "abc"]


def test_padding_that_is_bos_needs_a_mask() -> None:
    class Shared:
        all_special_ids = (0,)
        bos_token_id = eos_token_id = pad_token_id = 0

    assert len(extract(MODEL, Shared(), [[0, 50, 51, 0, 0]], 1)) == 2
    with pytest.raises(ValueError, match=r"\[0\]: begins with 2 times token 0.*BOS and padding"):
        extract(MODEL, Shared(), [[0, 0, 50]], 1)
    masked = {"input_ids": [[0, 0, 50]], "attention_mask": [[0, 1, 1]]}
    assert extract(MODEL, Shared(), masked, 1).positions.tolist() == [1]
    masked["attention_mask"] = [[1, 0, 1]]
    with pytest.raises(ValueError, match="attention mask with a gap"):
        extract(MODEL, Shared(), masked, 1)
    masked["attention_mask"] = [[1, 1]]
    with pytest.raises(ValueError, match=r"attention mask of shape \(2,\), expected \(3,\)"):
        extract(MODEL, Shared(), masked, 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes_in_memory_and_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any
) -> None:
    monkeypatch.setattr(_shards, "SHARD_BYTES", 16 * 4 * 7)
    exact = extract(MODEL, TOKENIZER, TEXTS, [1, 3])
    memory = extract(MODEL, TOKENIZER, TEXTS, [1, 3], dtype=dtype, batch_size=3)
    disk = extract(
        MODEL, TOKENIZER, TEXTS, [1, 3], dtype=dtype, batch_size=3, out=tmp_path / "a" / "b"
    )
    assert memory.dtype == disk.dtype == dtype
    assert len(disk.shards(1)) > 1
    assert sum(map(len, disk.shards(1))) == N
    kind = getattr(torch, dtype)
    for layer in (1, 3):
        np.testing.assert_array_equal(as_float32(memory[layer]), as_float32(disk[layer]))
        rounded = torch.from_numpy(exact[layer]).to(kind).float().numpy()
        np.testing.assert_allclose(as_float32(memory[layer]), rounded, rtol=0.01, atol=1e-3)
    if dtype == "bfloat16":
        assert isinstance(memory[1], torch.Tensor)
        assert memory[1].dtype == torch.bfloat16
        assert disk[1].dtype == np.dtype("V2")
    else:
        assert memory[1].dtype == disk[1].dtype == np.dtype(dtype)
    for name in ("token_ids", "positions", "sequence"):
        np.testing.assert_array_equal(getattr(memory, name), getattr(disk, name))
    check_paired(memory, disk)
    assert memory.metadata["model"] == disk.metadata["model"] == "GPTNeoXForCausalLM"


def test_bfloat16_shards_are_what_ml_dtypes_saves(tmp_path: Path) -> None:
    acts = extract(MODEL, TOKENIZER, ["ab"], 1, dtype="bfloat16", out=tmp_path / "a")
    header = (tmp_path / "a" / "layer_01" / "00000.npy").read_bytes()[:128]
    assert header.startswith(b"\x93NUMPY\x01\x00v\x00{'descr': '<V2', 'fortran_order': False")
    assert acts[1].shape == (2, 16)


def test_half_precision_models() -> None:
    half = tiny_pair()[0].to(torch.bfloat16)
    np.testing.assert_allclose(
        extract(half, TOKENIZER, TEXTS, 2)[2],
        extract(MODEL, TOKENIZER, TEXTS, 2)[2],
        rtol=0.1,
        atol=0.1,
    )


def test_float16_overflow_and_bad_values_are_refused(tmp_path: Path) -> None:
    large = tiny_pair()[0]
    with torch.no_grad():
        large.gpt_neox.embed_in.weight.mul_(1e6)
    with pytest.raises(ValueError, match="dtype: float16 overflows in layer 0, row 0"):
        extract(large, TOKENIZER, ["ab"], [0], dtype="float16", out=tmp_path / "a")
    with torch.no_grad():
        large.gpt_neox.embed_in.weight[encode("b")[0]] = float("nan")
    with pytest.raises(ValueError, match=r"model: .*before layer 0 is not finite at .* 2, token"):
        extract(large, TOKENIZER, ["ab"], [0], out=tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_folder_is_reused_or_refused(tmp_path: Path) -> None:
    out = tmp_path / "acts"
    extract(MODEL, TOKENIZER, TEXTS, [1, 2], out=out)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    again = extract(MODEL, TOKENIZER, TEXTS, [2, 1], out=out, batch_size=3, progress=True)
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    assert len(again) == N
    changes: dict[str, dict[str, Any]] = {
        r"layers is \[1, 2\] there and \[1\] here": {"layers": [1]},
        "dtype is 'float32' there and 'float16' here": {"dtype": "float16"},
        "skip_positions is 0 there and 2 here": {"skip_positions": 2},
        "max_tokens is None there and 3 here": {"max_tokens": 3},
        "tokens is ": {"texts_or_token_ids": TEXTS[:1]},
        "weights is ": {"model": tiny_pair(seed=1)[0]},
        "config is ": {"model": MODEL_B},
    }
    base = {"model": MODEL, "tokenizer": TOKENIZER, "texts_or_token_ids": TEXTS, "layers": [1, 2]}
    for message, change in changes.items():
        with pytest.raises(FileExistsError, match=f"out: .*{message}"):
            extract(**{**base, **change}, out=out)
    new = extract(**{**base, "dtype": "float16"}, out=out, overwrite=True)
    assert new.dtype == Activations.open(out).dtype == "float16"
    assert [path.name for path in tmp_path.iterdir()] == ["acts"]


def test_reusing_a_truncated_folder_names_the_file(tmp_path: Path) -> None:
    extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "a")
    shard = tmp_path / "a" / "layer_01" / "00000.npy"
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(OSError, match=r"layer_01/00000.npy: .* cut short"):
        extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "a")
    assert len(extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "a", overwrite=True)) == N


def test_foreign_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="holds no activations"):
            extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path, overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(FileExistsError, match="holds no activations"):
        extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "thesis.tex")
    (tmp_path / "empty").mkdir()
    assert len(extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "empty")) == N


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_extraction_leaves_nothing(tmp_path: Path, error: type) -> None:
    model = tiny_pair()[0]
    calls = []

    def stop(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise error

    model.gpt_neox.layers[0].register_forward_hook(stop)
    with pytest.raises(error):
        extract(model, TOKENIZER, TEXTS, 2, out=tmp_path / "a", batch_size=1)
    assert list(tmp_path.iterdir()) == []
    assert not model.gpt_neox.layers[2]._forward_pre_hooks
    extract(model, TOKENIZER, TEXTS, 2, out=tmp_path / "a", batch_size=1)  # and it works again


def test_killed_extraction_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    abandoned, running = (tmp_path / f".a.partial-{pid}" for pid in (dead.pid, os.getppid()))
    for folder in (abandoned, running):
        (folder / "layer_01").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"no manifest.json"):
            Activations.open(folder)
    extract(MODEL, TOKENIZER, TEXTS, 1, out=tmp_path / "a")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([running.name, "a"])


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    extract(MODEL, TOKENIZER, TEXTS, [1, 3], out=tmp_path / "a", model_name="mine")
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["layers"] == [1, 3]
    assert manifest["shards"] == [N]
    assert manifest["rows"] == N
    assert manifest["metadata"]["model"] == "mine"
    assert manifest["metadata"]["n_layers"] == 3


def test_pairs_of_models() -> None:
    a, b = (extract(model, TOKENIZER, TEXTS, 1) for model in (MODEL, MODEL_B))
    check_paired(a, b)
    other = extract(MODEL_B, TOKENIZER, ["first tent", *TEXTS[1:]], 1)
    with pytest.raises(ValueError, match=r"b: token id .* in row 8, expected"):
        check_paired(a, other)


BAD: dict[str, tuple[type[Exception], str, dict[str, Any]]] = {
    "model": (TypeError, "model: str", {"model": "gpt2"}),
    "tokenizer": (TypeError, "tokenizer: int", {"tokenizer": 3}),
    "no tokenizer": (ValueError, "tokenizer: None, expected a tokenizer", {"tokenizer": None}),
    "no texts": (ValueError, "texts_or_token_ids: empty", {"texts_or_token_ids": []}),
    "only empty": (ValueError, "no token is left", {"texts_or_token_ids": ["", ""]}),
    "not iterable": (TypeError, "texts_or_token_ids: int", {"texts_or_token_ids": 3}),
    "mixed": (TypeError, r"texts_or_token_ids\[1\]: int", {"texts_or_token_ids": ["a", 3]}),
    "objects": (TypeError, "holds NoneType", {"texts_or_token_ids": [None]}),
    "flat ids": (ValueError, "one flat sequence", {"texts_or_token_ids": [3, 4]}),
    "flat array": (ValueError, r"shape \(3,\)", {"texts_or_token_ids": np.arange(3)}),
    "3-d": (ValueError, r"shape \(1, 1, 1\)", {"texts_or_token_ids": np.ones((1, 1, 1), int)}),
    "float ids": (ValueError, "float64", {"texts_or_token_ids": np.ones((1, 3))}),
    "negative id": (
        ValueError,
        "token id -1 in sequence 0, position 1, expected 0 to 258",
        {"texts_or_token_ids": [[5, -1]]},
    ),
    "large id": (ValueError, "token id 259 .*of model", {"texts_or_token_ids": [[5, 259]]}),
    "long ids": (ValueError, "65 tokens, expected at most 64", {"texts_or_token_ids": [[5] * 65]}),
    "no ids": (ValueError, "keys ids, expected input_ids", {"texts_or_token_ids": {"ids": []}}),
    "masks": (
        ValueError,
        "1 attention masks, expected 2",
        {"texts_or_token_ids": {"input_ids": [[5], [6]], "attention_mask": [[1]]}},
    ),
    "only special": (ValueError, "no token is left", {"texts_or_token_ids": [[0, 1, 2]]}),
    "no layers": (ValueError, "layers: empty", {"layers": []}),
    "layer": (ValueError, "layers: 4, expected 0 to 3", {"layers": [1, 4]}),
    "negative layer": (ValueError, "layers: -1, expected 0 to 3", {"layers": -1}),
    "layer type": (TypeError, "layers: 1.0, expected an integer", {"layers": [1.0]}),
    "bool layer": (TypeError, "layers: True", {"layers": [True]}),
    "layers type": (TypeError, "layers: 1.5, expected", {"layers": 1.5}),
    "batch_size": (ValueError, "batch_size: 0, expected at least 1", {"batch_size": 0}),
    "batch_size type": (TypeError, "batch_size: 2.5", {"batch_size": 2.5}),
    "context": (ValueError, "context: 1, expected at least 2", {"context": 1}),
    "large context": (ValueError, "context: 65, expected at most 64", {"context": 65}),
    "chunking": (ValueError, "chunking: 'cut', expected one of split", {"chunking": "cut"}),
    "dtype": (ValueError, "dtype: 'int8', expected one of float32", {"dtype": "int8"}),
    "skip": (ValueError, "skip_positions: -1", {"skip_positions": -1}),
    "skip all": (ValueError, "no token is left", {"skip_positions": 64}),
    "device": (ValueError, "device: 'gpu7', expected a torch device", {"device": "gpu7"}),
    "absent device": (ValueError, "device: xpu, which cannot be used here", {"device": "xpu"}),
    "out": (TypeError, "out: 3, expected a path", {"out": 3}),
    "max_tokens": (ValueError, "max_tokens: 0", {"max_tokens": 0}),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case: str) -> None:
    error, message, change = BAD[case]
    good = {
        "model": MODEL,
        "tokenizer": TOKENIZER,
        "texts_or_token_ids": ["some text"],
        "layers": [1],
    }
    with pytest.raises(error, match=message):
        extract(**{**good, **change})


def test_bos_that_does_not_exist_is_refused() -> None:
    class NoBos:
        all_special_ids = (1,)
        bos_token_id = None

        def __call__(self, texts: list[str], **_: Any) -> dict[str, Any]:
            return {"input_ids": [[5] * len(text) for text in texts]}

    assert extract(MODEL, NoBos(), ["abc"], 1).positions.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="prepend_bos: True, expected None or False"):
        extract(MODEL, NoBos(), ["abc"], 1, prepend_bos=True)


def test_progress_only_when_asked_or_slow(capfd: pytest.CaptureFixture[str]) -> None:
    extract(MODEL, TOKENIZER, TEXTS, 1)
    assert capfd.readouterr().err == ""
    extract(MODEL, TOKENIZER, TEXTS, 1, progress=True)
    captured = capfd.readouterr()
    assert "extract" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_missing_packages_are_explained(missing: str) -> None:
    code = (
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch');"
        f"sys.modules[{missing!r}] = None; import suture.models"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert f"{missing} is missing: pip install 'suture[models]'" in run.stderr


def test_every_public_name_has_an_example() -> None:
    for name in suture.models.__all__:
        documented = getattr(suture.models, name).__doc__
        assert ">>>" in documented, name

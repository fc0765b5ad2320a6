# SPDX-License-Identifier: Apache-2.0
"""Activations in memory, their folders, and the check of pairs."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import suture
from suture.activations import Activations, as_float32, check_paired


def write_folder(folder: Path, sizes: tuple[int, ...] = (3, 2), d: int = 4) -> np.ndarray:
    """A folder as the format describes it, written without suture."""
    rows = np.arange(sum(sizes) * d, dtype=np.float32).reshape(-1, d)
    ends = np.cumsum(sizes)[:-1]
    streams = {"layer_03": rows, "layer_11": -rows}
    for name in ("token_ids", "positions", "sequence"):
        streams[name] = np.arange(sum(sizes), dtype=np.int32)
    for name, values in streams.items():
        (folder / name).mkdir(parents=True)
        for number, block in enumerate(np.split(values, ends)):
            np.save(folder / name / f"{number:05d}.npy", block)
    manifest = {
        "format": "suture-activations",
        "version": 1,
        "layers": [3, 11],
        "dtype": "float32",
        "d": d,
        "rows": sum(sizes),
        "shards": list(sizes),
        "metadata": {"model": "m"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return rows


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_opens_shards_as_read_only_maps(tmp_path: Path) -> None:
    rows = write_folder(tmp_path)
    acts = Activations.open(tmp_path)
    assert len(acts) == 5
    assert acts.layers == (3, 11)
    assert acts.d == 4
    assert acts.dtype == "float32"
    shards = acts.shards(3)
    assert [len(block) for block in shards] == [3, 2]
    for block in shards:
        assert isinstance(block, np.memmap)
        assert not block.flags.writeable
    for _ in range(2):  # a second walk sees the same rows
        np.testing.assert_array_equal(np.concatenate(list(acts.layer(3))), rows)
    np.testing.assert_array_equal(acts[11], -rows)
    assert [len(block) for block in shards[1:]] == [2]
    np.testing.assert_array_equal(acts.token_ids, np.arange(5))
    np.testing.assert_array_equal(acts.sequence, np.arange(5))
    assert 3 in acts
    assert 4 not in acts
    with pytest.raises(TypeError, match=r"expected one: acts\[layer\] or acts.shards"):
        iter(acts)
    assert "5 tokens, d=4, layers=[3, 11]" in repr(acts)
    with pytest.raises(KeyError, match=r"layer: 4, expected one of \[3, 11\]"):
        acts.shards(4)


def test_one_shard_is_mapped_not_copied(tmp_path: Path) -> None:
    write_folder(tmp_path, sizes=(5,))
    assert isinstance(Activations.open(tmp_path)[3], np.memmap)


@pytest.mark.parametrize("keep", [0, 5, 60, 130])
@pytest.mark.parametrize("name", ["layer_11/00001.npy", "positions/00000.npy"])
def test_truncated_shard_is_named(tmp_path: Path, keep: int, name: str) -> None:
    write_folder(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(OSError, match=f"{name}.*cut short"):
        Activations.open(tmp_path)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    acts = Activations.open(tmp_path)
    (tmp_path / "layer_03" / "00001.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"layer_03/00001.npy: the shard is missing"):
        Activations.open(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"layer_03/00001.npy: the shard is missing"):
        list(acts.shards(3))


def test_shard_of_another_shape_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path)
    np.save(tmp_path / "layer_03" / "00000.npy", np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"layer_03/00000.npy: float64 of shape \(3, 4\), exp"):
        Activations.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "else"}, "not a manifest of activations"),
        ({"version": 3}, "format version 3, expected 1 to 2"),
        ({"shards": [3, -1]}, r"shards is \[3, -1\]"),
        ({"shards": []}, r"shards is \[\]"),
        ({"layers": ["../x"]}, "layers is"),
        ({"layers": 3}, "layers is 3"),
        ({"d": None}, "d is None"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"metadata": []}, "metadata is"),
    ],
)
def test_bad_manifest(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_folder(tmp_path)
    edit_manifest(tmp_path, **changes)
    with pytest.raises(ValueError, match=message):
        Activations.open(tmp_path)


def test_no_manifest_and_no_json(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        Activations.open(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="finished writing"):
        Activations.open(tmp_path)


def test_as_float32_of_every_stored_dtype() -> None:
    values = np.array([[1.0, -2.5], [0.0, 3.0e38]], np.float32)
    truncated = (values.view(np.uint32) >> 16).astype(np.uint16)
    back = as_float32(truncated.view("V2"))
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, values, rtol=2**-7)
    np.testing.assert_array_equal(back[0], values[0])
    np.testing.assert_array_equal(as_float32(values[:1].astype(np.float16)), values[:1])
    assert as_float32(values) is values


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ({}, {}, "rows: got no layer"),
        ({0: np.zeros((3, 2))}, {}, r"rows\[0\]: shape \(3, 2\).*N = 2"),
        ({0: np.zeros(2)}, {}, r"rows\[0\]: shape \(2,\)"),
        ({0: np.zeros((2, 2)), 1: np.zeros((2, 3))}, {}, r"rows\[1\]: shape \(2, 3\)"),
        ({0: np.zeros((2, 2))}, {}, "dtype float64, expected one of float32"),
        ({0: np.zeros((2, 2), "f4")}, {"token_ids": [0.5, 1.0]}, "token_ids: .*float64"),
        ({0: np.zeros((2, 2), "f4")}, {"positions": [1]}, "positions: 1 values, expected 2"),
        ({0: np.zeros((2, 2), "f4")}, {"sequence": [[1, 1]]}, "sequence: shape"),
    ],
)
def test_bad_arguments(rows: dict[int, np.ndarray], more: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Activations(rows, **{"token_ids": [1, 2], **more})  # type: ignore[arg-type]


def test_unknown_positions_are_an_attribute_error() -> None:
    acts = Activations({0: np.zeros((2, 2), np.float32)}, token_ids=[1, 2])
    with pytest.raises(AttributeError, match="positions: these activations were made without"):
        _ = acts.positions


def test_pairs() -> None:
    def acts(tokens: list[int], positions: list[int] | None = None) -> Activations:
        rows = np.zeros((len(tokens), 2), np.float32)
        return Activations({0: rows}, token_ids=tokens, positions=positions)

    check_paired(acts([1, 2, 3]), acts([1, 2, 3], [0, 1, 2]))
    check_paired(acts([1, 2]), np.array([1, 2], np.int64))
    with pytest.raises(ValueError, match=r"b: token id 9 in row 2, expected 3 as in a"):
        check_paired(acts([1, 2, 3]), acts([1, 2, 9, 4]))
    with pytest.raises(ValueError, match=r"b: 2 rows, expected 3 as in a"):
        check_paired(acts([1, 2, 3]), acts([1, 2]))
    with pytest.raises(ValueError, match=r"b: position 5 in row 1, expected 1 as in a"):
        check_paired(acts([1, 2], [0, 1]), acts([1, 2], [0, 5]))
    with pytest.raises(ValueError, match=r"a: .*float64.*expected one-dimensional integers"):
        check_paired([0.5], [1])


def test_a_folder_of_version_2(tmp_path: Path) -> None:
    write_folder(tmp_path)
    text, ends = np.array([0, 0, 0, 2, 2], np.int32), np.array([1, 3, -1, 2, 9], np.int64)
    generated = ends > 2
    for name, values in (("text", text), ("ends", ends), ("generated", generated)):
        (tmp_path / name).mkdir()
        for number, block in enumerate(np.split(values, [3])):
            np.save(tmp_path / name / f"{number:05d}.npy", block)
    index = ["token_ids", "positions", "sequence", "text", "ends", "generated"]
    edit_manifest(tmp_path, version=2, index=index)
    acts = Activations.open(tmp_path)
    assert acts.index == tuple(index)
    np.testing.assert_array_equal(acts.text, text)
    np.testing.assert_array_equal(acts.ends, ends)
    assert acts.ends.dtype == np.int64
    np.testing.assert_array_equal(acts.generated, generated)
    with pytest.raises(AttributeError, match="begins: these activations were made without it"):
        _ = acts.begins
    # Means of texts, not of sequences: text 1 has no token.
    with pytest.raises(ValueError, match="1"):
        suture.pool(acts.shards(3))
    np.save(tmp_path / "ends" / "00001.npy", ends[:1])
    with pytest.raises(ValueError, match="int64 of shape"):
        Activations.open(tmp_path)
    edit_manifest(tmp_path, index=["token_ids"])
    with pytest.raises(ValueError, match="index is"):
        Activations.open(tmp_path)


def test_a_folder_of_version_1_knows_no_texts(tmp_path: Path) -> None:
    write_folder(tmp_path)
    acts = Activations.open(tmp_path)
    assert acts.index == ("token_ids", "positions", "sequence")
    with pytest.raises(AttributeError, match="text: these activations were made without"):
        _ = acts.text


def aligned(
    ends: list[int], text: list[int] | None = None, starts: list[int] | None = None, shift: int = 0
) -> Activations:
    rows = np.arange(len(ends) * 3, dtype=np.float32).reshape(-1, 3)
    return Activations(
        {4: rows},
        token_ids=[end + shift for end in ends],
        text=[0] * len(ends) if text is None else text,
        ends=ends,
        begins=[end - 1 for end in ends],
        starts=[0] * len(ends) if starts is None else starts,
    )


def test_pairs_by_text_and_end() -> None:
    a = aligned([2, 5, -1, 9, 3, 4], [0, 0, 0, 0, 1, 1])
    b = aligned([1, 2, 5, 9, 4, 4], [0, 0, 0, 0, 1, 2], shift=100)
    pairing = a.pairs_with(b)
    assert pairing.rows_a.tolist() == [0, 1, 3, 5]
    assert pairing.rows_b.tolist() == [1, 2, 3, 4]
    assert (pairing.kept_a, pairing.kept_b) == (4 / 6, 4 / 6)
    assert pairing.one_to_one == 1.0
    moments = suture.Moments(a, b, pairs=pairing)
    assert moments.tokens == 4
    np.testing.assert_allclose(moments.mean_a, a[4][pairing.rows_a].mean(0))
    with pytest.raises(ValueError, match=r"acts_a\.pairs_with\(acts_b\)"):
        suture.Moments(a, b)


def test_ends_in_unlike_windows_are_apart() -> None:
    a = aligned([2, 5, 7, 9], starts=[0, 0, 5, 5])
    b = aligned([2, 5, 7, 9], starts=[0, 0, 0, 7], shift=1)
    pairing = a.pairs_with(b)
    assert pairing.rows_a.tolist() == [0, 1]
    assert pairing.apart == 2
    assert "2 more ends in unlike windows" in str(pairing)


def test_equal_tokens_are_the_identity() -> None:
    a, b = aligned([2, -1, -1, 5]), aligned([2, -1, -1, 5])
    assert a.pairs_with(b).rows_a.tolist() == [0, 1, 2, 3]
    check_paired(a, b)
    assert suture.Moments(a, b).tokens == 4


def test_activations_are_freed_at_once() -> None:
    acts = aligned([1, 2])
    gone = weakref.ref(acts)
    shards = acts.shards(4)
    del acts
    assert gone() is shards.activations
    del shards
    assert gone() is None


def test_module_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import suture; suture.Activations"
    subprocess.run([sys.executable, "-c", code], check=True)

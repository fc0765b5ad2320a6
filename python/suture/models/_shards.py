# SPDX-License-Identifier: Apache-2.0
"""Writing a folder of activations so that it is either complete or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .._folders import (
    FORMAT,
    FORMAT_VERSION,
    INDEX_TYPES,
    MANIFEST,
    STORED_DTYPES,
    layer_name,
    load_shard,
    read_manifest,
    shard_path,
)

SHARD_BYTES = 128 << 20


class _Stream:
    """One array of known length, written in order into shards of known sizes."""

    def __init__(
        self, folder: Path, name: str, shards: Sequence[int], dtype: str, tail: tuple[int, ...]
    ) -> None:
        self._folder, self._name, self._shards = folder, name, shards
        self._dtype, self._tail, self._itemsize = dtype, tail, np.dtype(dtype).itemsize
        self._number, self._left = 0, 0
        self.missing = sum(shards)
        self._file: IO[bytes] | None = None
        (folder / name).mkdir()

    def append(self, rows: npt.NDArray[Any]) -> None:
        if rows.shape[1:] != self._tail or rows.dtype.itemsize != self._itemsize:
            raise ValueError(
                f"{self._name}: rows of shape {rows.shape} and {rows.dtype.itemsize} bytes a "
                f"value, expected (n, {', '.join(map(str, self._tail))}) and {self._itemsize}"
            )
        if len(rows) > self.missing:
            raise ValueError(f"{self._name}: {len(rows)} rows more, expected {self.missing}")
        self.missing -= len(rows)
        start = 0
        while start < len(rows):
            if self._file is None:
                self._left = self._shards[self._number]
                self._file = shard_path(self._folder, self._name, self._number).open("wb")
                np.lib.format.write_array_header_1_0(
                    self._file,
                    {
                        "descr": self._dtype,
                        "fortran_order": False,
                        "shape": (self._left, *self._tail),
                    },
                )
            take = min(self._left, len(rows) - start)
            self._file.write(np.ascontiguousarray(rows[start : start + take]).tobytes())
            start += take
            self._left -= take
            if self._left == 0:
                _sync(self._file)
                self._file.close()
                self._file = None
                self._number += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class ShardWriter:
    """Takes rows of all layers in order, then what is known of each; `finish` must be reached for
    the folder to count."""

    def __init__(
        self, folder: Path, *, rows: int, d: int, dtype: str, layers: Sequence[int]
    ) -> None:
        self.folder = folder
        self._d, self._dtype = d, dtype
        self._shards = self._sizes(rows)
        self._layers = {
            layer: self._stream(layer_name(layer), self._shards) for layer in sorted(layers)
        }
        self._header: dict[str, Any] = {}

    def _sizes(self, rows: int) -> list[int]:
        size = max(1, SHARD_BYTES // (self._d * STORED_DTYPES[self._dtype].itemsize))
        return [min(size, rows - start) for start in range(0, rows, size)]

    def _stream(self, name: str, shards: Sequence[int]) -> _Stream:
        # np.save writes the descriptor of ml_dtypes.bfloat16 as "<V2": the same bytes here.
        descr = {"float32": "<f4", "float16": "<f2", "bfloat16": "<V2"}[self._dtype]
        return _Stream(self.folder, name, shards, descr, (self._d,))

    def write_index(self, **indices: npt.NDArray[Any]) -> None:
        for name, values in indices.items():
            dtype = INDEX_TYPES[name]
            stream = _Stream(self.folder, name, self._shards, dtype.str, ())
            stream.append(values.astype(dtype))
            stream.close()
        self._header["index"] = list(indices)

    def append(self, layer: int, rows: npt.NDArray[Any]) -> None:
        self._layers[layer].append(rows)

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Writes the rows of all layers again without those that are not kept. Each old shard goes
        as soon as it is read, so that this takes little room beyond what is there."""
        shards = self._sizes(int(kept.sum()))
        for layer in self._layers:
            name = layer_name(layer)
            stream = self._layers[layer] = self._stream(f"{name}.kept", shards)
            start = 0
            for number, rows in enumerate(self._shards):
                path = shard_path(self.folder, name, number)
                stream.append(load_shard(path)[kept[start : start + rows]])
                path.unlink()
                start += rows
            (self.folder / name).rmdir()
            os.replace(self.folder / f"{name}.kept", self.folder / name)
        self._shards = shards

    def finish(self, metadata: Mapping[str, Any]) -> None:
        for layer, stream in self._layers.items():
            if stream.missing:
                raise ValueError(
                    f"layer {layer}: {stream.missing} rows were not written, expected none"
                )
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "layers": list(self._layers),
            "dtype": self._dtype,
            "d": self._d,
            "rows": sum(self._shards),
            **self._header,
            "shards": self._shards,
            "metadata": dict(metadata),
        }
        draft = self.folder / (MANIFEST + ".draft")
        with draft.open("wb") as file:
            file.write(json.dumps(manifest, indent=1).encode())
            _sync(file)
        os.replace(draft, self.folder / MANIFEST)

    def close(self) -> None:
        for stream in self._layers.values():
            stream.close()


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out` that becomes `out` on success and vanishes on any error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(out)
    scratch = out.parent / f".{out.name}.partial-{os.getpid()}"
    scratch.mkdir()
    old = out.parent / f".{out.name}.replaced-{os.getpid()}"
    try:
        yield scratch
        if out.exists():
            os.replace(out, old)
        os.replace(scratch, out)
    except BaseException:
        if old.exists() and not out.exists():
            os.replace(old, out)
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(out: Path) -> None:
    """Scratch folders of processes that were killed; those of live processes stay."""
    for folder in out.parent.glob(f".{out.name}.partial-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdigit() and int(pid) != os.getpid():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                pass


def find_reusable(out: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether `out` already holds what `settings` would extract.

    Raises:
        FileExistsError: `out` holds something else, named, and may not be overwritten.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    manifest = out / MANIFEST
    if not manifest.is_file() or FORMAT.encode() not in manifest.read_bytes():
        raise FileExistsError(
            f"out: {out} exists and holds no activations, expected a new or empty folder "
            "(it is not removed, not even with overwrite=True)"
        )
    if overwrite:
        return False
    found = read_manifest(out)["metadata"].get("settings")
    found = found if isinstance(found, dict) else {}
    wanted = json.loads(json.dumps(settings))
    differences = [
        f"{key} is {found.get(key)!r} there and {value!r} here"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if differences:
        raise FileExistsError(
            f"out: {out} holds activations of another extraction ({'; '.join(differences)}), "
            "expected the same settings, another folder, or overwrite=True"
        )
    return True


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())

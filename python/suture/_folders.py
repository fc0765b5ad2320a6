# SPDX-License-Identifier: Apache-2.0
"""Folders of activations: their names, and what is checked when one is opened."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "suture-activations"
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
# What is known of each row; a folder has the first three and, since version 2, says which others.
INDEX_TYPES: Mapping[str, np.dtype[Any]] = {
    "token_ids": np.dtype("<i4"),
    "positions": np.dtype("<i4"),
    "sequence": np.dtype("<i4"),
    "text": np.dtype("<i4"),
    "begins": np.dtype("<i8"),
    "ends": np.dtype("<i8"),
    "starts": np.dtype("<i8"),
    "generated": np.dtype("?"),
}
FIRST_INDEX = ("token_ids", "positions", "sequence")
# numpy has no bfloat16: np.save of an ml_dtypes.bfloat16 array writes 2-byte voids, and so do we.
STORED_DTYPES: Mapping[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("V2"),
}


def layer_name(layer: int) -> str:
    """Name of a layer's folder: `layer_03`."""
    return f"layer_{layer:02d}"


def shard_path(folder: Path, stream: str, number: int) -> Path:
    """Path of one shard of a stream (`layer_03`, `token_ids`, ...)."""
    return folder / stream / f"{number:05d}.npy"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The checked manifest of a folder of activations."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"folder: {folder} has no {MANIFEST}, expected a folder that an extraction "
            "finished writing"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path}: not a manifest of activations, expected format {FORMAT!r}")
    version = manifest.get("version")
    if version not in range(1, FORMAT_VERSION + 1) or isinstance(version, bool):
        raise ValueError(f"{path}: format version {version!r}, expected 1 to {FORMAT_VERSION}")
    index = manifest.setdefault("index", list(FIRST_INDEX))
    shards, layers = manifest.get("shards"), manifest.get("layers")
    checks = {
        "layers": _whole_numbers(layers, 0),
        "shards": _whole_numbers(shards, 1),
        "d": _whole_numbers([manifest.get("d")], 1),
        "dtype": manifest.get("dtype") in STORED_DTYPES,
        "index": isinstance(index, list)
        and set(FIRST_INDEX) <= {str(name) for name in index}
        and all(isinstance(name, str) and name in INDEX_TYPES for name in index),
        "metadata": isinstance(manifest.get("metadata"), dict),
    }
    for key, sound in checks.items():
        if not sound:
            raise ValueError(f"{path}: {key} is {manifest.get(key)!r}, which is not valid")
    return manifest


def _whole_numbers(values: Any, least: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) > 0
        and all(type(value) is int and value >= least for value in values)
    )


def check_shard(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"npy version {version}, expected (1, 0)")
            found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the shard is missing") from None
    except ValueError as error:
        raise OSError(f"{path}: no readable .npy header ({error}): cut short or damaged") from None
    if (found_shape, fortran, found_dtype) != (shape, False, dtype):
        raise ValueError(
            f"{path}: {found_dtype} of shape {found_shape}, expected {dtype} of shape {shape}"
        )
    expected = offset + math.prod(shape) * dtype.itemsize
    size = path.stat().st_size
    if size != expected:
        raise OSError(f"{path}: {size} bytes, expected {expected}: the shard is cut short")


def load_shard(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the shard is missing") from None
    except ValueError as error:
        raise OSError(f"{path}: cannot be mapped ({error}): cut short or damaged") from None

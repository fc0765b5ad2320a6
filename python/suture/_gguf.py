# SPDX-License-Identifier: Apache-2.0
"""Control vectors of llama.cpp: GGUF files that hold one direction for some layers.

llama.cpp adds the tensor `direction.k` to the output of block k, at every position, times the scale
on its command line: each model's graph adds feed-forward and residual, then calls `build_cvec(cur,
il)`, and names what comes out `l_out`. That is the residual stream before block k + 1, so our layer
l is `direction.{l - 1}`; llama.cpp has none for block 0, so layers 0 and 1 cannot be said. As it
only adds, the tensor is `z_mean · v`, what `mode="add"` adds at strength 1. Repeng counts the same
way.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._extras import needs
from .site import Site

_ARCHITECTURE = "controlvector"
_METADATA = "suture.metadata"
FIRST_LAYER = 2

Float32 = npt.NDArray[np.float32]


def is_gguf(path: str) -> bool:
    """Whether a file begins as GGUF files do."""
    with open(path, "rb") as file:
        return file.read(4) == b"GGUF"


def save(
    path: str, vector: Float32, z_mean: float, layer: int | None, metadata: dict[str, Any]
) -> None:
    """Writes one control vector; the file appears whole or not at all."""
    at_layer = _layer_to_write(layer, metadata)
    direction = np.asarray(np.asarray(vector, np.float64) * z_mean, np.float32)
    if not direction.any() or not np.isfinite(direction).all():
        raise ValueError(
            f"z_mean is {z_mean}, expected one with which z_mean · vector is finite and not zero "
            "in float32: that product is what a control vector holds"
        )
    with needs("gguf"):
        from gguf import GGUFWriter
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        writer = GGUFWriter(partial, _ARCHITECTURE)
        hint = metadata.get("model_hint") or metadata.get("model_name") or ""
        writer.add_string(f"{_ARCHITECTURE}.model_hint", str(hint))
        # The number of directions, as in the files of llama.cpp and repeng, which do not read it.
        writer.add_uint32(f"{_ARCHITECTURE}.layer_count", 1)
        writer.add_string(_METADATA, json.dumps(metadata))
        writer.add_tensor(f"direction.{at_layer - 1}", direction)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        reason = f"path is {path!r}, which cannot be written: {error.strerror}"
        raise type(error)(error.errno, reason) from None
    finally:
        partial.unlink(missing_ok=True)


def load(path: str, layer: int | None) -> tuple[Float32, float, dict[str, Any]]:
    """Unit vector, z_mean and metadata of one direction in a file of any writer."""
    with needs("gguf"):
        from gguf import GGUFReader
    try:
        reader = GGUFReader(path)
        architecture = _text(reader, "general.architecture")
        hint = _text(reader, f"{_ARCHITECTURE}.model_hint")
        known = json.loads(_text(reader, _METADATA) or "{}")
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    except OSError:
        raise
    except Exception as error:
        # What a damaged file makes the reader raise is of many kinds.
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if architecture != _ARCHITECTURE or not isinstance(known, dict):
        raise _damaged(path, f"its architecture is {architecture!r}")
    directions = _directions(path, tensors)
    if layer is None:
        if len(directions) != 1:
            raise ValueError(
                f"layer is None, expected one of {sorted(directions)}: {path} holds directions for "
                "these layers"
            )
        (layer,) = directions
    if layer not in directions:
        raise ValueError(f"layer is {layer}, expected one of {sorted(directions)} in {path}")
    direction = directions[layer].astype(np.float64)
    size = float(np.linalg.norm(direction))
    if not np.isfinite(size) or size == 0:
        raise _damaged(path, f"direction.{layer - 1} is zero or not finite")
    # The file's own layer rules; other names of the stream may be of where the vector was found.
    for key in ("hf_hook_name", "hookpoint", "hook_point", "hook_layer"):
        known.pop(key, None)
    known |= Site(layer=layer).metadata
    if hint:
        known["model_hint"] = hint
    return (direction / size).astype(np.float32), size, known


def _layer_to_write(layer: int | None, metadata: dict[str, Any]) -> int:
    if layer is None:
        site = Site.of(metadata)
        if site.stream != "resid_pre":
            raise ValueError(
                f"metadata say that it comes from {site.stream!r}, expected the residual stream, "
                "to which a control vector is added; layer overrules them"
            )
        if site.layer is None:
            raise ValueError(
                "layer is None and metadata has no hook_name, such as "
                "'blocks.{layer}.hook_resid_pre', expected one of them: a control vector says "
                "where it acts"
            )
        layer = site.layer
    if layer < FIRST_LAYER:
        raise _core.UnsupportedError(
            f"layer is {layer}, expected at least {FIRST_LAYER}: llama.cpp adds directions to the "
            "outputs of blocks 1 and on, which are the residual streams before blocks 2 and on"
        )
    return layer


def _directions(path: str, tensors: dict[str, npt.NDArray[Any]]) -> dict[int, npt.NDArray[Any]]:
    """By our layer."""
    found = {}
    for name, tensor in tensors.items():
        lead, _, number = name.partition(".")
        if lead != "direction" or not number.isdecimal() or int(number) < 1:
            raise _damaged(path, f"it holds a tensor {name!r}")
        if tensor.ndim != 1 or not tensor.size or tensor.dtype.kind != "f":
            raise _damaged(
                path, f"{name} is {tensor.dtype} of shape {tensor.shape}, not a vector of floats"
            )
        found[int(number) + 1] = tensor
    if not found:
        raise _damaged(path, "it holds no direction")
    return found


def _text(reader: Any, key: str) -> str:
    field = reader.get_field(key)
    return "" if field is None else bytes(field.parts[-1]).decode("utf-8")


def _damaged(path: str, reason: str) -> _core.FormatError:
    return _core.FormatError(f"{path}: expected a whole GGUF control vector; {reason}")

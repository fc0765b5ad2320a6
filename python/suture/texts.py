# SPDX-License-Identifier: Apache-2.0
"""Reading texts from files: one document a line (JSON lines), or one a file (plain text)."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_OPENERS: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".xz": lzma.open}


Record = dict[str, Any]


def read_texts(*paths: str | os.PathLike[str]) -> list[str]:
    """Documents from files.

    ``.jsonl`` files hold one JSON object with a ``"text"`` member a line; any other file is one
    document of plain text. Either may be compressed (``.gz``, ``.xz``). UTF-8 throughout.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no JSON object with a text, or a file is cut short; names the file
            and the line.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"text": "one"}\\n{"text": "two"}\\n')
        >>> read_texts(folder / "a.jsonl")
        ['one', 'two']
    """
    return [record["text"] for record in read_records(*paths)]


def read_records(*paths: str | os.PathLike[str]) -> list[Record]:
    """Documents from files, with all that is said of each.

    As :func:`read_texts`, but gives the whole JSON object of each line: its ``"text"`` and whatever
    stands beside it, such as ``"lang"`` or ``"page"``. A plain text file has its text only.

    Raises:
        OSError: a file cannot be read.
        ValueError: a line is no JSON object with a text, or a file is cut short; names the file
            and the line.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "a.jsonl").write_text('{"text": "eins", "lang": "de"}\\n')
        >>> read_records(folder / "a.jsonl")
        [{'text': 'eins', 'lang': 'de'}]
    """
    if not paths:
        raise ValueError("paths is empty, expected at least one file")
    documents: list[Record] = []
    for path in map(Path, paths):
        opener = _OPENERS.get(path.suffix, open)
        inner = path.with_suffix("") if path.suffix in _OPENERS else path
        try:
            with opener(path, "rt", encoding="utf-8") as file:
                if inner.suffix == ".jsonl":
                    documents += [
                        _record(path, n, line) for n, line in enumerate(file, 1) if line.strip()
                    ]
                else:
                    documents.append({"text": file.read()})
        except (EOFError, lzma.LZMAError, UnicodeDecodeError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or cut short: {error}") from error
    return documents


def _record(path: Path, number: int, line: str) -> Record:
    try:
        record = json.loads(line)
        text = record["text"]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f'{path}, line {number} is {line[:60]!r}, expected a JSON object with a "text" member'
        ) from error
    if not isinstance(text, str):
        raise ValueError(f'{path}, line {number}: "text" is {text!r}, expected a string')
    return dict(record)

# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: settings, history, checkpoints."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from . import _core

Row = dict[str, Any]

SETTINGS = "run.json"
HISTORY = "history.jsonl"
FORMAT = 1


class RunFolder:
    """run.json (what `train` was asked for), history.jsonl (a row a line) and checkpoint-…: the
    last two."""

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None

    @staticmethod
    def create(path: Path, settings: dict[str, Any]) -> RunFolder:
        """A new one.

        Raises:
            FileExistsError: there are files already.
        """
        refuse_files(path)
        path.mkdir(parents=True, exist_ok=True)
        _write(path / SETTINGS, json.dumps({"format": FORMAT, **settings}, indent=2) + "\n")
        _write(path / HISTORY, "")
        return RunFolder(path)

    def settings(self) -> dict[str, Any]:
        file = self.path / SETTINGS
        try:
            settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise _core.FormatError(f"{file} is damaged: {error}") from None
        if not isinstance(settings, dict) or settings.get("format") != FORMAT:
            raise _core.FormatError(f"{file} is not the settings of a run, or of a later version")
        return settings

    def history(self, steps: int) -> list[Row]:
        """Rows up to a step; later ones are removed from the file."""
        file = self.path / HISTORY
        rows: list[Row] = []
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["steps"] > steps:
                    break
            except (ValueError, TypeError, KeyError):
                # The end of a line that a kill cut off.
                break
            rows.append({name: math.nan if value is None else value for name, value in row.items()})
        _write(file, "".join(map(_line, rows)))
        return rows

    def add(self, row: Row) -> None:
        if self._file is None:
            self._file = (self.path / HISTORY).open("a", encoding="utf-8")
        self._file.write(_line(row))
        self._file.flush()

    def save(self, core: _core.Trainer) -> None:
        """A checkpoint; the history up to it is on the disk before."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        core.save(str(self.path))

    def checkpoints(self) -> list[str]:
        """Their names, oldest first."""
        return sorted(entry.name for entry in self.path.glob("checkpoint-" + 12 * "[0-9]"))

    def last(self) -> str | None:
        """Path of the last checkpoint."""
        names = self.checkpoints()
        return str(self.path / names[-1]) if names else None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def refuse_files(path: Path) -> None:
    """Raises FileExistsError where there is something at a path but an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(
            f"checkpoint is {str(path)!r}, which has files in it, expected a new folder; "
            "suture.resume goes on with the run of a folder"
        )


def _line(row: Row) -> str:
    # JSON has no NaN.
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
    return json.dumps(plain) + "\n"


def _write(path: Path, text: str) -> None:
    """A file that is there whole or as it was before."""
    temporary = path.with_name(f".suture-new-{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

# SPDX-License-Identifier: Apache-2.0
"""Steps of an experiment whose results are kept, so that running it again is fast."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Step:
    """A step that is done: what it found, and where it left its files."""

    name: str
    #: Fingerprint of everything the step depends on.
    key: str
    result: dict[str, Any]
    folder: Path
    #: Seconds it took when it was computed.
    seconds: float
    #: Whether it was read back instead of computed.
    cached: bool


class Steps:
    """Runs steps in a folder and keeps the result of each under its fingerprint.

    A step is computed again when its settings, or any step or file it depends on, have changed.
    One that is interrupted leaves nothing that looks complete.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[Step] = []

    def run(
        self,
        name: str,
        title: str,
        depends: dict[str, Any],
        compute: Callable[[Path], dict[str, Any]],
    ) -> Step:
        """Runs ``compute(folder)``, or reads back what it gave before.

        Args:
            name: Name of the step's folder.
            title: What is said on standard error.
            depends: Everything the result depends on, as JSON values.
            compute: Writes its files to the folder it gets and returns a JSON-able result.
        """
        key = fingerprint({"step": name, **depends})
        final = self.folder / name
        record = final / "step.json"
        stored = _read(record)
        if stored is not None and stored.get("key") == key:
            _say(f"{title}: done before ({stored['seconds']:.1f} s)")
            step = Step(name, key, stored["result"], final, stored["seconds"], cached=True)
        else:
            _say(f"{title} …")
            working = self.folder / f"{name}.partial"
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir(parents=True)
            start = time.perf_counter()
            try:
                result = compute(working)
            except BaseException:
                shutil.rmtree(working, ignore_errors=True)
                raise
            seconds = time.perf_counter() - start
            text = json.dumps({"key": key, "seconds": seconds, "result": result})
            (working / "step.json").write_text(text, encoding="utf-8")
            shutil.rmtree(final, ignore_errors=True)
            os.replace(working, final)
            _say(f"{title}: {seconds:.1f} s")
            # Read back, so that a first and a later run see the same values.
            step = Step(name, key, json.loads(text)["result"], final, seconds, cached=False)
        self.done.append(step)
        return step


def write_whole(path: Path, text: str) -> None:
    """Writes a text file that is there whole or, where this is interrupted, as it was before."""
    working = path.with_name(f"{path.name}.partial")
    working.write_text(text, encoding="utf-8")
    os.replace(working, path)


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_files(paths: list[Path]) -> str:
    """SHA-256 over names and contents of files; folders stand for the files directly in them."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

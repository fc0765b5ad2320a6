# SPDX-License-Identifier: Apache-2.0
"""Metadata of stitches and SAEs: a dict in Python, JSON in the core and in files."""

from __future__ import annotations

import json
from typing import Any, Protocol


class Described(Protocol):
    """A handle with metadata."""

    def metadata(self) -> str: ...
    def set_metadata(self, json: str, /) -> None: ...


class Metadata:
    """The metadata of one handle.

    The dict is the user's to change at any time, so it is compared with what the core knows
    whenever the core needs it: before a transfer, a fold or a save.
    """

    def __init__(self, core: Described, extra: dict[str, Any] | None = None) -> None:
        self._core = core
        self.values: dict[str, Any] = json.loads(core.metadata() or "{}")
        self._known = to_json(self.values)
        if extra is not None:
            to_json(extra)
            self.values |= extra
            self.tell_core()

    def replace(self, values: dict[str, Any]) -> None:
        to_json(values)
        self.values = values

    def tell_core(self) -> None:
        text = to_json(self.values)
        if text != self._known:
            self._core.set_metadata(text)
            self._known = text


def to_json(metadata: Any) -> str:
    """JSON text of a metadata dict."""
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata is a {type(metadata).__name__}, expected a dict")
    for key in metadata:
        if not isinstance(key, str):
            raise TypeError(f"metadata has the key {key!r}, expected strings")
    try:
        return json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"metadata is {metadata!r}, expected JSON values: {error}") from None

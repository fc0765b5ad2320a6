# SPDX-License-Identifier: Apache-2.0
"""Progress bars of the functions that run a model."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def progress_bar(total: int, name: str, progress: bool | None) -> Any:
    """A tqdm bar on stderr; with progress None it appears when two seconds have passed."""
    return tqdm(
        total=total,
        desc=name,
        unit="seq",
        disable=progress is False,
        delay=0 if progress else 2,
        leave=bool(progress),
    )

# SPDX-License-Identifier: Apache-2.0
"""Figures of section 3's transfer without training."""

from __future__ import annotations

from typing import Any

from suture.report import figures


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Table 2 as bars."""
    return {"Table 2": figures.transfer(result["rows"])}

# SPDX-License-Identifier: Apache-2.0
"""Figures of section 3.1."""

from __future__ import annotations

from typing import Any

import matplotlib

from suture.report.drawing import STYLE
from suture.savings import figures


def draw(result: dict[str, Any]) -> dict[str, str]:
    """Fig. 1c, 2a and 2b."""
    with matplotlib.rc_context(STYLE):
        return {
            "Fig. 1c, Table 4": figures.frontier(result),
            "Fig. 2a": figures.thresholds(result),
            "Fig. 2b": figures.cosine(result),
        }

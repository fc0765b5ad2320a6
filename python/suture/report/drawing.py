# SPDX-License-Identifier: Apache-2.0
"""What all figures share: colours, type, and how one becomes an SVG element."""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.figure import Figure

INK = "#1d2733"
MUTED = "#8a97a6"
BLUE = "#2f6fab"
TEAL = "#2a9d8f"
AMBER = "#e09f3e"
GREY = "#b8c2cc"

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "suture",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 11,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def figure(height: float) -> Figure:
    """An empty figure of the page's width."""
    # Narrow enough that its text is still readable when a phone scales it down.
    return Figure(figsize=(5.4, height), layout="constrained")


def svg(drawing: Figure, description: str) -> str:
    """The figure as one SVG element, text as text."""
    buffer = io.StringIO()
    drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The page decides the width; the view box keeps the proportions.
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)

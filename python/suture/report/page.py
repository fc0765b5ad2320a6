# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs nothing else: styles and figures are inside."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from suture.report import figures, verdicts


def render(results: dict[str, Any]) -> str:
    """The HTML page for the content of ``report.json``."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["count"] = _count
    template = resources.files("suture.report").joinpath("page.html.j2").read_text("utf-8")
    drawn = {
        "svcca": figures.svcca_grid(results["svcca"]),
        "losses": figures.losses(results["table1"]),
        "transfer": figures.transfer(results["table2"]),
        "objective": figures.objective(results["stitch"]),
        "training": figures.training(results["training"]),
    }
    return environment.from_string(template).render(
        r=results,
        figure={name: Markup(svg) for name, svg in drawn.items()},
        verdict=results["verdicts"],
    )


def add_verdicts(results: dict[str, Any]) -> None:
    """Adds the sentences under the figures to the results."""
    results["verdicts"] = {
        "svcca": verdicts.svcca(results["svcca"]),
        "losses": verdicts.losses(results["table1"]),
        "transfer": verdicts.transfer(results["table2"]),
        "objective": verdicts.objective(results["stitch"]),
        "training": verdicts.training(results["training"], results["table2"][0]),
    }


def _count(value: float) -> str:
    """12345 as "12,345"; millions as "1.2M"."""
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value:,.0f}"

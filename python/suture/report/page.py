# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs nothing else: styles and figures are inside."""

from __future__ import annotations

from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from suture.report import figures, verdicts


def render(
    results: dict[str, Any], more: str | None = None, drawn: dict[str, str] | None = None
) -> str:
    """The HTML page for the content of ``report.json``.

    Args:
        results: that content, verdicts added.
        more: a template that extends ``page.html.j2``, with its own block ``more``.
        drawn: figures for it, SVG by name.
    """
    svgs = {
        "svcca": figures.svcca_grid(results["svcca"]),
        "losses": figures.losses(results["table1"]),
        "transfer": figures.transfer(results["table2"]),
        "objective": figures.objective(results["stitch"]),
        "stitches": figures.stitches(results["stitches"]),
        "training": figures.training(results["training"]),
    } | (drawn or {})
    if "table2_b" in results:
        svgs["transfer_b"] = figures.transfer(results["table2_b"])
    templates = environment()
    template = templates.get_template("page.html.j2")
    if more is not None:
        template = templates.from_string(more)
    return template.render(
        r=results,
        figure={name: Markup(svg) for name, svg in svgs.items()},
        verdict=results["verdicts"],
    )


def environment(*packages: str) -> Environment:
    """Templates of this package, and of others whose pages are built on ``base.html.j2``."""
    loaders: list[BaseLoader] = [PackageLoader(name, ".") for name in (*packages, "suture.report")]
    found = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found.filters["count"] = _count
    return found


def add_verdicts(results: dict[str, Any]) -> None:
    """Adds the sentences under the figures to the results."""
    results["verdicts"] = {
        "svcca": verdicts.svcca(results["svcca"]),
        "losses": verdicts.losses(results["table1"]),
        "transfer": verdicts.transfer(results["table2"]),
        "features": verdicts.features(results["features"], "A", "B"),
        "objective": verdicts.objective(results["stitch"]),
        "training": verdicts.training(results["training"], results["table2"][0]),
        "stitches": verdicts.stitches(results["stitches"]),
    }
    if "table2_b" in results:
        results["verdicts"]["transfer_b"] = verdicts.transfer(results["table2_b"])
        results["verdicts"]["features_b"] = verdicts.features(results["features_b"], "B", "A")


def _count(value: float) -> str:
    """12345 as "12,345"; millions as "1.2M"."""
    return f"{value / 1e6:.2f}M" if value >= 1e6 else f"{value:,.0f}"

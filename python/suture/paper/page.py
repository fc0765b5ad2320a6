# SPDX-License-Identifier: Apache-2.0
"""The report on all experiments as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from suture.analysis.pages import visible
from suture.report.page import environment

#: What a verdict is called on the page.
WORDS = {"reproduced": "reproduced here", "partly": "reproduced in part", "differs": "differs here"}


def render(results: dict[str, Any], drawn: dict[str, dict[str, str]]) -> str:
    """The HTML page for the content of ``paper.json``.

    Args:
        results: what :func:`suture.paper.write` returns.
        drawn: figures of each experiment, SVG by the figure's name in the paper.
    """
    chapters = []
    for found in results["experiments"]:
        figures = dict(drawn[found["name"]])
        parts = [
            finding | {"svg": Markup(figures.pop(finding["figure"], ""))}
            for finding in found["findings"]
        ]
        remarks = found["remarks"]
        more = [
            {"figure": name, "svg": Markup(svg), "text": remarks.get(name, "")}
            for name, svg in figures.items()
        ]
        chapters.append(found | {"findings": parts, "more": more})
    findings = [finding for found in results["experiments"] for finding in found["findings"]]
    counts = {word: sum(f["verdict"] == word for f in findings) for word in WORDS}
    pages = environment("suture.paper")
    pages.filters["visible"] = visible
    template = pages.get_template("paper.html.j2")
    return template.render(r=results, chapters=chapters, words=WORDS, counts=counts)

# SPDX-License-Identifier: Apache-2.0
"""A report on any pair of language models: how well linear features cross from one to the other.

Needs the extras ``models`` and ``report`` (torch, transformers, matplotlib, jinja2).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suture._extras import needs
from suture.report.pipeline import Experiment, dump
from suture.report.settings import Settings

__all__ = ["Settings", "write"]


def write(
    model_a: str | os.PathLike[str],
    model_b: str | os.PathLike[str],
    texts: Sequence[str | os.PathLike[str]],
    held_out: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Runs the main experiment on a pair of models and writes ``report.html`` and ``report.json``.

    Extracts activations of both models, picks the layer pair by SVCCA, fits the stitch, trains a
    TopK SAE on A, transfers it to B, and evaluates all of it on held-out text (arXiv 2506.06609,
    Tables 1 and 2). Steps that are done are kept in ``out/work``, so a second run is fast.

    Args:
        model_a: Folder of a Hugging Face model, usually the smaller one.
        model_b: Folder of the other one. Where its tokenizer is another, rows are paired where
            tokens of both end at the same place of the text.
        texts: Files of documents to fit and train on (see :func:`suture.texts.read_texts`).
        held_out: Files of documents to evaluate on.
        out: Folder of the report; made if it is not there.
        settings: Token counts, layers, sizes; see :class:`Settings`.
        progress: Show progress bars on standard error.

    Returns:
        The content of ``report.json``.

    Raises:
        ValueError: a path is not what it should be, or the models share no tokens' ends.
        ImportError: torch, transformers, matplotlib or jinja2 is missing.

    Example:
        >>> results = write("small", "large", ["t.jsonl"], ["h.jsonl"], "out")
        Traceback (most recent call last):
            ...
        ValueError: model_a is 'small', expected a folder that transformers' save_pretrained() ...
    """
    with needs("models,report"):
        from suture.report import page
    experiment = Experiment(
        model_a, model_b, texts, held_out, out, settings or Settings(), progress
    )
    results = experiment.run()
    page.add_verdicts(results)
    folder = Path(out)
    dump(results, folder / "report.json")
    (folder / "report.html").write_text(page.render(results), encoding="utf-8")
    print(f"Report: {folder / 'report.html'}", file=sys.stderr)
    return results

# SPDX-License-Identifier: Apache-2.0
"""What a transferred start saves: SAEs trained on a model from random and from transferred starts.

Needs the extras ``models`` and ``report`` (torch, transformers, matplotlib).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import suture
from suture._extras import needs
from suture.report.pipeline import dump
from suture.savings import results
from suture.savings.pipeline import Savings
from suture.savings.settings import Settings

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
    """Trains TopK SAEs on B from several starts and compares what they cost (arXiv 2506.06609,
    §3.1, Fig. 1c, 2a, 2b and Table 4); writes ``savings.json`` and figures.

    The starts: random; a SAE of the same size on A, transferred; the same with its decoder solved
    anew, or its encoder tied to that as well; and one carried by pairs of rows. Costs are
    dense-equivalent operations of training as the paper counts them, and all that the start took:
    running A on its tokens, moments, fit, transfer, refit, or the steps of :func:`suture.carry`.
    Along each run :class:`suture.Fidelity` says whether latents still are those of A. So there are
    two answers: the cheapest way to an explained variance, and the cheapest to one with A's
    features. Runs that are done are kept in ``out/work``, so an interrupted experiment goes on.

    Args:
        model_a: Folder of a Hugging Face model, usually the smaller one.
        model_b: Folder of the other one. Where its tokenizer is another, rows are paired where
            tokens of both end at the same place of the text.
        texts: Files of documents to fit and train on (see :func:`suture.texts.read_texts`).
        held_out: Files of documents to judge by.
        out: Folder of the results; made if it is not there.
        settings: Widths, token counts, rates; see :class:`Settings`.
        progress: Show progress bars on standard error.

    Returns:
        The content of ``savings.json``.

    Raises:
        ValueError: a path is not what it should be, or the models share no tokens' ends.
        ImportError: torch, transformers or matplotlib is missing.

    Example:
        >>> found = write("small", "large", ["t.jsonl"], ["h.jsonl"], "out")
        Traceback (most recent call last):
            ...
        ValueError: model_a is 'small', expected a folder that transformers' save_pretrained() ...
    """
    with needs("models,report"):
        from suture.savings import figures
    experiment = Savings(model_a, model_b, texts, held_out, out, settings or Settings(), progress)
    experiment.prepare()
    found = measure(experiment)
    folder = Path(out)
    dump(found, folder / "savings.json")
    for name, svg in figures.draw(found).items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    print(f"Results: {folder / 'savings.json'}", file=sys.stderr)
    return found


def measure(experiment: Savings) -> dict[str, Any]:
    """Runs all trainings of a prepared experiment that are not done yet and gathers
    ``savings.json``'s content."""
    start = time.perf_counter()
    rates = results.rates(experiment.sweep())
    runs = experiment.runs(rates["lrs"])
    widest = experiment.check_widest(rates["lrs"]["random"])
    steps = {step.name: step for step in experiment.steps.done}
    return {
        "suture": suture.__version__,
        "machine": asdict(suture.cpu_info()),
        "settings": asdict(experiment.settings),
        "models": experiment.models.result,
        "layers": [experiment.svcca.result[f"layer_{name}"] for name in "ab"],
        "tokens": {
            "train": experiment.train_rows.result["tokens"],
            "held_out": experiment.held_rows.result["tokens"],
        },
        "stitch": {
            "costs": experiment.stitch_costs(),
            "held_out": experiment.stitch.result["held_out"],
        },
        "rates": rates,
        "rates_widest": [{"lr": run["lr"], "end": run["curve"]["held_out"][-1]} for run in widest],
        "summary": results.summary(runs),
        "headline": results.headline(runs),
        "answers": results.answers(runs),
        "thresholds": results.thresholds(runs),
        "lines": results.lines(runs),
        "curves": results.medians(runs),
        "sae_on_a": [
            {"d_sae": run["d_sae"], "seed": run["seed"]} | run["sae_on_a"]
            for run in runs
            if run["arm"] == "transferred"
        ],
        "seconds": sum(step.seconds for step in steps.values()),
        "seconds_now": time.perf_counter() - start,
    }

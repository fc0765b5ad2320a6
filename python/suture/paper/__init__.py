# SPDX-License-Identifier: Apache-2.0
"""The experiments of the paper (arXiv 2506.06609, sections 2 to 5) on any pair of language models.

:func:`run` runs one of them, :func:`write` all, into one report with a figure for each of the
paper's, its own numbers, and a plain verdict. Needs the extra ``paper``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import suture
from suture._extras import needs
from suture.paper.experiments import EXPERIMENTS, draw, experiment
from suture.paper.finding import Finding

if TYPE_CHECKING:
    from suture.paper.ground import Ground
    from suture.report.settings import Settings

__all__ = ["EXPERIMENTS", "Finding", "run", "write"]

#: Experiments that a pair of models or its texts do not allow are left out of the report.
LEFT_OUT = (ValueError, suture.UnsupportedError)


def run(
    name: str,
    model_a: str | os.PathLike[str],
    model_b: str | os.PathLike[str],
    texts: Sequence[str | os.PathLike[str]],
    held_out: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    settings: Any = None,
    common: Settings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Runs one experiment of the paper on a pair of models; writes ``NAME.json`` and its figures.

    What it needs (activations, stitch, SAEs) is made first and kept in ``out/work``, where other
    experiments on the pair find it; so are its own costly parts, and an interrupted one goes on.

    Args:
        name: One of ``suture.paper.EXPERIMENTS``.
        model_a: Folder of a Hugging Face model, usually the smaller one.
        model_b: Folder of the other one. Where its tokenizer is another, rows are paired where
            tokens of both end at the same place of the text.
        texts: Files of documents to fit and train on (see :func:`suture.texts.read_records`);
            experiments on languages and sections need JSON lines that say ``lang`` and ``page``.
        held_out: Files of documents to judge by.
        out: Folder of the results; made if it is not there.
        settings: ``suture.paper.experiments.NAME.Settings``; None: its defaults.
        common: Token counts, layers, sizes of the SAEs; see :class:`suture.report.Settings`.
        progress: Show progress bars on standard error.

    Returns:
        "name", "title", "section", "settings", "result" (the experiment's own), "findings" (each a
        :class:`Finding` as a dict), "remarks" (on figures that the paper does not have) and
        "seconds".

    Raises:
        ValueError: a name or path is not what it should be, or the experiment is not possible with
            these models or texts.
        ImportError: a package that it needs is missing.

    Example:
        >>> run("stitching", "small", "large", ["t.jsonl"], ["h.jsonl"], "out")
        Traceback (most recent call last):
            ...
        ValueError: model_a is 'small', expected a folder that transformers' save_pretrained() ...
    """
    module = experiment(name)
    own = _checked(name, module, settings)
    found, drawn = _run(
        name, module, own, _ground(model_a, model_b, texts, held_out, out, common, progress)
    )
    _keep(Path(out), name, found, drawn)
    print(f"Results: {Path(out) / name}.json", file=sys.stderr)
    return found


def write(
    model_a: str | os.PathLike[str],
    model_b: str | os.PathLike[str],
    texts: Sequence[str | os.PathLike[str]],
    held_out: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    only: Sequence[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    common: Settings | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Runs the experiments of the paper's sections 2 to 5 on a pair of models and writes
    ``report.html`` and ``paper.json``, with ``NAME.json`` and figures of each.

    Steps that are done are kept in ``out/work``, so a second or an interrupted run goes on. An
    experiment that these models or texts do not allow (texts without languages, an architecture
    whose attention is not known) is left out, and the report says why.

    Args:
        model_a: Folder of a Hugging Face model, usually the smaller one.
        model_b: Folder of the other one. Where its tokenizer is another, rows are paired where
            tokens of both end at the same place of the text.
        texts: Files of documents to fit and train on (see :func:`suture.texts.read_records`).
        held_out: Files of documents to judge by.
        out: Folder of the report; made if it is not there.
        only: Names of experiments; None: all of ``EXPERIMENTS``.
        settings: Settings of experiments that shall not have their defaults, by name.
        common: Token counts, layers, sizes of the SAEs; see :class:`suture.report.Settings`.
        progress: Show progress bars on standard error.

    Returns:
        The content of ``paper.json``.

    Raises:
        ValueError: a name or path is not what it should be, or no experiment was possible.
        ImportError: a package that they need is missing.

    Example:
        >>> write("small", "large", ["t.jsonl"], ["h.jsonl"], "out", only=["transfer"])
        Traceback (most recent call last):
            ...
        ValueError: model_a is 'small', expected a folder that transformers' save_pretrained() ...
    """
    names = list(EXPERIMENTS if only is None else only)
    if not names:
        raise ValueError(f"only is empty, expected some of {', '.join(EXPERIMENTS)}")
    modules = {name: experiment(name) for name in names}
    given = dict(settings or {})
    if unknown := set(given) - set(names):
        raise ValueError(f"settings has {sorted(unknown)}, expected some of {', '.join(names)}")
    own = {name: _checked(name, module, given.get(name)) for name, module in modules.items()}
    ground = _ground(model_a, model_b, texts, held_out, out, common, progress)
    from suture.paper import page
    from suture.report.steps import write_whole

    start = time.perf_counter()
    # What none of the experiments can do without: an error here is the caller's to see.
    _ = ground.stitched
    done: list[dict[str, Any]] = []
    drawn: dict[str, dict[str, str]] = {}
    left_out: dict[str, str] = {}
    for place, name in enumerate(names, 1):
        _say(f"[{place}/{len(names)}] {modules[name].TITLE}")
        try:
            found, drawn[name] = _run(name, modules[name], own[name], ground)
        except LEFT_OUT as error:
            left_out[name] = str(error)
            _say(f"Left out: {error}")
            continue
        done.append(found)
        _keep(Path(out), name, found, drawn[name])
    if not done:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ValueError(f"only is {names}, of which none is possible here: {reasons}")
    results = {
        "suture": suture.__version__,
        "machine": asdict(suture.cpu_info()),
        "settings": asdict(ground.settings),
        "models": ground.models.result,
        "layers": {name: ground.layer(name) for name in ("a", "b")},
        "tokens": {
            "fit": ground.fit_rows.result["tokens"],
            "held_out": ground.held_out_rows.result["tokens"],
        },
        "experiments": done,
        "left_out": left_out,
        "seconds": time.perf_counter() - start,
    }
    folder = Path(out)
    _dump(results, folder / "paper.json")
    write_whole(folder / "report.html", page.render(results, drawn))
    _say(f"Report: {folder / 'report.html'}")
    return results


def _checked(name: str, module: Any, settings: Any) -> Any:
    if settings is None:
        return module.Settings()
    if not isinstance(settings, module.Settings):
        raise TypeError(
            f"settings of {name} is a {type(settings).__name__}, "
            f"expected suture.paper.experiments.{name}.Settings"
        )
    return settings


def _ground(
    model_a: str | os.PathLike[str],
    model_b: str | os.PathLike[str],
    texts: Sequence[str | os.PathLike[str]],
    held_out: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    common: Settings | None,
    progress: bool,
) -> Ground:
    with needs("paper"):
        import_module("matplotlib")
        from suture.paper.ground import Ground
        from suture.report.settings import Settings
    return Ground(
        model_a, model_b, texts, held_out, out, common or Settings(objective="raw"), progress
    )


def _run(
    name: str, module: Any, settings: Any, ground: Ground
) -> tuple[dict[str, Any], dict[str, str]]:
    start = time.perf_counter()
    result = module.run(ground, settings)
    found = {
        "name": name,
        "title": module.TITLE,
        "section": module.SECTION,
        "settings": asdict(settings),
        "result": result,
        "findings": [asdict(finding) for finding in module.findings(result)],
        "remarks": module.remarks(result) if hasattr(module, "remarks") else {},
        "seconds": time.perf_counter() - start,
    }
    return found, draw(name, result)


def _keep(folder: Path, name: str, found: dict[str, Any], drawn: dict[str, str]) -> None:
    """Writes an experiment's result and its figures, named as in the paper."""
    from suture.report.steps import write_whole

    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for figure, svg in drawn.items():
        word = "".join(c if c.isalnum() else "-" for c in figure.lower().replace(".", ""))
        write_whole(figures / f"{word.replace('--', '-').strip('-')}.svg", svg)
    _dump(found, folder / f"{name}.json")


def _dump(value: dict[str, Any], path: Path) -> None:
    from suture.report.pipeline import dump

    dump(value, path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

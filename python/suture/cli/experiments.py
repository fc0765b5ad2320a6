# SPDX-License-Identifier: Apache-2.0
"""The sub-commands that run a whole experiment on a pair of models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import fields
from pathlib import Path
from typing import Any


def _pair_options(parser: ArgumentParser) -> None:
    parser.add_argument("model_a", type=Path, help="folder of model A, usually the smaller one")
    parser.add_argument("model_b", type=Path, help="folder of model B, with the same tokenizer")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="texts to fit on")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="texts to judge by")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")


def _settings_options(parser: ArgumentParser, settings: type[Any]) -> None:
    """One option for each field of a settings class, lists taking several numbers."""
    for field in fields(settings):
        default: Any = field.default
        several = isinstance(default, tuple)
        example = default[0] if several else default
        shown = " ".join(map(str, default)) if several else str(default)
        if field.default is None:
            shown = "all" if field.name.endswith("tokens") else "picked"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=float if isinstance(example, float) else int,
            nargs="+" if several else None,
            default=field.default,
            help=f"({shown})",
        )


def _settings(options: Namespace, settings: type[Any]) -> Any:
    values = {field.name: getattr(options, field.name) for field in fields(settings)}
    return settings(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})


def report_options(parser: ArgumentParser) -> None:
    from suture.report.settings import Settings

    _pair_options(parser)
    _settings_options(parser, Settings)


def report(options: Namespace) -> dict[str, Any]:
    from suture import report as experiment

    results = _on_pair(experiment, options)
    return dict(results) if options.json else dict(results["verdicts"])


def _on_pair(experiment: Any, options: Namespace) -> dict[str, Any]:
    results: dict[str, Any] = experiment.write(
        options.model_a,
        options.model_b,
        options.texts,
        options.held_out,
        options.out,
        settings=_settings(options, experiment.Settings),
        progress=not options.quiet,
    )
    return results


# -- savings -------------------------------------------------------------------------------------


def savings_options(parser: ArgumentParser) -> None:
    from suture.savings.settings import Settings

    _pair_options(parser)
    _settings_options(parser, Settings)


def savings(options: Namespace) -> dict[str, Any]:
    from suture import savings as experiment

    results = _on_pair(experiment, options)
    if options.json:
        return results
    return {
        f"{row['arm']}, {row['d_sae']} latents": {
            "saved": "not reached" if shares is None else f"{shares['median']:.1%}",
            "least": "-" if shares is None else f"{shares['min']:.1%}",
        }
        for row in results["summary"]
        if "saved" in row
        for shares in [row["saved"]["held_out"]]
    }

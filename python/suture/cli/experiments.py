# SPDX-License-Identifier: Apache-2.0
"""The sub-commands that run a whole experiment on a pair of models."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

Command = tuple[Callable[[ArgumentParser], None], Callable[[Namespace], dict[str, Any]], str, str]
"""What adds a sub-command's options, what runs it, what it does, and an example."""


def _pair_options(parser: ArgumentParser) -> None:
    parser.add_argument("model_a", type=Path, help="folder of model A, usually the smaller one")
    parser.add_argument("model_b", type=Path, help="folder of model B")
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="texts to fit on")
    parser.add_argument("--held-out", type=Path, nargs="+", required=True, help="texts to judge by")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")


def _settings_options(parser: ArgumentParser | Any, settings: type[Any], **defaults: Any) -> None:
    """One option for each field of a settings class, lists taking several numbers; `defaults` stand
    in place of the fields' own."""
    for field in fields(settings):
        default: Any = defaults.get(field.name, field.default)
        several = isinstance(default, tuple)
        example = default[0] if several else default
        shown = " ".join(map(str, default)) if several else str(default)
        if field.default is None:
            shown = "all" if field.name.endswith("tokens") else "picked"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(example) if isinstance(example, (float, str)) else int,
            nargs="+" if several else None,
            default=default,
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
        *_pair(options),
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
            "likeness": "-" if alike is None else f"{alike['median']['median']:.2f}",
        }
        for row in results["summary"]
        if "saved" in row
        for shares, alike in [(row["saved"]["held_out"], row.get("fidelity"))]
    }


# -- the paper -----------------------------------------------------------------------------------


def paper_options(parser: ArgumentParser) -> None:
    from suture.paper.experiments import EXPERIMENTS
    from suture.report.settings import Settings

    _pair_options(parser)
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", choices=EXPERIMENTS, help=", ".join(EXPERIMENTS)
    )
    _settings_options(parser, Settings, objective="raw")


def paper(options: Namespace) -> dict[str, Any]:
    from suture import paper
    from suture.report.settings import Settings

    results = paper.write(
        *_pair(options),
        only=options.only,
        common=_settings(options, Settings),
        progress=not options.quiet,
    )
    if options.json:
        return results
    said = _verdicts(*results["experiments"])
    return said | {f"{name}, left out": why for name, why in results["left_out"].items()}


def paper_commands() -> dict[str, Command]:
    """A sub-command for each experiment of the paper."""
    from suture.paper.experiments import EXPERIMENTS, experiment

    def command(name: str) -> Command:
        module = experiment(name)

        def add_options(parser: ArgumentParser) -> None:
            from suture.report.settings import Settings

            _pair_options(parser)
            own = parser.add_argument_group("this experiment")
            _settings_options(own, module.Settings)
            common = parser.add_argument_group("models, tokens, SAEs")
            # The paper's own form, for what is compared with the paper.
            _settings_options(common, Settings, objective="raw")

        def run(options: Namespace) -> dict[str, Any]:
            from suture import paper
            from suture.report.settings import Settings

            found = paper.run(
                name,
                *_pair(options),
                settings=_settings(options, module.Settings),
                common=_settings(options, Settings),
                progress=not options.quiet,
            )
            return found if options.json else _verdicts(found)

        title = module.TITLE[0].lower() + module.TITLE[1:]
        return (
            add_options,
            run,
            f"{title} (section {module.SECTION})",
            f"suture experiment {name} models/small models/large --texts t.jsonl "
            "--held-out h.jsonl --out out",
        )

    return {name: command(name) for name in EXPERIMENTS}


def _pair(options: Namespace) -> tuple[Any, ...]:
    return options.model_a, options.model_b, options.texts, options.held_out, options.out


def _verdicts(*found: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{finding['figure']}: {finding['title']}": {
            "verdict": finding["verdict"],
            "here": f"{finding['here']} {finding['why']}".strip(),
            "paper": finding["paper"],
        }
        for experiment in found
        for finding in experiment["findings"]
    }

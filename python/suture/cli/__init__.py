# SPDX-License-Identifier: Apache-2.0
"""The command line: each sub-command is a thin call of the functions of the package."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import suture
from suture.cli import commands, experiments

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``suture ARGUMENTS`` and returns the exit status.

    Results go to standard output (as text, or as one JSON object with ``--json``), progress and
    errors to standard error. Status 0: done; 1: it failed; 2: wrong usage; 130: interrupted.

    Example:
        >>> main(["info"])  # doctest: +ELLIPSIS
        suture ...
        0
    """
    # PyTorch's threads spin while they wait for each other: with other work on the machine,
    # extraction was several times slower. Read when torch is loaded, which is later than this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.threads is not None:
            suture.set_threads(options.threads)
        result: dict[str, Any] = options.run(options)
    except KeyboardInterrupt:
        print("suture: interrupted", file=sys.stderr)
        return 130
    except (suture.SutureError, ValueError, OSError, ImportError, MemoryError) as error:
        print(f"suture {options.command}: {error or type(error).__name__}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(_plain(result), indent=1, ensure_ascii=False))
    else:
        print(commands.as_text(result))
    return 0


def _plain(value: Any) -> Any:
    """JSON has no infinity, which is no bound, and no NaN."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Parser(argparse.ArgumentParser):
    """A parser whose options are added when it is used: those of an experiment need its settings,
    and with them packages that take seconds to load."""

    def __init__(
        self, *, add_options: Callable[[argparse.ArgumentParser], None] | None = None, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._add_options = add_options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._add_options is not None:
            add_options, self._add_options = self._add_options, None
            add_options(self)
        return super().parse_known_args(args, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="suture",
        description="Carry linear features between language models by model stitching.",
    )
    parser.add_argument("--version", action="version", version=f"suture {suture.__version__}")
    subparsers = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )
    for name, command in commands.COMMANDS.items():
        _add(subparsers, name, command)
    _add_experiments(subparsers)
    return parser


def _add(subparsers: Any, name: str, command: experiments.Command) -> None:
    """A sub-command with its own options and those that all have."""
    add_options, run, summary, example = command

    def fill(sub: argparse.ArgumentParser) -> None:
        add_options(sub)
        sub.add_argument("--json", action="store_true", help="print the results as JSON")
        sub.add_argument("--quiet", action="store_true", help="no progress bars")
        sub.add_argument("--threads", type=int, metavar="N", help="threads to use (default: all)")
        sub.set_defaults(run=run)

    subparsers.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_options=fill,
    )


def _add_experiments(subparsers: Any) -> None:
    """``suture experiment NAME``, each with the settings of that experiment."""

    def fill(parser: argparse.ArgumentParser) -> None:
        names = parser.add_subparsers(
            dest="experiment", required=True, metavar="NAME", parser_class=_Parser
        )
        for name, command in experiments.paper_commands().items():
            _add(names, name, command)

    summary = "run one experiment of the paper on a pair of models"
    subparsers.add_parser(
        "experiment",
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        add_options=fill,
    )

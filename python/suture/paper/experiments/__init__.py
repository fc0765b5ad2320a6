# SPDX-License-Identifier: Apache-2.0
"""The paper's experiments, in its order. A module of this package is one experiment.

It has ``TITLE`` and ``SECTION`` (of the paper), a dataclass ``Settings``, and two functions:
``run(ground, settings)`` gives a result that JSON can hold, ``findings(result)`` compares it with
the paper. Where it has figures beyond the paper's, ``remarks(result)`` says by their names what
they show. Its figures are drawn by the module of the same name in :mod:`suture.paper.drawings`. No
module of this package imports torch or matplotlib when it is imported: the command line reads
their settings.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Protocol

from suture.paper.finding import Finding

#: Names of the experiments, in the paper's order.
EXPERIMENTS = (
    "stitching",
    "transfer",
    "savings",
    "probes",
    "steering",
    "attribution",
    "structure",
    "entropy",
    "attention",
    "features",
    "labels",
)


class Experiment(Protocol):
    """What a module of this package has."""

    TITLE: str
    SECTION: str
    Settings: type[Any]

    def run(self, ground: Any, settings: Any) -> dict[str, Any]: ...

    def findings(self, result: dict[str, Any]) -> list[Finding]: ...


def experiment(name: str) -> Any:
    """The module of an experiment, an :class:`Experiment`.

    Raises:
        ValueError: there is none of this name.

    >>> experiment("stitching").SECTION
    '2'
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name is {name!r}, expected one of {', '.join(EXPERIMENTS)}")
    return import_module(f"suture.paper.experiments.{name}")


def draw(name: str, result: dict[str, Any]) -> dict[str, str]:
    """Figures of an experiment's result: SVG by the figure's name in the paper."""
    found: dict[str, str] = import_module(f"suture.paper.drawings.{name}").draw(result)
    return found

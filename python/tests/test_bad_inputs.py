# SPDX-License-Identifier: Apache-2.0
"""Bad input to everything public: the right exception, and a message that names the argument, its
value and what was expected. A function or method without a row in one of the tables that are
imported here fails the last test."""

from __future__ import annotations

import dataclasses
import inspect
from collections import ChainMap
from pathlib import Path
from typing import Any, is_typeddict

import bad_inputs_analysis  # noqa: F401
import bad_inputs_carrying  # noqa: F401
import bad_inputs_fidelity  # noqa: F401
import bad_inputs_matches  # noqa: F401
import bad_inputs_moments  # noqa: F401
import bad_inputs_probe  # noqa: F401
import bad_inputs_rows  # noqa: F401
import bad_inputs_sae  # noqa: F401
import bad_inputs_site  # noqa: F401
import bad_inputs_steering  # noqa: F401
import bad_inputs_stitch  # noqa: F401
import bad_inputs_training  # noqa: F401
import pytest
from bad_input_table import ROWS, Row

import suture
import suture.analysis


@pytest.mark.filterwarnings("ignore::suture.SutureWarning")
@pytest.mark.parametrize(
    "case", ROWS, ids=[f"{number}-{case.target}" for number, case in enumerate(ROWS)]
)
def test_bad_input(case: Row, tmp_path: Path) -> None:
    with pytest.raises(case.error) as caught:
        case.call(tmp_path)
    message = str(caught.value)
    for part in case.parts:
        assert part in message, f"{part!r} is not in {message!r}"


# Without arguments to get wrong: exceptions, records, results.
RECORDS = (
    "BestMatches",
    "BestMatchesSummary",
    "CPUInfo",
    "CarryReport",
    "CountedRows",
    "FidelitySummary",
    "FitReport",
    "LatentEvidence",
    "Objective",
    "Pairing",
    "ProbeCarryReport",
    "ProbeReport",
    "Quartiles",
    "RefitReport",
    "RowReport",
    "SVCCA",
    "StreamRows",
    "TrainRun",
    "analysis.Example",
    "analysis.FeaturePair",
    "analysis.FeatureSummary",
    "analysis.LabelOverlap",
    "analysis.LogitWeights",
)


def takes_something(function: Any) -> bool:
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls", "progress")
    ]
    return bool(parameters)


def public() -> set[str]:
    found = set()
    names = {name: getattr(suture, name) for name in suture.__all__}
    names |= {
        f"analysis.{name}": getattr(suture.analysis, name) for name in suture.analysis.__all__
    }
    for name, value in names.items():
        if name in RECORDS:
            assert dataclasses.is_dataclass(value)
        elif inspect.isfunction(value):
            if takes_something(value):
                found.add(name)
        elif is_typeddict(value):
            # Checked where it is given.
            continue
        elif inspect.isclass(value) and not issubclass(value, BaseException):
            own = [vars(base) for base in value.__mro__ if base.__module__.startswith("suture")]
            for attribute, member in ChainMap(*own).items():
                function = getattr(member, "__func__", member)
                if isinstance(member, property):
                    if member.fset is not None:
                        found.add(f"{name}.{attribute}")
                elif not inspect.isfunction(function) or not takes_something(function):
                    continue
                elif attribute == "__init__":
                    found.add(name)
                elif not attribute.startswith("_") or attribute in ("__call__", "__getitem__"):
                    found.add(f"{name}.{attribute}")
    return found


def test_everything_public_has_a_row() -> None:
    assert public() - {case.target for case in ROWS} == set()
    assert {case.target for case in ROWS} - public() == set()

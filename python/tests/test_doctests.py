# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of every module."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import suture

MODULES = [
    "suture",
    *(
        module.name
        for module in pkgutil.walk_packages(suture.__path__, "suture.")
        if not module.name.endswith((".__main__", "._core", ".libsuture"))
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0

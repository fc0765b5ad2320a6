# SPDX-License-Identifier: Apache-2.0
"""Vectors and SAEs that say where they are from, put into a running model elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import suture
from suture.models import spliced_loss, steer

D = 16
HERE = {"model_name": "org/small", "hook_name": "blocks.1.hook_resid_post"}
SILENT: list[dict[str, str]] = [
    {},
    HERE,
    {"model_name": "small"},
    {"hook_name": "blocks.2.hook_resid_pre"},
    {"hook_name": "whatever this is"},
]
ELSEWHERE = [
    (HERE | {"hook_name": "blocks.1.hook_resid_pre"}, "layer=1"),
    (HERE | {"model_name": "org/large"}, "org/large"),
    ({"hook_name": "blocks.2.hook_mlp_out"}, "mlp_out"),
]


@pytest.fixture
def small(model: Any) -> Any:
    model.config._name_or_path = "/somewhere/small"
    model.name_or_path = "/somewhere/small"
    return model


def use(kind: str, model: Any, tokenizer: Any, metadata: dict[str, str]) -> None:
    if kind == "steer":
        with steer(model, suture.SteeringVector(np.eye(D)[2], 1.0, metadata=metadata), 2):
            pass
    else:
        sae = suture.SAE.init(D, 32, k=4)
        sae.metadata = metadata
        spliced_loss(model, sae, 2, ["some text"], tokenizer, progress=False)


@pytest.mark.parametrize("kind", ["steer", "spliced_loss"])
@pytest.mark.parametrize("metadata", SILENT)
def test_what_fits_or_says_nothing_is_used(
    kind: str, metadata: dict[str, str], small: Any, tokenizer: Any
) -> None:
    use(kind, small, tokenizer, metadata)


@pytest.mark.parametrize("kind", ["steer", "spliced_loss"])
@pytest.mark.parametrize(("metadata", "word"), ELSEWHERE)
def test_what_is_of_another_place_is_told_of(
    kind: str, metadata: dict[str, str], word: str, small: Any, tokenizer: Any
) -> None:
    name = "vector" if kind == "steer" else "sae"
    with pytest.warns(suture.SutureWarning, match=f"{kind}: {name} says .*{word}.* expected") as w:
        use(kind, small, tokenizer, metadata)
    assert w[0].filename == __file__


def test_a_model_without_a_name_is_no_other_model(model: Any, tokenizer: Any) -> None:
    use("steer", model, tokenizer, HERE)
    use("spliced_loss", model, tokenizer, HERE)

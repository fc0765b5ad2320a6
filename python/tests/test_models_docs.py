# SPDX-License-Identifier: Apache-2.0
"""docs/models.md says what the package does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import architectures  # noqa: E402
import odd_models  # noqa: E402
from transformers.models.auto.modeling_auto import (  # noqa: E402
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)

from suture.models import extract, next_token_loss  # noqa: E402

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="not in the repository")


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads."""
    found = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]
    return [cells for cells in found if not cells[0].startswith("`model_type`")]


def names(text: str) -> list[str]:
    return re.findall(r"`([\w.-]+)`", text)


WORKS, _, UNTRIED = section("Works").partition("Not tried") if PAGE.exists() else ("", "", "")
LISTED = names(WORKS.split("`is_decoder=True`).")[-1])
KINDS = rows(section("Refused, or in part").partition("Beyond")[0]) if PAGE.exists() else []
CLASSES = rows(section("Refused, or in part").partition("Beyond")[2]) if PAGE.exists() else []

# One of each way to be built: positions learnt, rotary, ALiBi or none, heads in parallel, experts,
# recurrent or with both, latent attention, a second sense, two layers in a block.
CHOSEN = (
    "bloom", "deepseek_v3", "falcon_h1", "gemma3", "git", "gpt_neo", "gpt_oss", "gptj", "jamba",
    "lfm2", "longcat_flash", "mamba2", "modernbert-decoder", "mpt", "opt", "phimoe", "qwen3_next",
    "recurrent_gemma", "rwkv", "xglm",
)  # fmt: skip


def test_every_architecture_is_listed_once() -> None:
    if not transformers.__version__.startswith("5.23."):
        pytest.skip("the lists are those of transformers 5.23")
    listed = [*LISTED, *(names(kind[0])[0] for kind in KINDS), *names(UNTRIED)]
    assert sorted(listed) == sorted(CAUSAL)
    said = re.search(r"All of (\d+) of the (\d+) causal", WORKS)
    assert said
    assert [int(n) for n in said.groups()] == [len(LISTED), len(CAUSAL)]


@pytest.mark.parametrize("name", CHOSEN)
def test_works(name: str) -> None:
    assert name in LISTED
    found = architectures.look(architectures.build(name))
    assert found.works, found


@pytest.mark.parametrize("cells", KINDS, ids=lambda cells: names(cells[0])[0])
def test_refused_or_in_part(cells: list[str]) -> None:
    kind, stream, losses, _ = cells
    found = architectures.look(architectures.build(names(kind)[0]))
    assert found.extract != "works"
    assert found.steer == ("works" if stream == "in part" else found.extract)
    assert stream in ("refused", "in part")
    assert (found.loss == "works") == (losses == "work"), found.loss


@pytest.mark.parametrize("cells", CLASSES, ids=lambda cells: names(cells[0])[0])
def test_refused_classes(cells: list[str]) -> None:
    name = names(cells[0])[0]
    kind = next(kind for kind, (made, _) in odd_models.MAKERS.items() if made == name)
    model = odd_models.build(kind)
    ids = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]
    assert cells[1:3] == ["refused", "refused"]
    with pytest.raises(ValueError, match=f"model: .*{name}"):
        extract(model, None, ids, 1, progress=False)
    with pytest.raises(ValueError, match=f"model: .*{name}"):
        next_token_loss(model, ids, progress=False)

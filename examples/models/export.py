# SPDX-License-Identifier: Apache-2.0
"""What is committed of a trained pair: weights, tokenizer, text, and the losses as saved."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXForCausalLM,
    PreTrainedTokenizerFast,
)

import corpus
import data
import train

#: Characters of one line of the text files, about.
PART = 4000


def save_model(model: GPTNeoXForCausalLM, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model with 16-bit weights and its tokenizer.

    The configuration says float32, so that the model computes in float32 when loaded.
    """
    model.save_pretrained(str(folder))
    words.save_pretrained(str(folder))
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    weights = folder / "model.safetensors"
    halved = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(str(weights)).items()
    }
    save_file(halved, str(weights), metadata={"format": "pt"})
    weights.chmod(0o644)
    edit_json(folder / "config.json", dtype="float32")


def edit_json(path: Path, **changes: str) -> None:
    """Change fields of a JSON file."""
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, **changes}, indent=2, sort_keys=True) + "\n")


def saved_losses(folder: Path, pages: list[corpus.Page]) -> dict[str, float]:
    """Held-out loss of the model as saved: over all tokens, and of each language."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    words = PreTrainedTokenizerFast.from_pretrained(folder)
    losses: dict[str, float] = {}
    total, count = 0.0, 0
    for lang in corpus.PACKAGES:
        rows = data.windows(data.encode(words, [page for page in pages if page.lang == lang]))
        losses[lang], tokens = train.heldout_loss(model, rows)
        total, count = total + losses[lang] * tokens, count + tokens
    return {"all": total / count, **losses}


def characters(split: data.Split) -> dict[str, dict[str, int]]:
    """Pages and characters of each language on both sides."""
    table: dict[str, dict[str, int]] = {}
    for lang in corpus.PACKAGES:
        sides = {
            "train": [p for p in split.train if p.lang == lang],
            "heldout": [p for p in split.heldout if p.lang == lang],
        }
        table[lang] = {}
        for side, pages in sides.items():
            table[lang][f"{side}_pages"] = len(pages)
            table[lang][f"{side}_characters"] = sum(len(page.text) for page in pages)
    return table


def parts(page: corpus.Page) -> list[corpus.Page]:
    """A page in pieces of whole paragraphs of about ``PART`` characters, in a fixed order."""
    pieces, current, size = [], list[str](), 0
    for paragraph in page.text.split("\n\n"):
        if current and size + len(paragraph) > PART:
            pieces.append(current)
            current, size = [], 0
        current.append(paragraph)
        size += len(paragraph)
    pieces.append(current)
    return [corpus.Page(page.lang, page.page, "\n\n".join(piece)) for piece in pieces]


def mixed(pages: list[corpus.Page]) -> list[corpus.Page]:
    """Parts of pages so ordered that every beginning holds equally much of each language."""
    queues = {
        lang: sorted(
            (part for page in pages if page.lang == lang for part in parts(page)),
            key=lambda part: corpus.digest(part.text),
            reverse=True,
        )
        for lang in corpus.PACKAGES
    }
    used = dict.fromkeys(queues, 0)
    ordered = []
    while any(queues.values()):
        lang = min((lang for lang in queues if queues[lang]), key=lambda lang: used[lang])
        ordered.append(queues[lang].pop())
        used[lang] += len(ordered[-1].text)
    return ordered


def save_texts(split: data.Split, folder: Path) -> None:
    """Write the text of both sides, a part of a page on each line."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus.write_pages(folder / "train.jsonl.gz", mixed(split.train))
    corpus.write_pages(folder / "heldout.jsonl.gz", mixed(split.heldout))


def save_licences(folder: Path) -> None:
    """Keep the packages' copyright files and the licences' texts beside the excerpts."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = {
        "manpages.copyright": Path("/usr/share/doc/manpages/copyright"),
        "manpages-l10n.copyright": Path("/usr/share/doc/manpages-de/copyright"),
        "GPL-2": Path("/usr/share/common-licenses/GPL-2"),
        "GPL-3": Path("/usr/share/common-licenses/GPL-3"),
    }
    for name, source in sources.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))

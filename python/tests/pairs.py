# SPDX-License-Identifier: Apache-2.0
"""Pairs of tiny models and their texts in a folder, as the paper's experiments take them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: By language: a form of sentence, and words to fill it with.
WORDS = {
    "en": ("The {} opens the {} of a {}.", "file pipe socket kernel buffer queue thread page"),
    "de": ("Der {} liest den {} und die {}.", "Puffer Kernel Name Wert Befehl Dienst Satz Pfad"),
}


def sentence(rng: Any, language: str) -> str:
    """A sentence with content words drawn at random."""
    form, words = WORDS[language]
    return form.format(*rng.choice(words.split(), 3))


def save_models(folder: Path, models: Sequence[Any] | None = None) -> list[str]:
    """Saves two models and their tokenizer (None: a tiny pair) as folders "small" and "large"."""
    from suture.models import tiny_pair

    small, large, tokenizer = models or tiny_pair()
    for name, model in (("small", small), ("large", large)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return [str(folder / "small"), str(folder / "large")]


def save_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Writes documents as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def pair_arguments(
    folder: Path,
    fit: Iterable[dict[str, Any]],
    held_out: Iterable[dict[str, Any]],
    *options: str,
    models: Sequence[Any] | None = None,
) -> list[str]:
    """Saves a pair with its texts; the arguments of ``suture paper`` and ``suture experiment`` that
    come after the sub-command, with a small SAE and the `options`."""
    save_records(folder / "fit.jsonl", fit)
    save_records(folder / "held.jsonl", held_out)
    return [
        *save_models(folder, models),
        *("--texts", str(folder / "fit.jsonl"), "--held-out", str(folder / "held.jsonl")),
        *("--k", "4", "--sae-tokens", "5000", "--lr", "1e-2", "--batch-size", "256", "--quiet"),
        *options,
    ]


def strict_json(path: Path) -> Any:
    """The content of a JSON file, which must not hold what only Python reads, such as NaN."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{path.name} holds {word}, which is no JSON")

    return json.loads(path.read_text("utf-8"), parse_constant=refuse)

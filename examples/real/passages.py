# SPDX-License-Identifier: Apache-2.0
"""Passages of the manual pages in this repository, for models that read English best.

Pieces of pages are cut at line ends, so that a passage fits a sequence of either model and both
read the same text from its beginning. English and the other languages take turns.

    python examples/real/passages.py examples/models/pair/text out/real/text
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable, Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

Record = dict[str, Any]

#: Characters of a passage; a longer line stands alone.
LENGTH = 1000


def cut(text: str, length: int = LENGTH) -> Iterator[str]:
    """The text in passages of whole lines, as full as `length` allows.

    >>> list(cut("one\\ntwo\\nthree\\n", length=8))
    ['one\\ntwo\\n', 'three\\n']
    """
    passage = ""
    for line in text.splitlines(keepends=True):
        if passage and len(passage) + len(line) > length:
            yield passage
            passage = ""
        passage += line
    if passage.strip():
        yield passage


def in_turn(records: Iterable[Record], first: str = "en") -> Iterator[Record]:
    """Passages of `first` and of the other languages by turns, until one of those runs out.

    >>> pages = [{"lang": lang, "text": lang} for lang in ("de", "en", "en", "fr")]
    >>> [record["lang"] for record in in_turn(pages)]
    ['en', 'de', 'en', 'fr']
    """
    queues: dict[str, list[Record]] = {}
    for record in records:
        queues.setdefault(record["lang"], []).extend(
            record | {"text": text} for text in cut(record["text"])
        )
    others = sorted(set(queues) - {first})
    streams = {lang: iter(queue) for lang, queue in queues.items()}
    for lang in chain.from_iterable((first, other) for other in cycle(others)):
        record = next(streams[lang], None)
        if record is None:
            return
        yield record


def write(source: Path, target: Path) -> int:
    """Writes the passages of one file of JSON lines; returns how many."""
    with gzip.open(source, "rt", encoding="utf-8") as file:
        passages = list(in_turn(json.loads(line) for line in file))
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in passages)
    target.write_text("".join(lines), encoding="utf-8")
    return len(passages)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes fit.jsonl and heldout.jsonl to FOLDER.")
    parser.add_argument("source", type=Path, help="folder of train.jsonl.gz and heldout.jsonl.gz")
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    for name, file in (("fit", "train"), ("heldout", "heldout")):
        target = options.folder / f"{name}.jsonl"
        print(f"{target}: {write(options.source / f'{file}.jsonl.gz', target)} passages")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The experiment on probes with the eight data sets of SAEBench's sparse probing (Karvonen et al.
2025), where the user has them on disk. Nothing is downloaded.

Each is read from a folder of its name below a common one: what `datasets`' `save_to_disk` wrote
(one data set, or a `DatasetDict` with "train" and "test"; of europarl one folder a language pair
inside), or JSON lines `train.jsonl` and `test.jsonl`, or one `data.jsonl`, with the columns of the
data set or simply "text" and "label". Without a part for testing, every fifth row is kept for it.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture.paper.probe_curves import Pooled, curves, pooled
from suture.paper.tasks import Task

__all__ = ["SOURCES", "Source", "read", "run", "tasks"]

#: A task with fewer samples of a class to train or to test on is left out.
FEWEST_TRAIN, FEWEST_TEST = 20, 5
#: SAEBench leaves out the beginning of a program, where licences are, and short programs.
_CODE_SKIPPED, _CODE_SHORTEST = 150, 534


@dataclass(frozen=True)
class Source:
    """One of the data sets.

    Attributes:
        name: as SAEBench calls it, which is its name on the Hugging Face Hub, and which classes.
        folder: where it is looked for, below the common folder.
        text, label: its columns.
        balance: a column whose values every class has as many of; "" for none.
        classes: the labels that are told apart, each from the rest.
    """

    name: str
    folder: str
    text: str
    label: str
    balance: str
    classes: tuple[str, ...]


_BIOS = ("hard_text", "profession", "gender")
_AMAZON = "amazon_reviews_mcauley_1and5"
SOURCES: tuple[Source, ...] = (
    Source(
        "LabHC/bias_in_bios_class_set1", "bias_in_bios", *_BIOS, classes=("0", "1", "2", "6", "9")
    ),
    Source(
        "LabHC/bias_in_bios_class_set2",
        "bias_in_bios",
        *_BIOS,
        classes=("11", "13", "14", "18", "19"),
    ),
    Source(
        "LabHC/bias_in_bios_class_set3",
        "bias_in_bios",
        *_BIOS,
        classes=("20", "21", "22", "25", "26"),
    ),
    Source(f"canrager/{_AMAZON}", _AMAZON, "text", "category", "rating", ("1", "2", "3", "5", "6")),
    Source(f"canrager/{_AMAZON}_sentiment", _AMAZON, "text", "rating", "", ("1.0", "5.0")),
    Source(
        "codeparrot/github-code",
        "github-code",
        "code",
        "language",
        "",
        ("C", "Python", "HTML", "Java", "PHP"),
    ),
    Source("fancyzhx/ag_news", "ag_news", "text", "label", "", ("0", "1", "2", "3")),
    Source(
        "Helsinki-NLP/europarl",
        "europarl",
        "translation",
        "translation",
        "",
        ("en", "fr", "de", "es", "nl"),
    ),
)


@dataclass(frozen=True)
class Sample:
    """A text, its label, and the value of the column that is balanced ("" for none)."""

    text: str
    label: str
    stratum: str
    testing: bool


def read(folder: str | os.PathLike[str], source: Source) -> list[Sample]:
    """The samples of one data set whose label is one of its classes.

    Args:
        folder: the common folder.
        source: one of `SOURCES`.

    Raises:
        FileNotFoundError: it is not there; the message says what is looked for.
        ValueError: a row lacks a column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "ag_news").mkdir()
    ...     rows = '{"text": "a", "label": 0}\\n{"text": "b", "label": 1}\\n'
    ...     _ = (Path(folder) / "ag_news" / "data.jsonl").write_text(rows)
    ...     [sample.label for sample in read(folder, SOURCES[6])]
    ['0', '1']
    """
    path = Path(folder) / source.folder
    parts = list(_parts(path))
    if not parts:
        raise FileNotFoundError(
            f"{source.name} is not in {str(path)!r}, expected a folder of datasets' save_to_disk, "
            "or train.jsonl and test.jsonl, or data.jsonl with text and label"
        )
    halves = any(testing is not None for testing, _ in parts)
    found = []
    for testing, rows in parts:
        if testing is None and halves:
            continue
        for number, row in enumerate(rows):
            for text, label, stratum in _labelled(row, source, path):
                if label in source.classes:
                    is_test = number % 5 == 4 if testing is None else testing
                    found.append(Sample(text, label, stratum, is_test))
    return found


def _parts(path: Path) -> Iterator[tuple[bool | None, Iterable[dict[str, Any]]]]:
    """Whether a part is for testing (None: it is for both), and its rows."""
    for name, testing in (("train", False), ("test", True), ("data", None)):
        if (path / f"{name}.jsonl").is_file():
            yield testing, _json_lines(path / f"{name}.jsonl")
    if any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        yield from _saved(path)
    elif path.is_dir():
        for inner in sorted(path.iterdir()):
            if any((inner / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
                # Language pairs: what they call "train" is all there is.
                yield from ((None, rows) for testing, rows in _saved(inner) if testing is not True)


def _saved(path: Path) -> Iterator[tuple[bool | None, Iterable[dict[str, Any]]]]:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} is a folder of the package datasets, which is not installed: "
            "pip install datasets, or write JSON lines"
        ) from error
    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.Dataset):
        yield None, saved
    elif "test" in saved:
        yield from ((name == "test", saved[name]) for name in ("train", "test"))
    else:
        yield from ((None, part) for part in saved.values())


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path}:{number} is {line.strip()[:40]!r}, expected an object"
                    )
                yield row


def _labelled(row: dict[str, Any], source: Source, path: Path) -> Iterator[tuple[str, str, str]]:
    """Text, label and stratum: of a translation one for each language."""
    if source.text in row and isinstance(row[source.text], dict):
        yield from ((text, language, "") for language, text in row[source.text].items())
        return
    text = source.text if source.text in row else "text"
    label = source.label if source.label in row else "label"
    for column in (text, label):
        if column not in row:
            raise ValueError(
                f"a row of {str(path)!r} has the columns {sorted(row)}, expected {source.text} and "
                f"{source.label}, or text and label"
            )
    content, value = str(row[text]), str(row[label])
    if text == "code":
        if len(content) <= _CODE_SHORTEST:
            return
        content = content[_CODE_SKIPPED:]
    if source.label == "rating" and value in ("1", "5"):
        value += ".0"
    yield content, value, str(row.get(source.balance, ""))


def tasks(
    samples: Sequence[Sample], source: Source, train: int = 4000, test: int = 1000, seed: int = 42
) -> tuple[list[Task], dict[str, str]]:
    """Each class against the rest, as many of both, the rest drawn evenly from the other classes;
    of two classes one task.

    Args:
        samples: see `read`.
        train, test: most samples of a task, of both sides together.
        seed: of the choice among more.

    Returns:
        The tasks, and why classes are left out.
    """
    rng = np.random.default_rng(seed)
    places: dict[tuple[bool, str], list[int]] = defaultdict(list)
    for place in rng.permutation(len(samples)).tolist():
        sample = samples[place]
        places[sample.testing, sample.label].append(place)
    for key, members in places.items():
        places[key] = _alternating(members, samples)
    positives = source.classes if len(source.classes) > 2 else source.classes[1:]
    found, left_out = [], {}
    short = source.name.split("/")[-1]
    for positive in positives:
        name = f"{short}: {positive}"
        others = [label for label in source.classes if label != positive]
        halves = []
        for testing, count, fewest in ((False, train, FEWEST_TRAIN), (True, test, FEWEST_TEST)):
            inside = places[testing, positive]
            rest = [places[testing, label] for label in others]
            size = min(count // 2, len(inside), sum(map(len, rest)))
            # Evenly: the first of each class, then the second, …
            rounds = zip_longest(*rest, fillvalue=-1)
            drawn = [place for one in rounds for place in one if place >= 0][:size]
            if size < fewest:
                what = "test" if testing else "train"
                left_out[name] = f"{size} samples of a side to {what} on, expected {fewest}"
                break
            halves.append(np.array(inside[:size] + drawn, np.int64))
        else:
            answers = [np.arange(len(half)) < len(half) // 2 for half in halves]
            found.append(Task(name, halves[0], answers[0], halves[1], answers[1]))
    return found, left_out


def _alternating(members: list[int], samples: Sequence[Sample]) -> list[int]:
    """Members such that the first n have as many of each stratum as can be."""
    strata: dict[str, list[int]] = defaultdict(list)
    for place in members:
        strata[samples[place].stratum].append(place)
    least = min(map(len, strata.values()))
    ordered = [part for _, part in sorted(strata.items())]
    return [part[at] for at in range(least) for part in ordered]


def run(
    folder: str | os.PathLike[str],
    model_a: tuple[Any, Any, int],
    model_b: tuple[Any, Any, int],
    stitch: suture.Stitch,
    sae_a: suture.SAE,
    sae_b: suture.SAE,
    *,
    ks: Sequence[int] = (1, 2, 5, 10, 20, 50),
    train: int = 4000,
    test: int = 1000,
    context: int = 128,
    C: float = 1.0,
    draws: int = 5,
    seed: int = 42,
    sources: Sequence[Source] = SOURCES,
    progress: bool = True,
) -> dict[str, Any]:
    """The curves of Fig. 3a and 9 on the data sets that are there.

    Args:
        folder: see this module.
        model_a, model_b: model, tokenizer, and the layer before which the stream is taken.
        stitch: from A's stream to B's.
        sae_a, sae_b: of the two streams; `sae_a` is also carried to B.
        ks: numbers of features.
        train, test: most samples of a task, of both sides together.
        context: most tokens of a sample.
        C, draws: see `suture.paper.probe_curves.curves`.
        seed: of the choice of samples and random features.
        sources: the data sets to try.
        progress: show bars on standard error.

    Returns:
        What `suture.paper.experiments.probes.run` returns, so that its `findings` and drawings take
        it: "ks", "samples", "tasks" (each with "name", "train", "test" and "curves"), "left_out".

    Raises:
        FileNotFoundError: none of the data sets is there.
    """
    moved = stitch.transfer(sae_a)
    most = [k for k in ks if 1 <= k <= min(sae_a.d_sae, sae_b.d_sae)]
    if not most:
        raise ValueError(f"ks is {tuple(ks)}, expected some from 1 to the latents of both SAEs")
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    total = 0
    for source in sources:
        try:
            samples = read(folder, source)
        except FileNotFoundError as error:
            left_out[source.name] = str(error)
            continue
        made, without = tasks(samples, source, train, test, seed)
        left_out |= without
        if not made:
            left_out.setdefault(source.name, "no samples of its classes")
            continue
        used = np.unique(np.concatenate([np.r_[task.train, task.test] for task in made]))
        place = np.full(len(samples), -1)
        place[used] = np.arange(len(used))
        texts = [samples[i].text for i in used]
        total += len(texts)
        dense_a, (codes_a,) = pooled(*model_a, texts, [sae_a], context=context, progress=progress)
        dense_b, (codes_moved, codes_b) = pooled(
            *model_b, texts, [moved, sae_b], context=context, progress=progress
        )
        features = Pooled(codes_a, codes_moved, codes_b, dense_a, dense_b)
        for task in made:
            placed = Task(task.name, place[task.train], task.y_train, place[task.test], task.y_test)
            values = curves(features, placed, stitch, most, C=C, draws=draws, seed=seed)
            sizes = {"train": len(task.train), "test": len(task.test)}
            found.append({"name": task.name} | sizes | {"curves": values})
    if not found:
        raise FileNotFoundError(f"folder {os.fspath(folder)!r} has no data set: {left_out}")
    return {"ks": most, "samples": total, "tasks": found, "left_out": left_out}

# SPDX-License-Identifier: Apache-2.0
"""SAEBench's data sets from a small made-up copy on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

import suture
from suture.models.tiny import tiny_pair
from suture.paper import saebench
from suture.paper.experiments import probes

WORDS = ("apple river stone", "music paper garden", "window bottle market", "engine forest letter")


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saebench")
    news = [{"text": f"{WORDS[i % 4]} {i}", "label": i % 4} for i in range(400)]
    lines(folder / "ag_news" / "train.jsonl", news[:300])
    lines(folder / "ag_news" / "test.jsonl", news[300:])
    bios = [
        {"hard_text": f"{WORDS[i % 2]} {i}", "profession": i % 2, "gender": int(i % 3 == 0)}
        for i in range(600)
    ]
    lines(folder / "bias_in_bios" / "data.jsonl", bios)
    code = [{"code": "x" * (100 + 10 * i) + "end", "language": "CJ"[i % 2]} for i in range(100)]
    lines(folder / "github-code" / "data.jsonl", code)
    return folder


def test_every_source_is_one_of_eight() -> None:
    names = [source.name for source in saebench.SOURCES]
    assert len(set(names)) == 8
    assert sum(len(s.classes) if len(s.classes) > 2 else 1 for s in saebench.SOURCES) == 35


def test_samples_are_read_with_their_columns(copy: Path) -> None:
    news = saebench.read(copy, saebench.SOURCES[6])
    assert len(news) == 400
    assert sum(sample.testing for sample in news) == 100
    bios = saebench.read(copy, saebench.SOURCES[0])
    assert {(s.label, s.stratum) for s in bios} == {(a, b) for a in "01" for b in "01"}
    assert sum(sample.testing for sample in bios) == 120
    (github,) = (s for s in saebench.SOURCES if s.folder == "github-code")
    code = saebench.read(copy, github)
    # Programs of more than 534 characters, without their first 150.
    assert all(len(s.text) > 384 and s.text.endswith("end") for s in code)
    assert {s.label for s in code} == {"C"}


def test_tasks_are_balanced_and_part_their_samples(copy: Path) -> None:
    news = saebench.read(copy, saebench.SOURCES[6])
    made, left_out = saebench.tasks(news, saebench.SOURCES[6], 100, 40)
    assert [task.name for task in made] == [f"ag_news: {i}" for i in range(4)]
    assert left_out == {}
    for label, task in enumerate(made):
        for places, y, testing, size in (
            (task.train, task.y_train, False, 100),
            (task.test, task.y_test, True, 40),
        ):
            assert len(set(places.tolist())) == len(places) == size
            assert y.sum() == size // 2
            assert all(news[i].testing == testing for i in places)
            assert all(
                (news[i].label == str(label)) == is_it for i, is_it in zip(places, y, strict=True)
            )
            # The rest comes evenly from the other three classes.
            rest = np.unique([news[i].label for i in places[~y]], return_counts=True)[1]
            assert len(rest) == 3
            assert rest.max() - rest.min() <= 1
    bios = saebench.read(copy, saebench.SOURCES[0])
    made, left_out = saebench.tasks(bios, saebench.SOURCES[0], 100, 40)
    assert len(made) == 2
    assert len(left_out) == 3
    genders = [bios[i].stratum for i in made[0].train[made[0].y_train]]
    assert genders.count("0") == genders.count("1") == 25


def test_folders_of_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pair = [{"translation": {"en": f"the {i}", "fr": f"le {i}"}} for i in range(20)]
    datasets.Dataset.from_list(pair).save_to_disk(str(tmp_path / "europarl" / "en-fr"))
    found = saebench.read(tmp_path, saebench.SOURCES[7])
    assert sorted({s.label for s in found}) == ["en", "fr"]
    assert len(found) == 40
    assert sum(s.testing for s in found) == 8
    rows = datasets.Dataset.from_list([{"text": "x", "category": 1, "rating": 5.0}] * 3)
    both = datasets.DatasetDict(train=rows, test=rows.select([0]))
    both.save_to_disk(str(tmp_path / saebench.SOURCES[4].folder))
    assert [s.testing for s in saebench.read(tmp_path, saebench.SOURCES[4])] == [False] * 3 + [True]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"fancyzhx/ag_news is not in .*save_to_disk"):
        saebench.read(tmp_path, saebench.SOURCES[6])
    lines(tmp_path / "ag_news" / "data.jsonl", [{"title": "x"}])
    with pytest.raises(ValueError, match=r"columns \['title'\], expected text and label"):
        saebench.read(tmp_path, saebench.SOURCES[6])


def test_the_experiment(copy: Path) -> None:
    small, large, tokenizer = tiny_pair()
    d_a, d_b = small.config.hidden_size, large.config.hidden_size
    rng = np.random.default_rng(0)
    stitch = suture.Stitch(
        *(rng.normal(size=s) / 4 for s in [(d_a, d_b), (d_b,), (d_b, d_a), (d_a,)])
    )
    result = saebench.run(
        copy,
        (small, tokenizer, 1),
        (large, tokenizer, 1),
        stitch,
        suture.SAE.init(d_a, 64, k=8),
        suture.SAE.init(d_b, 64, k=8, seed=1),
        ks=(1, 4),
        train=60,
        test=20,
        context=32,
        progress=False,
    )
    assert [task["name"] for task in result["tasks"]] == [
        "bias_in_bios_class_set1: 0",
        "bias_in_bios_class_set1: 1",
        *(f"ag_news: {i}" for i in range(4)),
    ]
    assert result["ks"] == [1, 4]
    assert all(task["train"] == 60 and task["test"] == 20 for task in result["tasks"])
    assert "Helsinki-NLP/europarl" in result["left_out"]
    # The words of the classes differ, which even untrained models tell apart.
    assert np.mean([task["curves"]["dense on B"] for task in result["tasks"]]) > 0.8
    assert json.loads(json.dumps(result)) == result
    assert len(probes.findings(result)) == 2

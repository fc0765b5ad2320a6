# SPDX-License-Identifier: Apache-2.0
"""The experiments on attention deactivation and on structural features: a run each on two tiny
models, what verdicts make of numbers, and the statistics against SciPy."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("stopwordsiso")

from pairs import WORDS, pair_arguments, sentence

from suture.cli import main
from suture.paper.experiments import draw, experiment
from suture.paper.experiments.attention import agreement
from suture.paper.experiments.structure import companions, compared, sentences

UNRELATED = {"structural": 3, "median_of_others": 0.25}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    records = [
        {"text": " ".join(sentence(rng, language) for _ in range(2)), "lang": language}
        for _ in range(45)
        for language in WORDS
    ]
    options = ("--out", str(tmp_path_factory.mktemp("out")), "--json")
    size = ("--context", "48", "--d-sae", "64")
    return pair_arguments(folder, records[:60], records[60:], *size, *options)


def found(capsys, *words):
    assert main(["experiment", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_attention_on_a_pair(arguments, capsys):
    options = ("--least-p-bos", "0", "--least-frequency", "0.01", "--features", "3")
    result = found(capsys, "attention", *arguments, *options)
    assert [f["figure"] for f in result["findings"]] == ["Fig. 5b", "Fig. 16"]
    numbers = result["result"]
    kinds = [(e["kind"], e["sign"]) for e in numbers["features"]]
    assert kinds[:3] == [("strongest", "positive")] * 3
    assert {kind for kind, _ in kinds[6:]} == {"random"}
    assert len({e["feature"] for e in numbers["features"]}) == len(kinds)
    for entry in numbers["features"]:
        for name in ("a", "b"):
            assert (entry[name]["score"] > 0) == (entry["sign"] == "positive")
    # Blocks 1 and 2 of A, two heads each.
    assert [(h["layer"], h["head"]) for h in numbers["heads"]["a"]] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    assert set(draw("attention", numbers)) >= {"Fig. 16"}


def test_without_a_head_that_attends_to_bos_there_is_no_experiment(arguments, capsys):
    assert main(["experiment", "attention", *arguments, "--least-p-bos", "1"]) != 0
    assert "no head of model a from layer 1 on attends to BOS with 1 or more" in (
        capsys.readouterr().err
    )


def test_structure_on_a_pair(arguments, capsys):
    options = ("--sentences", "24", "--variants", "3", "--least-sentences", "2")
    result = found(capsys, "structure", *arguments, *options)
    assert [f["figure"] for f in result["findings"]] == ["Fig. 4b", "Fig. 15"]
    numbers = result["result"]
    assert numbers["languages"] == {"de": 12, "en": 12}
    assert numbers["sentences"] == 24
    first, *variants = numbers["example"]
    assert len(set(variants)) == 3
    assert all(v.split()[0] == first.split()[0] == "Der" for v in variants)
    for direction in ("up", "down"):
        values = numbers[direction]["values"]
        assert 0 < len(values["structural"]) + len(values["semantic"]) <= 64
        # Active in any sentence is more than active in all variants of one.
        assert 0 <= numbers[direction]["unrelated"]["structural"] <= len(values["structural"])
    assert set(draw("structure", numbers)) == {"Fig. 4b", "Fig. 15"}


def test_pages_of_features_have_structural_scores(arguments, capsys):
    out = Path(arguments[arguments.index("--out") + 1])
    for count in ("3", "8"):
        options = ("--count", count, "--least-active", "1")
        chosen = found(capsys, "features", *arguments, *options)["result"]["chosen"]
    assert "most structural" in {entry["note"] for entry in chosen}
    pages = json.loads((out / "features" / "features.json").read_text("utf-8"))["features"]
    with np.load(out / "work" / "structure" / "scores.npz") as stored:
        scores = stored["up"]
    assert len(pages) == len(list((out / "features").glob("feature_*.html"))) == 8
    for page in pages:
        score = scores[page["original"]["feature"]]
        assert page["structural_score"] == (None if np.isnan(score) else score)
    assert any(page["structural_score"] is not None for page in pages)


def test_texts_without_languages_are_refused(arguments, tmp_path, capsys):
    held = tmp_path / "held.jsonl"
    held.write_text('{"text": "The file opens a pipe of the kernel. The end."}\n' * 20, "utf-8")
    words = [str(held) if word.endswith("held.jsonl") else word for word in arguments]
    words[words.index("--out") + 1] = str(tmp_path / "out")
    assert main(["experiment", "structure", *words]) != 0
    assert "texts say no language ('lang')" in capsys.readouterr().err


def test_statistics_are_scipy_s():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    score, correlation = rng.uniform(size=400), rng.normal(0.3, 0.2, 400)
    correlation[score >= 0.5] += 0.2
    correlation[:5] = np.nan
    score[5:9] = np.nan
    used = rng.uniform(size=400) < 0.9
    result = compared(score, used, correlation, rng.uniform(size=400))
    kept = used & np.isfinite(score) & np.isfinite(correlation)
    groups = correlation[kept & (score >= 0.5)], correlation[kept & (score < 0.5)]
    assert result["distance"] == pytest.approx(stats.ks_2samp(*groups).statistic, abs=1e-12)
    assert result["difference"] == pytest.approx(np.median(groups[0]) - np.median(groups[1]))
    sizes = [len(group) for group in groups]
    scale = np.sqrt(sum(sizes) / np.prod(sizes))
    assert stats.kstwobign.sf(result["limit"] / scale) == pytest.approx(0.01, rel=0.02)
    assert result["matched"] == pytest.approx(0.2, abs=0.06)  # frequency says nothing here


def test_matched_takes_out_what_goes_with_frequency():
    rng = np.random.default_rng(2)
    frequency = rng.uniform(size=4000)
    score = (rng.uniform(size=4000) < frequency).astype(float)
    result = compared(score, np.ones(4000, bool), frequency + rng.normal(0, 0.01, 4000), frequency)
    assert result["difference"] > 0.3
    assert abs(result["matched"]) < 0.03


def test_one_kind_alone_has_no_distance():
    result = compared(np.ones(9), np.ones(9, bool), np.linspace(0, 1, 9), np.ones(9))
    assert result["distance"] is None
    result["unrelated"] = UNRELATED
    findings = experiment("structure").findings
    whole = {"up": result, "down": result, "sentences": 9, "languages": {"en": 9}}
    assert {finding.verdict for finding in findings(whole)} == {"differs"}
    assert findings(whole)[0].here == "No semantic features among 9."
    assert set(draw("structure", whole)) == {"Fig. 4b", "Fig. 15"}


def test_verdicts_on_structure_follow_the_numbers():
    rng = np.random.default_rng(3)
    score = rng.uniform(size=1000)
    noise, frequency = rng.normal(0.2, 0.1, 1000), rng.uniform(size=1000)

    def direction(shift):
        values = noise + shift * (score >= 0.5)
        return compared(score, np.ones(1000, bool), values, frequency) | {"unrelated": UNRELATED}

    def verdicts(up, down):
        result = {
            "up": direction(up), "down": direction(down), "sentences": 5, "languages": {"en": 5},
        }  # fmt: skip
        return [finding.verdict for finding in experiment("structure").findings(result)]

    assert verdicts(0.3, 0.2) == ["reproduced", "reproduced"]
    assert verdicts(0.3, -0.2) == ["reproduced", "partly"]
    assert verdicts(0.0, 0.025) == ["differs", "partly"]
    few = compared(score[:8], np.ones(8, bool), noise[:8] + (score[:8] >= 0.5), frequency[:8])
    few |= {"unrelated": UNRELATED}
    result = {"up": few, "down": few, "sentences": 5, "languages": {"en": 5}}
    first = experiment("structure").findings(result)[0]
    # As far apart as can be, but of eight.
    assert (first.verdict, first.why) == ("differs", "The distance is within chance.")


def test_companions_are_other_sentences_of_the_language():
    order = companions([7, 9], 6).reshape(16, 6)
    assert order[:, 0].tolist() == list(range(16))
    assert all(len(set(row)) == 6 for row in order)
    assert order[:7].max() == 6
    assert order[7:].min() == 7


def test_sentences_leave_out_tables_and_titles():
    kept = frozenset(["the", "of", "a", "und"])
    text = (
        "DESCRIPTION\nThe option opens the file of a user. It\nfails\n\n"
        "-a  The name.\n303  195  C3  Ć  LATIN LETTER\nopens files quickly again and again.\n"
        + "The name of a file " * 20
        + ".\n"
    )
    assert list(sentences(text, kept)) == ["The option opens the file of a user."]


def entries(strong, random):
    """Features by how far p(BOS) moves with the score's sign, in A and in B."""
    rows = []
    for kind, moves in (("strongest", strong), ("random", random)):
        for number, (a, b) in enumerate(moves):
            sign = ("positive", "negative")[number % 2]
            turn = -1 if sign == "positive" else 1
            part = {"layer": 1, "head": 0, "score": 1.0, "tokens": 200, "p_bos": 0.5}
            rows.append(
                {
                    "feature": number,
                    "kind": kind,
                    "sign": sign,
                    "a": part | {"change": turn * a, "correlation": turn * 0.4},
                    "b": part
                    | {"change": None if b is None else turn * b, "correlation": turn * 0.4},
                }
            )
    return rows


def attention_verdicts(strong, random):
    rows = entries(strong, random)
    result = {
        "features": rows,
        "examples": [rows[0], rows[1]],
        "rank_correlation": {"positive": 0.3, "negative": None},
    }
    return [finding.verdict for finding in experiment("attention").findings(result)]


def test_verdicts_on_attention_follow_the_numbers():
    weak = [(0.01, 0.01)] * 4
    assert attention_verdicts([(0.05, 0.04)] * 4, weak) == ["reproduced", "reproduced"]
    # It moves as the score says, but no further than a feature at random.
    assert attention_verdicts([(0.05, 0.011)] * 4, weak) == ["reproduced", "partly"]
    assert attention_verdicts([(0.05, 0.001)] * 4, weak) == ["partly", "differs"]
    assert attention_verdicts([(0.05, -0.04)] * 4, weak) == ["differs", "differs"]
    numbers = agreement(entries([(0.05, None), (0.03, 0.02)], weak))
    assert numbers["strongest"]["b"] == {"share": 0.5, "median": pytest.approx(0.01)}
    assert numbers["strongest"]["a"] == {"share": 1.0, "median": pytest.approx(0.04)}


def test_examples_that_are_missing_or_unrelated_are_said():
    rows = entries([(0.05, 0.04)] * 2, [(0.01, 0.01)])
    result = {"features": rows, "examples": [None, None], "rank_correlation": {"positive": None}}
    first = experiment("attention").findings(result)[0]
    assert first.verdict == "differs"
    assert "no feature is active often enough" in first.here
    unrelated = copy.deepcopy(rows[0])
    unrelated["b"]["correlation"] = None
    result["examples"] = [unrelated, rows[1]]
    first = experiment("attention").findings(result)[0]
    assert first.verdict == "partly"
    assert first.why == "Weak: feature 0 in B 1.0."


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("attention", {"features": 0}, "features is 0, expected at least 1"),
        ("attention", {"least_p_bos": 1.5}, "least_p_bos is 1.5, expected 0 to 1"),
        ("structure", {"variants": 0}, "variants is 0, expected at least 1"),
        ("structure", {"attribution_tokens": 1}, "attribution_tokens is 1, expected at least 2"),
    ],
)
def test_settings_are_checked(name, change, message):
    with pytest.raises(ValueError, match=message):
        experiment(name).Settings(**change)

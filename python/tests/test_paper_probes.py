# SPDX-License-Identifier: Apache-2.0
"""The experiment on probes: pooled features and curves against NumPy and scikit-learn, and the
whole of it on a tiny pair."""

import json
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from pairs import pair_arguments, save_records
from sklearn.linear_model import LogisticRegression

import suture
from suture import models
from suture.cli import main
from suture.models.tiny import tiny_pair
from suture.paper.experiments import draw, experiment
from suture.paper.probe_curves import CURVES, Pooled, curves, pooled
from suture.paper.tasks import Task


@pytest.fixture(scope="module")
def tiny():
    return tiny_pair()


def test_pooled_features_are_means_over_the_tokens_of_each_text(tiny):
    model, _, tokenizer = tiny
    texts = ["a first text", "another one, longer", "b", "the fourth"]
    sae = suture.SAE.init(16, 32, k=4)
    dense, [codes] = pooled(model, tokenizer, 1, texts, [sae], chunk=3, progress=False)
    for row, text in enumerate(texts):
        acts = models.extract(model, tokenizer, [text], [1])[1]
        # A batch of several texts rounds otherwise than one alone.
        np.testing.assert_allclose(dense[row], acts.mean(0), rtol=1e-4, atol=1e-5)
        expected = sae.encode(acts).to_dense().mean(0)
        np.testing.assert_allclose(codes[[row]].toarray()[0], expected, atol=1e-4)


@pytest.fixture(scope="module")
def made():
    """Samples whose class is in latent 3 of both SAEs, and along one direction of each stream."""
    rng = np.random.default_rng(1)
    count, d_sae = 600, 12
    y = rng.random(count) < 0.5

    def codes(noise):
        values = rng.random((count, d_sae)).astype(np.float32)
        values[:, 3] = y + noise * rng.random(count)
        return suture.SparseCodes(np.tile(np.arange(d_sae), (count, 1)), values, d_sae)

    stitch = suture.Stitch(
        rng.normal(size=(4, 6)), rng.normal(size=6), rng.normal(size=(6, 4)), rng.normal(size=4)
    )
    dense_b = rng.normal(size=(count, 6)).astype(np.float32)
    dense_b[:, 0] += 3 * y
    features = Pooled(codes(0.2), codes(0.2), codes(0.2), stitch.down(dense_b), dense_b)
    places = np.arange(count)
    return features, Task("t", places[:400], y[:400], places[400:], y[400:]), stitch


def test_curves_are_those_of_scikit_learn(made):
    features, task, stitch = made
    found = curves(features, task, stitch, [1, 3], C=1.0, draws=3)
    assert set(CURVES) < set(found)
    dense = features.codes_b.to_dense()
    order = np.argsort(
        -np.abs(dense[task.train][task.y_train].mean(0) - dense[task.train][~task.y_train].mean(0)),
        kind="stable",
    )
    for place, k in enumerate([1, 3]):
        chosen = order[:k]
        peer = LogisticRegression(C=1.0, tol=1e-10, max_iter=10000)
        peer.fit(dense[task.train][:, chosen], task.y_train)
        expected = peer.score(dense[task.test][:, chosen], task.y_test)
        # One sample on the boundary may fall on either side.
        assert found["ground truth"][place] == pytest.approx(expected, abs=1.5 / len(task.test))
    assert found["transferred, as it is"][0] == pytest.approx(found["on A"][0], abs=0.05)


def test_a_dense_probe_carried_across_is_the_probe_on_mapped_samples(made):
    """A's stream is B's, mapped down: then the carried probe sees just what the probe on A sees."""
    features, task, stitch = made
    found = curves(features, task, stitch, [1])
    assert found["dense, transferred"] == found["dense on A"]
    # A's samples are linear in B's: there is nothing that pairs could not tell.
    assert found["dense, carried by pairs"] == pytest.approx(found["dense on A"], abs=0.011)


def test_tested_samples_do_not_reach_what_pairs_carry(made):
    features, task, stitch = made
    broken = features.dense_a.copy()
    broken[task.test] = 1e3
    changed = Pooled(
        features.codes_a, features.codes_moved, features.codes_b, broken, features.dense_b
    )
    found = [curves(each, task, stitch, [1]) for each in (features, changed)]
    assert found[0]["dense, carried by pairs"] == found[1]["dense, carried by pairs"]


def test_without_enough_latents_there_is_no_random_curve(made):
    features, task, stitch = made
    values = features.codes_b.to_dense()[:, :2] + 0.1
    few = suture.SparseCodes(np.tile([0, 1], (len(values), 1)), values, 12)
    changed = Pooled(features.codes_a, few, few, features.dense_a, features.dense_b)
    assert curves(changed, task, stitch, [1, 5])["random features"] is None


LINES = {
    "en": "the quick brown fox jumps over the lazy dog and runs away into the dark forest at night",
    "de": "der schnelle braune fuchs springt ueber den faulen hund und rennt fort in den wald",
}


@pytest.fixture(scope="module")
def arguments(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    records = [
        {"text": "\n\n".join([LINES[lang]] * 4), "lang": lang, "page": f"p{number}.1"}
        for number in range(80)
        for lang in LINES
    ]
    size = ("--context", "32", "--d-sae", "32")
    return pair_arguments(folder, records[:120], records[120:], *size, models=tiny)


def test_the_experiment_on_a_pair(arguments, tmp_path):
    run = ["experiment", "probes", *arguments, "--out", str(tmp_path), "--ks", "1", "4", "99"]
    assert main(run) == 0
    found = json.loads((tmp_path / "probes.json").read_text("utf-8"))
    result = found["result"]
    assert result["ks"] == [1, 4]  # the SAE has 32 latents
    assert [task["name"] for task in result["tasks"]] == ["en / de"]
    assert "code / prose" in result["left_out"]
    # The two languages are two sentences, which a dense probe tells apart at once.
    assert result["tasks"][0]["curves"]["dense on B"] > 0.95
    assert [finding["figure"] for finding in found["findings"]] == ["Fig. 3a", "Fig. 9"]
    for svg in draw("probes", result).values():
        xml.dom.minidom.parseString(svg)


def test_texts_that_say_nothing_are_refused(arguments, tmp_path, capsys):
    plain = tmp_path / "plain.jsonl"
    [full] = [a for a in arguments if a.endswith("fit.jsonl")]
    texts = [json.loads(line)["text"] for line in Path(full).read_text("utf-8").splitlines()]
    save_records(plain, ({"text": text} for text in texts))
    changed = [str(plain) if a.endswith(".jsonl") else a for a in arguments]
    assert main(["experiment", "probes", *changed, "--out", str(tmp_path / "out")]) == 1
    assert "texts allow no task" in capsys.readouterr().err


RANDOM = "Random features are no worse, or too few fire to draw from."


def test_verdicts_follow_the_numbers():
    def result(refitted, kept, random):
        task = {
            "name": "t",
            "curves": {
                "ground truth": [0.8, 0.9],
                "transferred, refitted": refitted,
                "transferred, as it is": kept,
                "random features": random,
                "dense on B": 0.95,
                "dense, transferred": 0.94,
                "dense, carried by pairs": 0.94,
            },
        }
        return {"ks": [1, 10], "tasks": [task]}

    findings = experiment("probes").findings
    verdicts = [f.verdict for f in findings(result([0.79, 0.9], [0.7, 0.85], [0.5, 0.6]))]
    assert verdicts == ["reproduced", "reproduced"]
    verdicts = [f.verdict for f in findings(result([0.6, 0.7], [0.6, 0.7], [0.5, 0.6]))]
    assert verdicts == ["partly", "differs"]
    assert findings(result([0.6, 0.7], [0.5, 0.6], [0.7, 0.8]))[0].verdict == "differs"
    # Transferred features that are above random ones, where the model's own are not.
    nothing = findings(result([0.9, 0.95], [0.9, 0.95], [0.85, 0.92]))[0]
    assert (nothing.verdict, nothing.why) == ("differs", RANDOM)
    # Nothing to compare with, and far from the ground truth.
    alone = findings(result([0.6, 0.7], [0.6, 0.7], None))[0]
    assert alone.verdict == "differs"
    assert RANDOM in alone.why

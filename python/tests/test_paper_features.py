# SPDX-License-Identifier: Apache-2.0
"""Section 5's experiments on features, on a tiny random pair; their numbers against SciPy."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from pairs import pair_arguments
from scipy import stats

import suture
from suture.cli import main
from suture.models.tiny import tiny_pair
from suture.paper import measures
from suture.paper.experiments import attribution, draw, entropy, experiment, features

NAMES = ("attribution", "entropy", "features", "labels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where they have been run."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    texts = [{"text": "".join(rng.choice(list("abcd <é>"), 60))} for _ in range(90)]
    options = ("--context", "32", "--d-sae", "48", "--out", str(folder / "out"))
    arguments = pair_arguments(folder, texts[:60], texts[60:], *options)
    own = {"attribution": ["--other-d-sae", "16", "--other-k", "2"], "features": ["--count", "6"]}
    for name in NAMES:
        assert main(["experiment", name, *arguments, *own.get(name, [])]) == 0
    return folder


def result(folder, name):
    return json.loads((folder / "out" / f"{name}.json").read_text("utf-8"))["result"]


def test_attributions_are_those_of_the_functions(folder):
    found = result(folder, "attribution")
    assert [(sae["d_sae"], sae["k"]) for sae in found["saes"]] == [(48, 4), (16, 2)]
    work = folder / "out" / "work"
    sae = suture.SAE.load(work / "sae" / "sae")
    stitch = suture.Stitch.load(next(work.glob("stitch*/stitch.safetensors")))
    acts = [
        suture.Activations.open(path)
        for path in sorted((work / "activations-held_out").iterdir())
        if path.is_dir()
    ]
    layers = [acts_.layers[0] for acts_ in acts]
    small, large, _ = tiny_pair()
    expected = suture.analysis.attribution_correlation(
        sae, acts[0].shards(layers[0]), suture.models.unembedding(small),
        stitch.transfer(sae), acts[1].shards(layers[1]), suture.models.unembedding(large),
        suture.analysis.next_tokens(acts[0]), progress=False,
    )  # fmt: skip
    kept = np.minimum(expected.active_a, expected.active_b) >= found["least_active"]
    values = expected.correlation[kept & np.isfinite(expected.correlation)]
    trained = found["saes"][0]["trained"]
    assert trained["features"] == len(values)
    assert trained["features"] + trained["left_out"] == 48
    assert trained["median"] == pytest.approx(np.median(values), abs=1e-9)
    assert sum(trained["counts"]) == len(values)


def test_attributions_by_method_judge_the_same_features(folder):
    found = result(folder, "attribution")
    rows = {row["method"]: row for row in found["methods"]}
    assert list(rows) == ["stitch", "refit", "pairs"]
    work = folder / "out" / "work"
    acts = [suture.Activations.open(work / "activations-held_out" / side) for side in "ab"]
    held = [one.shards(one.layers[0]) for one in acts]
    heads = [suture.models.unembedding(model) for model in tiny_pair()[:2]]
    for method in ("refit", "pairs"):
        expected = suture.analysis.attribution_correlation(
            suture.SAE.load(work / "sae" / "sae"), held[0], heads[0],
            suture.SAE.load(work / f"moved-{method}" / "sae"), held[1], heads[1],
            suture.analysis.next_tokens(acts[0]), progress=False,
        )  # fmt: skip
        values = np.nan_to_num(expected.correlation[expected.active_a >= found["least_active"]])
        assert rows[method]["features"] == rows["stitch"]["features"] == len(values)
        assert rows[method]["median"] == pytest.approx(np.median(values), abs=1e-9)
        assert sum(rows[method]["counts"]) == len(values)
    [remark] = json.loads((folder / "out" / "attribution.json").read_text("utf-8"))[
        "remarks"
    ].values()
    assert f"pairs: {rows['pairs']['median']:.2f} (" in remark


def test_labels_are_those_of_the_functions(folder):
    found = result(folder, "labels")
    work = folder / "out" / "work"
    acts = [suture.Activations.open(work / "activations-held_out" / side) for side in "ab"]
    held = [one.shards(one.layers[0]) for one in acts]
    first, second = (
        suture.analysis.feature_statistics(suture.SAE.load(path), rows, 20, progress=False)
        for path, rows in ((work / "sae" / "sae", held[0]), (work / "moved-pairs" / "sae", held[1]))
    )
    expected = suture.analysis.label_overlap(first, second)
    stitch, refit, pairs = found["methods"]
    assert pairs["mean"] == pytest.approx(expected.mean)
    assert pairs["share_kept"] == pytest.approx(expected.share_kept)
    assert pairs["control_mean"] == pytest.approx(expected.control_mean)
    assert found["judged"] == expected.judged == sum(pairs["counts"])
    mean = np.dot(pairs["counts"], np.arange(21)) / 20 / expected.judged
    assert mean == pytest.approx(expected.mean)
    # Refitting leaves the encoder alone.
    assert refit["counts"] == stitch["counts"]
    assert len(found["examples"]) == 3
    overlaps = [shown["overlap"]["pairs"] for shown in found["examples"]]
    assert overlaps == sorted(overlaps, reverse=True)
    for shown in found["examples"]:
        top = shown["columns"]["A"][0]
        assert top["row"] == first.example_rows[shown["feature"], 0]
        assert shown["columns"]["B, by pairs"][0]["row"] == second.example_rows[shown["feature"], 0]


def test_entropy_follows_features_to_the_other_model(folder):
    found = result(folder, "entropy")
    a, b = (np.array(found["fraction"][side]) for side in "ab")
    assert found["rank_fraction"] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
    places = np.array(found["strongest"]["places"])
    assert set(a[places]) == set(np.sort(a)[::-1][: len(places)])
    percentile = 100 * stats.rankdata(b)[places] / len(b)
    np.testing.assert_allclose(found["strongest"]["percentile_in_b"], percentile)
    assert found["null_space"]["a"]["directions"] == 1
    # A direction of 16 has, in the largest of n random ones, the quantile of a Beta distribution.
    beta = stats.beta(0.5, 7.5).ppf(0.5 ** (1 / len(a))) ** 0.5
    assert found["null_space"]["a"]["largest_by_chance"] == pytest.approx(beta, abs=0.05)


def test_pages_are_beside_the_report(folder):
    found = result(folder, "features")
    index = folder / "out" / found["pages"]
    assert index.is_file()
    assert len(list(index.parent.glob("feature_*.html"))) == len(found["chosen"]) == 6
    stored = json.loads((index.parent / "features.json").read_text("utf-8"))
    assert [f["original"]["feature"] for f in stored["features"]] == [
        chosen["feature"] for chosen in found["chosen"]
    ]
    for pair in stored["features"]:
        assert pair["original"]["examples"]
        # The texts do not say their language.
        assert pair["structural_score"] is None
        assert pair["transferred"]["null_space_fraction"] is not None


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_drawn(folder, name):
    drawn = draw(name, result(folder, name))
    named = {finding.figure for finding in experiment(name).findings(result(folder, name))}
    assert named <= set(drawn)
    assert all(svg.startswith("<svg ") for svg in drawn.values())


def sae_with(trained, random, above):
    side = {"quartiles": [0.1, 0.9], "above_half": 0.5, "features": 9, "left_out": 0}
    return {
        "d_sae": 9, "k": 2, "above_random": above,
        "trained": side | {"median": trained, "median_of_activations": 0.3},
        "random": side | {"median": random, "median_of_activations": 0.3},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("saes", "expected"),
    [
        ([sae_with(0.8, 0.1, 0.95)], ["reproduced", "reproduced"]),
        ([sae_with(0.2, 0.1, 0.6), sae_with(0.8, 0.1, 0.95)], ["partly", "partly"]),
        ([sae_with(0.8, 0.7, 0.6)], ["reproduced", "differs"]),
        ([sae_with(0.2, 0.3, 0.4)], ["differs", "differs"]),
    ],
)
def test_verdicts_on_attributions_follow_the_numbers(saes, expected):
    found = {"saes": saes, "least_active": 20, "down_explained_variance": 0.5, "edges": [-1, 1]}
    assert [finding.verdict for finding in attribution.findings(found)] == expected


def test_what_is_lost_is_said_from_the_numbers():
    """The stitch is to blame only where activations do not agree either."""
    found = {"least_active": 20, "down_explained_variance": 0.5, "edges": [-1, 1]}
    sae = sae_with(0.2, 0.1, 0.6)
    assert "lost in the stitch" in attribution.findings(found | {"saes": [sae]})[0].why
    sae["trained"]["median_of_activations"] = 0.9
    assert "fire alike, but" in attribution.findings(found | {"saes": [sae]})[0].why


@pytest.mark.parametrize(
    ("largest", "above", "stay", "rank", "expected"),
    [
        (0.9, 5, 0.8, 0.7, "reproduced"),
        (0.9, 5, 0.1, 0.1, "differs"),
        (0.4, 0, 0.6, 0.1, "partly"),
        (0.4, 0, 0.1, None, "differs"),
    ],
)
def test_verdict_on_entropy_follows_the_numbers(largest, above, stay, rank, expected):
    space = {
        "directions": 2, "largest_by_chance": 0.4, "above_chance": above,
        "relative_singular_value": 0.5,
    }  # fmt: skip
    found = {
        "fraction": {"a": [0.1, largest], "b": [0.1, 0.2]}, "features": [0, 1],
        "null_space": {"a": space, "b": space}, "rank_fraction": rank, "rank_maximum": 0.5,
        "strongest": {"places": [1], "still_in_top_tenth": stay},
    }  # fmt: skip
    assert [finding.verdict for finding in entropy.findings(found)] == [expected]


def test_ranks_are_those_of_scipy():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 9, size=60).astype(float), rng.normal(size=60)
    np.testing.assert_array_equal(measures.ranks(x), stats.rankdata(x))
    assert measures.rank_correlation(x, y) == pytest.approx(
        stats.spearmanr(x, y).statistic, abs=1e-9
    )
    assert np.isnan(measures.rank_correlation(np.ones(5), y[:5]))
    share = stats.mannwhitneyu(x, y).statistic / (len(x) * len(y))
    assert attribution._probability_above(x, y) == pytest.approx(share)


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        (attribution.Settings, {"other_k": 0}),
        (attribution.Settings, {"other_d_sae": (4,)}),
        (attribution.Settings, {"bins": 0}),
        (entropy.Settings, {"strongest": 0}),
        (features.Settings, {"count": 0}),
        (features.Settings, {"before": -1}),
        (features.Settings, {"fold_norm": 2}),
        (features.Settings, {"structural": -1}),
    ],
)
def test_settings_are_checked_at_once(settings, change):
    with pytest.raises(ValueError, match=f"{next(iter(change))} is"):
        settings(**change)

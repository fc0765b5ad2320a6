# SPDX-License-Identifier: Apache-2.0
"""The experiment on training costs, on a tiny random pair; and its sums, against NumPy."""

import json
import xml.dom.minidom

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from suture.cli import main
from suture.models.tiny import tiny_pair
from suture.savings import Settings, analysis, results


@pytest.fixture(scope="module")
def savings(tmp_path_factory):
    """Folder of the experiment's results, and the arguments that wrote them."""
    folder = tmp_path_factory.mktemp("savings")
    small, large, tokenizer = tiny_pair()
    for name, model in (("small", small), ("large", large)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rng = np.random.default_rng(0)
    letters = list("abcdefgh ")
    for name, count in (("fit.jsonl", 60), ("held.jsonl", 20)):
        lines = [json.dumps({"text": "".join(rng.choice(letters, 60))}) for _ in range(count)]
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    arguments = [
        "savings",
        *(str(folder / "small"), str(folder / "large")),
        *("--texts", str(folder / "fit.jsonl"), "--held-out", str(folder / "held.jsonl")),
        *("--out", str(folder / "out"), "--context", "32", "--widths", "32", "64", "--k", "4"),
        *("--sae-tokens", "16384", "--batch-size", "128", "--lrs", "1e-3", "1e-2", "--seeds", "2"),
        *("--stitch-tokens", "2000", "--refit-tokens", "2000"),
        *("--tied-rounds", "2", "--tied-tokens", "1000", "--quiet"),
    ]
    assert main(arguments) == 0
    return folder / "out", arguments


def test_every_run_is_there_and_its_costs_add_up(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    kinds = {(row["arm"], row["d_sae"]) for row in found["summary"]}
    arms = ("random", "transferred", "refitted")
    first = {(arm, 32) for arm in ("random_refitted", "tied", "random_tied")}
    assert kinds == {(arm, d) for arm in arms for d in (32, 64)} | first
    assert len(found["headline"]) == (5 + 2) * 2  # starts beside the random one, by two seeds
    tried = {arm: [r["lr"] for r in found["rates"]["rows"] if r["arm"] == arm] for arm in arms}
    assert tried["transferred"] == tried["refitted"] == [1e-3, 1e-2]
    assert tried["random"][-1] > found["rates"]["lrs"]["random"]  # not the highest that was tried
    for curve in found["curves"]:
        # What the last point cost beyond the start is 12 d_in d_sae a token, in whole batches.
        spent = curve["flops"][-1] - curve["flops"][0]
        assert spent == pytest.approx(12 * 24 * curve["d_sae"] * 16384)
        assert (curve["flops"][0] == 0) == (curve["arm"] == "random")
        assert curve["tokens"][-1] == 16384
        assert all(low <= high for low, high in zip(curve["min"], curve["max"], strict=True))
        assert curve["median"][-1] > curve["median"][0]
    parts = {row["arm"]: set(row["spent"]) for row in found["summary"]}
    assert parts["transferred"] == {"stitch", "transfer"}
    assert parts["refitted"] == {"stitch", "transfer", "refit"}
    assert parts["random_refitted"] == parts["random_tied"] == {"refit"}
    assert parts["tied"] == parts["refitted"]
    for row in found["headline"]:
        part = row["held_out"]
        if part["cost"] is not None:
            assert part["saved"] == pytest.approx(1 - part["cost"] / part["random"])


def test_a_refit_explains_more_before_any_training(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    shot = {(row["arm"], row["d_sae"]): row["zero_shot"]["median"] for row in found["summary"]}
    assert shot["refitted", 64] > shot["transferred", 64]
    assert shot["tied", 32] > shot["refitted", 32]


def test_figures_are_well_formed(savings):
    names = {path.stem for path in savings[0].glob("*.svg")}
    assert names == {"saved", "curves", "thresholds", "frontier", "cosine", "rates"}
    for path in savings[0].glob("*.svg"):
        assert xml.dom.minidom.parse(str(path)).documentElement.tagName == "svg"


def test_a_second_run_computes_nothing_and_finds_the_same(savings, capfd):
    out, arguments = savings
    before = json.loads((out / "savings.json").read_text("utf-8"))
    assert main(arguments) == 0
    said = capfd.readouterr().err
    assert "done before" in said
    assert "…" not in said
    after = json.loads((out / "savings.json").read_text("utf-8"))
    assert {**after, "seconds_now": 0} == {**before, "seconds_now": 0}


@pytest.mark.parametrize(
    ("level", "cost"),
    [(0.05, 10.0), (0.1, 10.0), (0.3, 20.0), (0.5, 30.0), (0.55, 32.5), (0.61, None)],
)
def test_cost_to_reach(level, cost):
    # 0.6 is reached on the way, then lost; the first crossing counts.
    found = analysis.cost_to_reach([10, 30, 35, 50], [0.1, 0.5, 0.6, 0.4], level)
    assert found == (None if cost is None else pytest.approx(cost))


def test_power_law_is_the_line_in_the_logarithms(rng):
    costs = 10 ** rng.uniform(9, 13, size=20)
    values = 40 * costs**-0.16 * np.exp(0.1 * rng.normal(size=20))
    slope, constant = np.polyfit(np.log(costs), np.log(values), 1)
    A, beta = analysis.power_law(costs, values)
    assert pytest.approx(np.exp(constant), rel=1e-9) == A
    assert beta == pytest.approx(-slope, rel=1e-9)


def test_cosines_are_numpys(rng):
    end, start = rng.normal(size=(2, 7, 5)).astype(np.float32)
    kept = np.array([True, False, True, True, False, True, True])
    expected = [
        np.dot(end[i], start[i]) / (np.linalg.norm(end[i]) * np.linalg.norm(start[i]))
        for i in np.flatnonzero(kept)
    ]
    np.testing.assert_allclose(analysis.cosines(end, start, kept), expected, rtol=1e-5)


def test_frontier_keeps_what_nothing_cheaper_undercuts(rng):
    costs, values = rng.uniform(size=(2, 50))
    kept = set(zip(*analysis.frontier(costs, values), strict=True))
    for point in zip(costs.tolist(), values.tolist(), strict=True):
        beaten = any(c < point[0] and v <= point[1] for c, v in zip(costs, values, strict=True))
        assert (point in kept) != beaten


def test_headline_charges_the_start(rng):
    """One width, one seed, by hand: the random start's own first crossing is the reference."""

    def run(arm, spent, held_out, training, **more):
        curve = {"flops": [0.0, 100.0, 200.0], "held_out": held_out, "training": training}
        return {"arm": arm, "d_sae": 8, "seed": 0, "spent": spent, "curve": curve, **more}

    runs = [
        run("random", {}, [0.0, 0.6, 0.6], [None, 0.4, 0.5]),
        run(
            "transferred",
            {"stitch": 5.0},
            [0.5, 0.7, 0.8],
            [None, 0.6, 0.7],
            sae_on_a={"flops": 30.0},
        ),
    ]
    [row] = results.headline(runs)
    assert row["held_out"]["random"] == 100
    assert row["held_out"]["cost"] == pytest.approx(5 + 50)
    assert row["held_out"]["saved"] == pytest.approx(0.45)
    assert row["training"]["saved"] == pytest.approx(1 - 105 / 200)
    assert row["with_sae_on_a"]["saved"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sae_tokens", 0), ("seeds", 0), ("widths", ()), ("widths", (16,)), ("lrs", ()),
        ("lrs", (1e-3, 0.0)), ("lr_a", float("nan")), ("context", 1), ("alpha", -1.0),
    ],
)  # fmt: skip
def test_settings_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=name.removesuffix("s").removesuffix("_a")):
        Settings(**{name: value})

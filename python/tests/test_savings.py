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
from suture.savings import Settings, analysis, costs, results
from suture.savings.arms import ARMS
from suture.savings.pipeline import Savings, even_rows


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
        *("--tied-rounds", "2", "--tied-tokens", "1000"),
        *("--pair-tokens", "1500", "--pair-sample", "500", "--pair-refit-tokens", "1000"),
        *("--fidelity-rows", "800", "--quiet"),
    ]
    assert main(arguments) == 0
    return folder / "out", arguments


def test_every_run_is_there_and_its_costs_add_up(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    kinds = {(row["arm"], row["d_sae"]) for row in found["summary"]}
    arms = ("random", "transferred", "refitted", "tied", "pairs", "pairs_kept")
    first = {(arm, 32) for arm in ("random_refitted", "random_tied")}
    assert kinds == {(arm, d) for arm in arms for d in (32, 64)} | first
    assert len(found["headline"]) == (7 + 5) * 2  # starts beside the random one, by two seeds
    tried = {arm: [r["lr"] for r in found["rates"]["rows"] if r["arm"] == arm] for arm in ARMS}
    # Each start at rates of its own, none twice; the higher one is the last that was needed.
    assert tried["pairs_kept"] == []
    assert all(lrs[:2] == [1e-3, 1e-2] for arm, lrs in tried.items() if arm != "pairs_kept")
    assert tried["random"][-1] > found["rates"]["lrs"]["random"]  # not the highest that was tried
    assert found["rates"]["lrs"]["pairs_kept"] in tried["pairs"]
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
    assert parts["pairs"] == parts["pairs_kept"] == {
        *("forward_a", "codes_a", "sums", "regression", "calibration", "rounds"),
        *("first_decoder", "comparison", "refit"),
    }  # fmt: skip
    for row in found["headline"]:
        part = row["held_out"]
        if part["cost"] is not None:
            assert part["saved"] == pytest.approx(1 - part["cost"] / part["random"])


def test_carrying_is_charged_for_the_rows_that_it_read(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    [row] = [r for r in found["summary"] if (r["arm"], r["d_sae"]) == ("pairs", 64)]
    spent = {name: part["median"] for name, part in row["spent"].items()}
    read = 1500 // 32 * 32  # whole blocks of the context
    assert spent["codes_a"] == 2 * 16 * 64 * read
    held = spent["comparison"] / (2 * 24 * 64)
    assert held % 1 == 0
    assert 0 < held < read / 4
    assert spent["sums"] == (2 * 24 * 24 + 2 * 4 * 24) * (read - held)
    assert spent["calibration"] == 10 * (2 * 24 + 3) * 64 * 500
    assert spent["rounds"] == 2 * 24 * 64 * 500 + 4 * 4 * 24 * 500 + 4 * 64 * 24 * 24
    stitch = found["stitch"]["costs"]["forward_a"]
    assert spent["forward_a"] / read == pytest.approx(stitch / 2000)


def test_likeness_is_measured_along_every_run_from_a(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    curves = {(curve["arm"], curve["d_sae"]): curve for curve in found["curves"]}
    for (arm, _), curve in curves.items():
        assert ("correlation" in curve) == (not arm.startswith("random"))
        if "correlation" not in curve:
            continue
        names = ("correlation_lower", "correlation", "correlation_upper")
        for low, middle, high in zip(*(curve[name] for name in names), strict=True):
            assert -1 <= low <= middle <= high <= 1
        assert len(curve["correlation"]) == len(curve["tokens"])
    for row in found["summary"]:
        if row["arm"].startswith("random"):
            assert "fidelity" not in row
            continue
        alike, curve = row["fidelity"], curves[row["arm"], row["d_sae"]]
        assert alike["rows"] == 800
        assert alike["judged"]["min"] > 0
        # The end of the curve is the end that the summary tells of.
        assert alike["median"]["median"] == pytest.approx(curve["correlation"][-1])
        assert alike["start"]["median"] == pytest.approx(curve["correlation"][0])
    # Carried by pairs latents are more alike than through a stitch; a decoder's refit leaves them.
    alike = {
        kind: curve["correlation"][0]
        for kind, curve in curves.items()
        if kind[1] == 64 and "correlation" in curve
    }
    assert alike["pairs", 64] > alike["transferred", 64] + 0.05
    assert alike["refitted", 64] == pytest.approx(alike["transferred", 64], rel=1e-6)
    assert alike["pairs_kept", 64] == alike["pairs", 64]


def test_a_refit_explains_more_before_any_training(savings):
    found = json.loads((savings[0] / "savings.json").read_text("utf-8"))
    shot = {(row["arm"], row["d_sae"]): row["zero_shot"]["median"] for row in found["summary"]}
    assert shot["refitted", 64] > shot["transferred", 64]
    assert shot["tied", 32] > shot["refitted", 32]


def test_figures_are_well_formed(savings):
    names = {path.stem for path in savings[0].glob("*.svg")}
    assert names == {"saved", "curves", "answers", "thresholds", "frontier", "cosine", "rates"}
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


def made_up(arm, seed, before, held_out, correlation=None, *, lr=1.0):
    """A run of three points at 100 operations each, with what its start took."""
    curve = {
        "tokens": [0, 50, 100],
        "flops": [0.0, 100.0, 200.0],
        "held_out": held_out,
        "training": [None, *held_out[1:]],
    }
    if correlation is not None:
        names = ("correlation", "correlation_lower", "correlation_upper", "share_active")
        curve |= dict.fromkeys(names, correlation)
    run = {"arm": arm, "d_sae": 8, "seed": seed, "lr": lr, "curve": curve}
    return run | {"spent": {"start": before} if before else {}}


def test_two_answers_on_curves_made_up():
    runs = [
        run
        for seed in (0, 1)
        for run in (
            made_up("random", seed, 0.0, [0.0, 0.6, 0.8]),
            made_up("transferred", seed, 10.0, [0.5, 0.7, 0.9], [0.2, 0.15, 0.1]),
            # Refitted, codes are the same but for rounding, and dearer.
            made_up("refitted", seed, 20.0, [0.65, 0.7, 0.9], [0.2 + 1e-9, 0.15, 0.1]),
            # Tied explains most, and has nothing of A's left.
            made_up("tied", seed, 40.0, [0.78, 0.82, 0.84], [0.1, 0.1, 0.1]),
            # By pairs: dear, and stays itself; with one seed it falls below the stitch at the end.
            made_up("pairs", seed, 60.0, [0.7, 0.8, 0.9], [0.6, 0.4, 0.25 if seed else 0.15]),
        )
    ]
    [found] = results.answers(runs)
    assert (found["d_sae"], found["target"]["median"]) == (8, 0.8)
    assert found["floor"]["median"] == pytest.approx(0.2)
    cost = {row["arm"]: row["cost"]["median"] for row in found["explained"]}
    assert cost == {
        "transferred": pytest.approx(10 + 150), "refitted": pytest.approx(20 + 150),
        "tied": pytest.approx(40 + 50),
        "pairs": pytest.approx(60 + 100),
    }  # fmt: skip
    assert found["cheapest"] == "tied"
    saved = {row["arm"]: row["saved"]["median"] for row in found["explained"]}
    assert saved["tied"] == pytest.approx(1 - 90 / 200)
    kept = {(row["arm"], row["level"]): row for row in found["kept"]}
    assert kept["pairs", None]["correlation"]["median"] == pytest.approx(0.4)
    assert kept["pairs", None]["holds"]
    assert not kept["tied", None]["holds"]
    assert not kept["transferred", None]["holds"]
    # At 0.9 one seed is below its floor; 0.92 is never reached, so there is no row of it.
    assert kept["pairs", 0.9]["correlation"]["max"] == 0.25
    assert not kept["pairs", 0.9]["holds"]
    assert ("pairs", 0.92) not in kept
    cheapest = {row["level"]: row["arm"] for row in found["cheapest_kept"]}
    assert cheapest[None] == cheapest[0.68] == cheapest[0.88] == "pairs"
    assert cheapest[0.6] == "refitted"
    # Before any training a transferred start is as cheap as can be, and as it was.
    assert cheapest[0.5] == "transferred"
    assert cheapest[0.9] is None
    looks = {(row["arm"], row["tokens"]): row for row in found["looks"]}
    assert [tokens for arm, tokens in looks if arm == "pairs"] == [0, 20, 60, 100]
    assert looks["pairs", 20]["correlation"] == pytest.approx(0.6 - 0.4 * 0.2)
    assert looks["pairs", 20]["share_active"] == pytest.approx(0.6 - 0.4 * 0.2)
    assert looks["pairs", 60]["explained_variance"] == pytest.approx(0.82)
    assert looks["pairs", 60]["flops"] == pytest.approx(60 + 120)
    assert "correlation" not in looks["random", 0]


def test_the_rate_that_keeps_features_explains_most_of_those_above_the_floor():
    def sweep(*ends):
        pairs = [
            made_up("pairs", 0, 1.0, [0.5, 0.6, level], [0.6, 0.5, alike], lr=lr)
            for lr, level, alike in ends
        ]
        return [made_up("transferred", 0, 1.0, [0.5, 0.6, 0.9], [0.2, 0.1, 0.1]), *pairs]

    assert results.kept_lr(sweep((1.0, 0.7, 0.4), (2.0, 0.8, 0.2), (4.0, 0.9, 0.19)), "pairs") == 2
    assert results.kept_lr(sweep((1.0, 0.7, 0.15), (2.0, 0.8, 0.1)), "pairs") == 1


def test_rates_are_tried_as_far_as_they_help():
    """A sweep whose runs are made up: where each start is best, and what its features are then."""
    best = {"random": 8.0, "transferred": 1.0, "pairs": 2.0}

    class MadeUp(Savings):
        def __init__(self):
            arms = (*best, "pairs_kept")
            self.settings = Settings(widths=(64,), lrs=(4.0, 1.0, 2.0), arms=arms)

        def _try(self, arm, d_sae, lr):
            assert d_sae == 64
            end = 0.8 - 0.1 * abs(np.log2(lr / best[arm]))
            alike = None if arm == "random" else [0.3, 0.2, 0.15 / lr]
            return made_up(arm, 0, 1.0, [0.5, 0.6, end], alike, lr=lr)

    found = MadeUp().sweep()
    tried = {arm: [run["lr"] for run in found if run["arm"] == arm] for arm in best}
    # The random start gets rates until one is worse, transferred ones none above a worse one.
    assert tried["random"] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert tried["transferred"] == [1.0, 2.0]
    # 0.15 at the rate of 1 is below the stitch's 0.3 before training, and half that rate is not.
    assert tried["pairs"] == [1.0, 2.0, 4.0, 0.5]
    assert results.kept_lr(found, "pairs") == 0.5
    assert results.best_lr(found, "pairs") == 2.0


def test_costs_of_carrying_are_sums_over_its_parts():
    """Against the dense sizes of suture.carry's steps, at the sizes of the pair of models."""
    d_a, d_b, m, k, n = 96, 192, 4096, 32, 50_000
    found = costs.carry(d_a, d_b, m, k, fitted=n - 3000, held_out=3000, sample=30_000, rounds=2)
    assert found["codes_a"] == 2 * d_a * m * n
    assert found["sums"] == (n - 3000) * (2 * d_b**2 + 2 * k * d_b)
    # 6 looks, 2 after the first round and 4 after the last, at no more than 20,000 rows.
    assert found["calibration"] == 12 * 20_000 * m * (2 * d_b + 3)
    assert found["rounds"] == 2 * (30_000 * (2 * d_b * m + 4 * k * d_b) + 4 * m * d_b**2)
    assert found["comparison"] == 3000 * 2 * d_b * m
    without = costs.carry(d_a, d_b, m, k, fitted=n, held_out=0, sample=30_000, rounds=0)
    assert without["rounds"] == 0
    assert without["calibration"] == found["calibration"] / 2
    # Beyond 4,096 latents the decoder is solved iteratively: no cube of the latents.
    wide = costs.carry(d_a, d_b, 16 * m, k, fitted=n, held_out=0, sample=30_000, rounds=0)
    assert wide["first_decoder"] < (16 * m) ** 3 / 3


def test_rows_taken_evenly_are_whole_blocks_from_begin_to_end():
    rows = even_rows(1000, 120, 32)
    assert len(rows) == 96
    assert (rows.reshape(3, 32) == rows.reshape(3, 32)[:, :1] + np.arange(32)).all()
    assert (rows[0], rows[-1]) == (0, 999)
    assert len(np.unique(rows)) == 96
    assert even_rows(50, 120, 32).tolist() == list(range(50))


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (("random", "nothing"), "arms holds 'nothing', expected random, transferred"),
        (("random", "pairs_kept"), "arms holds 'pairs_kept', expected 'pairs' beside it"),
        (("tied",), "expected 'random', and another"),
        (("random", "random"), "expected 'random', and another"),
    ],
)
def test_starts_that_cannot_be_compared_are_refused(arms, message):
    with pytest.raises(ValueError, match=message):
        Settings(arms=arms)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pair_tokens", 1), ("pair_sample", 0), ("pair_rounds", 101), ("pair_refit_tokens", 0),
        ("fidelity_rows", 1), ("sae_tokens", 0), ("seeds", 0), ("widths", ()),
        ("widths", (16,)), ("lrs", ()), ("lrs", (1e-3, 0.0)), ("lr_a", float("nan")),
        ("context", 1), ("alpha", -1.0),
    ],
)  # fmt: skip
def test_settings_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=name.removesuffix("s").removesuffix("_a")):
        Settings(**{name: value})

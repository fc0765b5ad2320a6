# SPDX-License-Identifier: Apache-2.0
"""The paper's experiments as one report, on a tiny random pair; findings and page by themselves."""

import html
import json
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from pairs import pair_arguments, strict_json

import suture
from suture import paper
from suture.cli import main
from suture.paper import moved
from suture.paper.experiments import experiment
from suture.paper.finding import Finding, verdict


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """What comes after the sub-command, but for the folder of the results."""
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    texts = [{"text": "".join(rng.choice(list("abcdefgh "), 60))} for _ in range(80)]
    return pair_arguments(folder, texts[:60], texts[60:], "--context", "32", "--d-sae", "64")


@pytest.fixture(scope="module")
def report(arguments, tmp_path_factory):
    """A report on the first experiments."""
    out = tmp_path_factory.mktemp("paper")
    assert main(["paper", *arguments, "--out", str(out), "--only", "stitching", "transfer"]) == 0
    return out


def test_page_has_a_figure_and_a_verdict_for_each_finding(report):
    results = strict_json(report / "paper.json")
    findings = [f for e in results["experiments"] for f in e["findings"]]
    assert [f["figure"] for f in findings] == ["Fig. 6", "Table 1", "Fig. 7", "Table 2"]
    page = (report / "report.html").read_text("utf-8")
    assert page.count("<svg ") == 5
    for finding in findings:
        assert finding["paper"]
        assert finding["here"]
        assert page.count(f"{finding['figure']}: ") >= 1
    assert not re.search(r"<(script|img|link|iframe)|@import|url\((?!#)", page)
    assert (report / "figures" / "fig-6.svg").read_text("utf-8").startswith("<svg ")


def test_numbers_are_those_of_the_stitch(report):
    """The weight of the fit is among those compared: its row must be that of the stitch itself."""
    result = strict_json(report / "stitching.json")["result"]
    [fit] = [row for row in result["alphas"] if row["alpha"] == 1.0]
    for term, value in result["stitch"]["held_out"].items():
        assert fit["held_out"][term] == pytest.approx(value, rel=1e-12), term
    trips = [
        row["held_out"]["a_round_trip"] + row["held_out"]["b_round_trip"]
        for row in result["alphas"]
    ]
    assert trips[0] > trips[-1]


def test_a_sae_is_moved_by_every_method(report):
    """Beside Table 2's, by the functions themselves; the verdict is on the paper's method."""
    found = strict_json(report / "transfer.json")
    rows = {row["method"]: row for row in found["result"]["methods"]}
    assert list(rows) == list(moved.METHODS)
    assert rows["stitch"]["fvu"] == pytest.approx(found["result"]["rows"][1]["fvu"], rel=1e-12)
    work = report / "work"
    acts = [suture.Activations.open(work / "activations-held_out" / side) for side in ("a", "b")]
    held = [one.shards(one.layers[0]) for one in acts]
    original = suture.SAE.load(work / "sae" / "sae")
    carried = suture.SAE.load(work / "moved-pairs" / "sae")
    assert carried.evidence is not None
    summary = suture.fidelity(original, held[0], carried, held[1], progress=False).summary()
    assert rows["pairs"]["correlation"][1] == summary.correlation.median
    assert rows["pairs"]["share_active"] == summary.share_active
    [finding] = found["findings"]
    assert f"{rows['stitch']['correlation'][1]:.2f} in the median" in finding["here"]
    [remark] = found["remarks"].values()
    assert f"{rows['pairs']['correlation'][1]:.2f} in the median" in remark
    assert remark in html.unescape((report / "report.html").read_text("utf-8"))


def test_a_second_run_computes_nothing_again(arguments, report, capsys):
    stamps = {path: path.stat().st_mtime_ns for path in (report / "work").rglob("step.json")}
    assert len(stamps) >= 8
    capsys.readouterr()
    assert main(["experiment", "stitching", *arguments, "--out", str(report), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"] == strict_json(report / "stitching.json")["result"]
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_what_is_not_possible_is_left_out_and_said(arguments, tmp_path, monkeypatch):
    def refuse(ground, settings):
        raise ValueError("texts have no <languages>")

    monkeypatch.setattr(experiment("transfer"), "run", refuse)
    out = tmp_path / "out"
    assert main(["paper", *arguments, "--out", str(out), "--only", "stitching", "transfer"]) == 0
    assert strict_json(out / "paper.json")["left_out"] == {"transfer": "texts have no <languages>"}
    assert "texts have no &lt;languages&gt;" in (out / "report.html").read_text("utf-8")
    assert main(["paper", *arguments, "--out", str(out), "--only", "transfer"]) == 1


def test_settings_of_an_experiment_reach_it(arguments, tmp_path, report):
    out = str(report)
    assert main(["experiment", "stitching", *arguments, "--out", out, "--alphas", "0", "3"]) == 0
    result = strict_json(report / "stitching.json")["result"]
    assert [row["alpha"] for row in result["alphas"]] == [0.0, 3.0]


def test_savings_go_on_from_what_is_there(arguments, report):
    before = {path: path.stat().st_mtime_ns for path in (report / "work").rglob("step.json")}
    small = ["--widths", "32", "--seeds", "1", "--run-tokens", "8192", "--run-batch-size", "128"]
    small += ["--lrs", "1e-2", "--charged-tokens", "1000"]
    assert main(["experiment", "savings", *arguments, "--out", str(report), *small]) == 0
    found = strict_json(report / "savings.json")
    figures = [finding["figure"] for finding in found["findings"]]
    assert figures == ["Fig. 1c, Table 4", "Fig. 2a", "Fig. 2b"]
    assert found["result"]["tokens"]["train"] == strict_json(report / "paper.json")["tokens"]["fit"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    # The stitch of this experiment is one of its own, on the tokens it is charged for.
    [own] = (report / "savings" / "work").glob("stitch/step.json")
    assert strict_json(own)["result"]["after"]["tokens"] == 1000


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"only": []}, "only is empty"),
        ({"only": ["nothing"]}, "name is 'nothing', expected one of stitching"),
        ({"settings": {"nothing": 1}}, "settings has"),
    ],
)
def test_bad_arguments_are_named(change, word):
    with pytest.raises(ValueError, match=re.escape(word)):
        paper.write("a", "b", ["t"], ["h"], "out", **change)


def test_the_command_line_starts_without_torch():
    """It takes seconds to load, which `suture info` needs not wait for."""
    code = (
        "import sys; from suture.cli import main; main(['info']); "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_settings_of_another_experiment_are_refused():
    other = experiment("transfer").Settings()
    with pytest.raises(TypeError, match=r"settings of stitching is a Settings, expected"):
        paper.run("stitching", "a", "b", ["t"], ["h"], "out", settings=other)
    with pytest.raises(ValueError, match="alphas"):
        experiment("stitching").Settings(alphas=(-1.0,))


def test_verdicts_follow_the_numbers():
    assert verdict(reproduced=True, partly=True) == "reproduced"
    assert verdict(reproduced=False) == "differs"
    with pytest.raises(ValueError, match="verdict is 'maybe'"):
        Finding("Fig. 1", "", "", "", "maybe")
    rows = [
        {"fvu": 0.1, "delta_loss": 0.1, "dead_fraction": 0.0},
        {"fvu": 0.4, "delta_loss": 0.3, "dead_fraction": 0.0},
        {"fvu": 1.4, "delta_loss": 3.0, "dead_fraction": 0.0},
    ]
    # How other methods do has no say in it.
    methods = [
        {"method": "stitch", "correlation": [0.1, 0.2, 0.3]},
        {"method": "pairs", "correlation": [0.7, 0.8, 0.9], "fvu": 0.0},
    ]

    def findings():
        return experiment("transfer").findings({"rows": rows, "methods": methods})

    assert findings()[0].verdict == "reproduced"
    assert "0.20 in the median (quartiles 0.10 and 0.30)" in findings()[0].here
    rows[1]["fvu"] = 0.9
    assert findings()[0].verdict == "partly"
    rows[1]["fvu"] = 2.0
    assert findings()[0].verdict == "differs"

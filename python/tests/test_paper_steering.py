# SPDX-License-Identifier: Apache-2.0
"""The experiment on steering to other languages: on a tiny pair, and its findings by themselves."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("langdetect")
pytest.importorskip("scipy")

from pairs import pair_arguments

from suture.cli import main
from suture.models.languages import interval, relative_gap
from suture.paper.drawings.steering import draw
from suture.paper.experiments.steering import Settings, by_language, findings

TEXT = {"en": "The file is read by the program. ", "de": "Die Datei wird gelesen. "}


def write_pair(folder: Path, languages: bool = True) -> list[str]:
    fit, held_out = (
        [
            {"text": text * 3, "page": f"{i}"} | ({"lang": lang} if languages else {})
            for i in range(count)
            for lang, text in TEXT.items()
        ]
        for count in (40, 30)
    )
    options = ("--context", "32", "--prompts", "24", "--prompt-tokens", "8", "--new-tokens", "10")
    return [
        "experiment",
        "steering",
        *pair_arguments(folder, fit, held_out, *options, "--vector-tokens", "500"),
    ]


def test_on_a_tiny_pair(tmp_path: Path) -> None:
    arguments = write_pair(tmp_path)
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out)]) == 0
    found = json.loads((out / "steering.json").read_text("utf-8"))
    result = found["result"]
    assert [(row["source"], row["target"], row["language"]) for row in result["rows"]] == [
        ("a", "b", "de"), ("b", "a", "de"),
    ]  # fmt: skip
    assert all(row["paired"] for row in result["rows"])
    assert result["real"]["en"]["n"] == 30
    assert sum(result["unsteered"]["a"].values()) == result["prompts"] == 24
    assert sum(result["frequency"].values()) == pytest.approx(1)
    assert [finding["figure"] for finding in found["findings"]] == [
        "Fig. 3b", "Fig. 3c", "Tables 5 and 6", "Fig. 11",
    ]  # fmt: skip
    # A random model speaks no language that it could be steered to.
    assert found["findings"][0]["verdict"] == "differs"
    assert (out / "figures" / "fig-3b.svg").read_text("utf-8").startswith("<svg ")
    stamp = (out / "work" / "steering" / "step.json").stat().st_mtime_ns
    assert main([*arguments, "--out", str(out)]) == 0
    assert (out / "work" / "steering" / "step.json").stat().st_mtime_ns == stamp


def test_texts_without_languages_are_refused(tmp_path: Path, capsys: Any) -> None:
    assert main([*write_pair(tmp_path, languages=False), "--out", str(tmp_path / "out")]) == 1
    assert 'texts have no languages, expected JSON lines with a "lang"' in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": 23},
        {"new_tokens": 0},
        {"strengths": ()},
        {"strengths": (0.0,)},
        {"temperature": 0},
    ],
)
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        Settings(**change)


def made_up(native: dict[str, float], moved: dict[str, float], none: float = 0.0) -> dict[str, Any]:
    """A result with the shares of both directions; frequencies in the order of the languages."""

    def share(kind: str, strength: float | None, value: float) -> dict[str, Any]:
        hits = round(100 * value)
        low, high = interval(hits, 100)
        return {
            "kind": kind, "strength": strength, "hits": hits, "n": 100, "undetected": 0,
            "share": hits / 100, "low": low, "high": high,
        }  # fmt: skip

    rows = [
        {
            "source": source, "target": target, "language": language, "cosine": 0.9,
            "shares": [
                share("none", None, none),
                *(
                    share(kind, strength, part[language])
                    for strength in (1.0, 2.0)
                    for kind, part in (("native", native), ("transferred", moved))
                ),
            ],
            "gaps": dict.fromkeys("12", relative_gap(moved[language], native[language])),
        }
        for language in native
        for source, target in ("ab", "ba")
    ]  # fmt: skip
    return {
        "source_language": "en", "prompts": 100, "strengths": [1.0, 2.0], "rows": rows,
        "unsteered": {"a": {"en": 80, "": 20}, "b": {"en": 90}},
        "real": {language: {"share": 0.9} for language in ["en", *native]},
        "frequency": {language: 0.1 * (i + 1) for i, language in enumerate(native)},
    }  # fmt: skip


NATIVE = {"de": 0.8, "es": 0.7, "fr": 0.8, "it": 0.6, "nl": 0.9, "pl": 0.8}
GOOD = {language: share - 0.05 for language, share in NATIVE.items()}
#: Rare languages do not cross, frequent ones do.
SPLIT = {"de": 0.0, "es": 0.05, "fr": 0.1, "it": 0.58, "nl": 0.88, "pl": 0.8}


@pytest.mark.parametrize(
    ("native", "moved", "none", "verdicts"),
    [
        (NATIVE, GOOD, 0.02, ["reproduced", "partly", "reproduced", None]),
        (NATIVE, SPLIT, 0.02, ["partly", "reproduced", "differs", "reproduced"]),
        (NATIVE, dict.fromkeys(NATIVE, 0.0), 0.02, ["differs", "differs", "differs", "differs"]),
        # Native vectors that do nothing: there is nothing to transfer.
        (NATIVE, NATIVE, 0.7, ["differs", "differs", "differs", "differs"]),
        (NATIVE, SPLIT, 0.7, ["differs", "differs", "differs", "differs"]),
    ],
)
def test_verdicts_follow_the_numbers(
    native: Any, moved: Any, none: float, verdicts: list[str | None]
) -> None:
    found = findings(made_up(native, moved, none))
    for finding, wanted in zip(found, verdicts, strict=True):
        if wanted is not None:
            assert finding.verdict == wanted, finding
        assert finding.here
        assert (finding.verdict == "reproduced") == (finding.why == ""), finding


def test_few_languages_show_no_trend() -> None:
    few = {language: NATIVE[language] for language in ("de", "es", "fr")}
    rising = {"de": 0.1, "es": 0.4, "fr": 0.8}
    trend = findings(made_up(few, rising))[3]
    assert trend.verdict == "partly"
    assert "3 languages" in trend.why
    # Whichever way three go, by chance they rise as often as not.
    assert findings(made_up(few, {"de": 0.4, "es": 0.1, "fr": 0.6}))[3].verdict == "differs"


def test_rank_correlation_is_that_of_scipy() -> None:
    from scipy.stats import spearmanr

    result = made_up(NATIVE, SPLIT | {"de": 0.05 * 0.8 / 0.7})
    _, frequency, gaps = zip(*by_language(result), strict=True)
    wanted = spearmanr(frequency, gaps).statistic
    assert f"{wanted:+.2f}" in findings(result)[3].here


def test_drawings_show_every_row() -> None:
    result = made_up(NATIVE, SPLIT, 0.02)
    drawn = draw(copy.deepcopy(result))
    assert set(drawn) == {finding.figure for finding in findings(result)}
    for svg in drawn.values():
        assert svg.startswith("<svg ")
    for language in NATIVE:
        assert f">{language}</text>" in drawn["Tables 5 and 6"].replace("\n", "")

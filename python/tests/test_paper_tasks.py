# SPDX-License-Identifier: Apache-2.0
"""Tasks for probes: what is a sample, balance, and that nothing leaks from training to testing."""

import numpy as np
import pytest

from suture.paper.tasks import cut, kind_of, tasks

LINES = {
    "en": "the quick brown fox jumps over the lazy dog and runs away into the dark forest at night",
    "de": "der schnelle braune fuchs springt ueber den faulen hund und rennt fort in den wald",
    "fr": "le rapide renard brun saute sur le chien et court dans la foret sombre",
}
OPTION = "-v, --verbose\n    explain what is being done, at length and with patience"
CODE = "int main(void) {\n  return f(x) * (y + 1);  /* a comment */\n}\nvoid g(int *p);"


def records(pages=60):
    """Pages of three sections in two or three languages, with prose, options and code."""
    found = []
    for number in range(pages):
        section = (1, 2, 3)[number % 3]
        for lang in ("en", "de", "fr"):
            if lang == "fr" and section != 1:
                continue
            text = "\n\n".join([LINES[lang] + "."] * 8 + [OPTION] * 8 + [CODE] * 8)
            found.append({"text": text, "lang": lang, "page": f"page{number}.{section}"})
    return found


@pytest.fixture(scope="module")
def made():
    samples = cut(records())
    return samples, *tasks(samples, 400, 100)


def test_what_a_paragraph_looks_like():
    assert [kind_of(text) for text in (OPTION, CODE, LINES["en"])] == ["option", "code", "prose"]
    assert kind_of("NAME\n    a heading and a few words after it") == ""


def test_long_paragraphs_are_cut_at_spaces_and_short_ones_dropped():
    words = " ".join(f"word{i}" for i in range(200))
    pieces = [sample.text for sample in cut([{"text": words + "\n\nshort"}])]
    assert all(40 <= len(piece) <= 320 for piece in pieces)
    assert words.startswith(" ".join(pieces))
    assert len(" ".join(pieces)) > len(words) - 40


def test_classes_are_balanced_and_pages_are_on_one_side(made):
    samples, found, _ = made
    assert len(found) >= 5
    for task in found:
        for places, y, most in ((task.train, task.y_train, 400), (task.test, task.y_test, 100)):
            assert len(places) == len(set(places.tolist())) == len(y) <= most
            assert y.sum() * 2 == len(y)
        sides = [{samples[i].group for i in places} for places in (task.train, task.test)]
        assert not sides[0] & sides[1]


def test_language_tells_nothing_where_it_is_not_the_question(made):
    samples, found, _ = made
    for task in found:
        if task.name not in ("option list / prose", "code / prose", "library / system call"):
            continue
        langs = np.array([samples[i].lang for i in task.train])
        for lang in np.unique(langs):
            share = task.y_train[langs == lang].mean()
            assert share == pytest.approx(0.5, abs=0.02), (task.name, lang)


def test_labels_are_those_of_the_samples(made):
    samples, found, _ = made
    by_name = {task.name: task for task in found}
    task = by_name["code / prose"]
    assert [samples[i].kind == "code" for i in task.train] == task.y_train.tolist()
    task = by_name["library / system call"]
    assert [samples[i].section == "3" for i in task.test] == task.y_test.tolist()


def test_what_is_left_out_says_why():
    samples = cut([{"text": LINES["en"], "page": "a.1"}] * 3)
    found, left_out = tasks(samples, 400, 100)
    assert found == []
    assert "less than two languages" in left_out["languages"]
    assert "expected at least" in left_out["code / prose"]
    # Library pages in another language than commands: the task is still there, and says so.
    pages = [r for r in records() if (r["lang"] == "fr") == r["page"].endswith(".1")]
    names = [task.name for task in tasks(cut(pages), 400, 100)[0]]
    assert "command / library page, languages differ" in names

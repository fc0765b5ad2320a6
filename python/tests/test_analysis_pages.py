# SPDX-License-Identifier: Apache-2.0
"""Examples in context, summaries, their pages, and `suture analyse`."""

import dataclasses
import html
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import suture
from suture import analysis
from suture.analysis._pick import pick_features

pytest.importorskip("jinja2")

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</span></li><style>*{display:none}</style>",
    "\u202etxt.exe\u202c\u2066",
    "a\x00b\x1b[31m\n\t\r",
    "javascript:alert(1)' onclick='x",
    "&lt;b&gt;&amp;",
    "\ud800",
]


class Words:
    """Token i is the text HOSTILE[i]."""

    def decode(self, ids):
        return "".join(HOSTILE[i] for i in ids)


def eye_sae(d):
    eye = np.eye(d)
    return suture.SAE(W_enc=eye, b_enc=np.zeros(d), W_dec=eye, b_dec=np.zeros(d), k=1)


def texts(ids, positions=None, sequence=None, d=9, scale=None):
    rows = np.eye(d, dtype=np.float32)[ids]
    rows = rows * (np.ones(len(ids)) if scale is None else np.asarray(scale))[:, None]
    return suture.Activations(
        {0: rows.astype(np.float32)},
        token_ids=ids,
        positions=np.arange(len(ids)) if positions is None else positions,
        sequence=np.zeros(len(ids), int) if sequence is None else sequence,
    )


class Reader(HTMLParser):
    """Tags, attributes and the text in between, as a browser sees them."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def hostile():
    acts = texts(list(range(len(HOSTILE))))
    [summary] = analysis.summarise_features(
        eye_sae(9), acts, [4], np.eye(9), Words(), words=9, progress=False
    )
    return analysis.FeaturePair(
        summary, summary, attribution_correlation=float("nan"), note="<b>why</b>"
    )


def test_texts_of_tokens_do_nothing_but_show(hostile):
    page = analysis.feature_page(hostile, names=("<i>A</i>", "B"))
    reader = Reader(page)
    assert not {"script", "img", "i", "b"} & set(reader.tags)
    assert reader.tags.count("style") == 1
    assert not [name for name in reader.attributes if name.startswith("on")]
    for word in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3], HOSTILE[6], HOSTILE[7]):
        # Three times: promoted, suppressed, example; on each of two sides.
        assert reader.text.count(word) == 6
    assert "49" not in reader.text
    assert "\\u{202e}txt.exe\\u{202c}\\u{2066}" in reader.text
    assert "a\\u{0}b\\u{1b}[31m↵⇥␍" in reader.text
    assert "\\u{d800}" in reader.text
    assert not set("\u202e\u2066\x00\x1b") & set(page)
    page.encode("utf-8")


def test_pages_are_written_whole(hostile, tmp_path):
    other = analysis.FeaturePair(analysis.FeatureSummary(7, 0.0, float("nan"), 0.0))
    index = analysis.write_feature_pages([hostile, other], tmp_path / "new" / "pages", title="<T>")
    names = sorted(path.name for path in index.parent.iterdir())
    assert names == ["feature_00004.html", "feature_00007.html", "features.json", "index.html"]
    links = re.findall(r'href="([^"]*)"', index.read_text("utf-8"))
    assert {link for link in links if link.endswith("html")} == set(names) - {
        "features.json",
        "index.html",
    }
    assert Reader(index.read_text("utf-8")).tags.count("script") == 0
    stored = json.loads((index.parent / "features.json").read_text("utf-8"))
    assert stored["features"][0] == json.loads(json.dumps(hostile.to_dict()))
    assert stored["features"][0]["attribution_correlation"] is None
    assert stored["features"][1]["original"]["mean"] is None
    assert "active on none" in (index.parent / "feature_00007.html").read_text("utf-8")


def test_examples_have_the_context_of_their_own_text():
    #           row:  0  1  2  3  4  5  6  7
    acts = texts([0, 1, 2, 1, 0, 1, 2, 1], positions=[1, 2, 4, 5, 6, 0, 1, 2],
                 sequence=[0, 0, 0, 0, 0, 1, 1, 1], scale=[1, 5, 1, 3, 1, 4, 1, 2])  # fmt: skip
    sae = eye_sae(9)
    rows = analysis.feature_statistics(sae, acts, 10, progress=False).example_rows
    assert rows[1, :5].tolist() == [1, 5, 3, 7, -1]
    [found] = analysis.feature_examples(sae, acts, [1], rows[[1]], Words(), before=1, after=1)
    # Row 1 ends at the gap before row 2, row 5 begins a text.
    assert [e.row for e in found] == [1, 5, 3, 7]
    assert [(len(e.tokens), e.place) for e in found] == [(2, 1), (2, 0), (3, 1), (2, 1)]
    assert found[2].tokens == [HOSTILE[2], HOSTILE[1], HOSTILE[0]]
    assert found[2].activations == [0.0, 3.0, 0.0]
    assert [e.value for e in found] == [5.0, 4.0, 3.0, 2.0]
    [few] = analysis.feature_examples(
        sae, acts, [1], rows[[1]], Words(), before=1, after=0, count=2
    )
    assert [e.row for e in few] == [1, 5]
    # Without context all four are the same text: only the strongest is shown.
    [one] = analysis.feature_examples(sae, acts, [1], rows[[1]], Words(), before=0, after=0)
    assert [e.row for e in one] == [1]
    nothing = analysis.feature_examples(sae, acts, [8], rows[[8]], Words())
    assert nothing == [[]]


def test_examples_from_shards_are_those_from_memory(tmp_path):
    pytest.importorskip("transformers")
    from suture import models

    model, _, tokenizer = models.tiny_pair()
    lines = ["to be, or not to be: é", "that is the question"] * 3
    sae = suture.SAE.init(16, 32, k=4)
    sides = [
        models.extract(model, tokenizer, lines, layers=[1, 2], out=out, dtype=dtype)
        for out, dtype in ((None, "bfloat16"), (tmp_path / "acts", "bfloat16"))
    ]
    found = [
        analysis.summarise_features(
            sae, acts, range(32), models.unembedding(model), tokenizer, layer=2, progress=False
        )
        for acts in sides
    ]
    # As text: NaN is the mean of a feature that never fired.
    assert str(found[0]) == str(found[1])
    assert sum(len(summary.examples) for summary in found[0]) > 10
    for summary in found[0]:
        for example in summary.examples:
            assert 0 < example.value == example.activations[example.place] <= summary.maximum
        if summary.examples:
            assert summary.examples[0].value == pytest.approx(summary.maximum, rel=1e-6)


def test_bytes_of_a_character_are_spelt_out():
    transformers = pytest.importorskip("transformers")
    assert transformers
    from suture import models

    _, _, tokenizer = models.tiny_pair()
    ids = tokenizer("aé\n", add_special_tokens=False)["input_ids"]
    assert analysis.token_texts(tokenizer, ids) == ["a", "⟨c3⟩", "⟨a9⟩", "\n"]


def test_picked_features_fill_their_groups():
    fired = np.array([0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.6, 0.7])
    correlation = np.array([0.9, 0.8, 0.1, np.nan, 0.2, 1.0, 0.5, 0.4])
    picked = pick_features(fired, 6, correlation=correlation, least=0.05)
    notes = {note: [f for f, n in picked if n == note] for _, note in picked}
    assert notes["highest attribution correlation"] == [0]
    assert notes["lowest attribution correlation"] == [2]
    assert notes["most frequent"] == [7, 6]
    # 5 never fires and is not there; 3 has no correlation.
    assert sorted(f for f, _ in picked) == sorted({0, 2, 7, 6} | set(notes["drawn at random"]))
    assert len(picked) == 6
    # There are no more than fire.
    assert sorted(f for f, _ in pick_features(fired, 100, least=0.05)) == [0, 1, 2, 3, 4, 6, 7]


def test_the_command_writes_what_the_functions_find(tmp_path, capsys):
    pytest.importorskip("transformers")
    from suture import models
    from suture.cli import main

    small, large, tokenizer = models.tiny_pair()
    rng = np.random.default_rng(1)
    lines = ["".join(rng.choice(list("abcde <"), 40)) for _ in range(30)]
    for name, model in (("small", small), ("large", large)):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        models.extract(model, tokenizer, lines, layers=2, out=tmp_path / f"acts_{name}")
    acts = [suture.Activations.open(tmp_path / f"acts_{name}") for name in ("small", "large")]
    sae = suture.SAE.init(16, 40, k=4)
    stitch = suture.Stitch.fit(acts[0].shards(2), acts[1].shards(2))
    sae.save(tmp_path / "sae")
    stitch.transfer(sae).save(tmp_path / "moved")

    def paths(name, sae_name):
        return [str(tmp_path / part) for part in (sae_name, f"acts_{name}", name)]

    arguments = ["analyse", *paths("small", "sae"), "--transferred", *paths("large", "moved")]
    out = tmp_path / "out"
    assert main([*arguments, "--out", str(out), "--count", "6", "--quiet", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["pages"] == 6
    stored = json.loads((out / "analysis.json").read_text("utf-8"))
    expected = analysis.attribution_correlation(
        sae, acts[0], models.unembedding(small), stitch.transfer(sae), acts[1],
        models.unembedding(large), progress=False,
    ).correlation  # fmt: skip
    found = np.array([np.nan if v is None else v for v in stored["attribution_correlation"]])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    fractions = analysis.null_space_fraction(sae, models.unembedding(small))
    np.testing.assert_allclose(stored["original"]["null_space_fraction"], fractions, atol=1e-9)
    assert len(list(out.glob("feature_*.html"))) == 6
    assert not list(out.glob("*.partial"))

    alone = ["analyse", *paths("small", "sae"), "--features", "3", "5", "3", "--quiet"]
    assert main([*alone, "--out", str(tmp_path / "one")]) == 0
    pages = sorted(path.name for path in (tmp_path / "one").glob("feature_*.html"))
    assert pages == ["feature_00003.html", "feature_00005.html"]
    page = html.unescape((tmp_path / "one" / pages[0]).read_text("utf-8"))
    assert "attribution correlation" not in page
    for wrong, word in (
        (["--features", "40"], "features has 40, expected some of 0 to 39"),
        (["--count", "0"], "count is 0"),
        (["--layer", "1"], "layer is 1, expected one of [2]"),
        (["--layer", "2", "2"], "layer has 2 entries"),
    ):
        capsys.readouterr()
        status = main([*alone[:4], *wrong, "--out", str(tmp_path / "none"), "--quiet"])
        assert status == 1
        assert word in capsys.readouterr().err
        assert not (tmp_path / "none").exists()


def test_summaries_are_plain_data(hostile):
    stored = json.dumps(hostile.to_dict(), allow_nan=False)
    assert json.loads(stored)["original"]["feature"] == 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        hostile.note = ""

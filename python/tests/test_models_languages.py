# SPDX-License-Identifier: Apache-2.0
"""Steering by language, and `suture steer`, which fits, carries and writes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import suture
from suture.cli import main
from suture.models import extract, generate, language_steering, steer, tiny_pair
from suture.models.languages import beginnings, detect_language, interval, relative_gap

D = 16


@pytest.fixture
def tokenizer() -> Any:
    return tiny_pair()[2]


def test_interval_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for hits, n in [(0, 24), (7, 24), (24, 24), (1, 1), (50, 96)]:
        wanted = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
        assert interval(hits, n) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_gap() -> None:
    pairs = [(0.3, 0.6), (0.7, 0.6), (0.0, 0.5), (0.0, 0.0), (0.2, 0.0)]
    assert [relative_gap(*pair) for pair in pairs] == [0.5, 1.0, 0.0, 0.0, 1.0]


def test_languages_are_found_the_same_way_each_time() -> None:
    factory = pytest.importorskip("langdetect").DetectorFactory
    before = factory.seed
    texts = {
        "en": "This file is not where the other files of the directory are.",
        "fr": "Ce fichier ne se trouve pas dans ce répertoire, où il devrait être.",
        None: "1 2 3",
    }
    for _ in range(5):
        assert [detect_language(text) for text in texts.values()] == list(texts)
    assert factory.seed == before


RECORDS = [
    {"text": f"{word} text number {i}", "lang": language, "page": f"{i}"}
    for i in range(12)
    for language, word in (("en", "the"), ("de", "der"), ("it", "il"))
    if language != "it" or i < 3
]


def test_language_steering_steers_by_native_and_transferred_vectors(
    rng: np.random.Generator,
) -> None:
    """The judge is one that sees the letter that a vector was made to make likely."""
    model_a, model_b, tokenizer = tiny_pair()
    shapes = [(D, 24), (24,), (24, D), (D,)]
    stitch = suture.Stitch(*(rng.normal(size=shape) for shape in shapes))
    found, baseline = language_steering(
        model_a, model_b, tokenizer, stitch, 1, 2, RECORDS, ["a prompt", "b"],
        max_new_tokens=6, strengths=[1.0, 2.0], context=32, progress=False,
        detect=lambda text: "de" if len(text) % 2 else None,
    )  # fmt: skip
    assert [(row.source, row.target, row.language, row.paired) for row in found] == [
        ("a", "b", "de", True), ("b", "a", "de", True), ("a", "b", "it", False),
        ("b", "a", "it", False),
    ]  # fmt: skip
    row = found[0]
    kinds = [(share.kind, share.strength) for share in row.shares]
    assert kinds == [
        ("none", None), ("native", 1.0), ("transferred", 1.0), ("native", 2.0),
        ("transferred", 2.0),
    ]  # fmt: skip
    for share in row.shares:
        assert share.n == 2
        assert share.hits + share.undetected == 2
    assert sum(baseline["a"].values()) == 2
    # What was fitted, by hand.
    acts = {
        language: extract(
            model_b, tokenizer, [r["text"] for r in RECORDS if r["lang"] == language], 2,
            progress=False,
        )[2]
        for language in ("de", "en")
    }  # fmt: skip
    native = suture.SteeringVector.fit(acts["de"], acts["en"])
    assert row.z_native == pytest.approx(native.z_mean, rel=1e-4)
    own_a = suture.SteeringVector.fit(
        *(
            extract(
                model_a, tokenizer, [r["text"] for r in RECORDS if r["lang"] == language], 1,
                progress=False,
            )[1]
            for language in ("de", "en")
        )
    )  # fmt: skip
    moved = stitch.transfer(own_a, acts=acts["de"])
    assert row.cosine == pytest.approx(float(moved.vector @ native.vector), abs=1e-4)
    assert row.z_transferred == pytest.approx(moved.z_mean, rel=1e-3)


def test_language_steering_counts_the_rows_that_it_is_told(rng: np.random.Generator) -> None:
    model_a, model_b, tokenizer = tiny_pair()
    stitch = suture.Stitch(*(rng.normal(size=s) for s in [(D, 24), (24,), (24, D), (D,)]))
    said: list[str] = []

    def detect(text: str) -> None:
        said.append(text)

    def steered(**more: Any) -> tuple[Any, list[str]]:
        said.clear()
        found, _ = language_steering(
            model_a, model_b, tokenizer, stitch, 1, 2, RECORDS, ["a prompt"], languages=["it"],
            max_new_tokens=6, strengths=[30.0], context=32, progress=False, detect=detect, **more,
        )  # fmt: skip
        return found[0], list(said)

    every, texts = steered()
    rows = suture.Rows(skip_positions=4)
    some, _ = steered(rows=rows)
    texts_of = {name: [r["text"] for r in RECORDS if r["lang"] == name] for name in ("it", "en")}
    sides = [
        extract(model_b, tokenizer, texts_of[name], 2, rows=rows, progress=False)[2]
        for name in ("it", "en")
    ]
    assert some.positive_tokens == len(sides[0]) < every.positive_tokens
    assert some.z_native == pytest.approx(suture.SteeringVector.fit(*sides).z_mean, rel=1e-4)
    one, _ = steered(rows=(None, rows))
    assert one.z_native == pytest.approx(some.z_native, rel=1e-6)
    # No row of a prompt and of what follows has such a position: nothing is steered.
    none, plain = steered(steered_rows=suture.Rows(skip_positions=60))
    assert none.z_native == every.z_native
    assert set(plain[2:]) <= set(plain[:2])
    assert plain != texts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": (None,)}, ["rows: a tuple of 1", "(rows_a, rows_b)"]),
        ({"records": [{"text": "a"}]}, ["records[0]", '"lang"']),
        ({"source_language": "nl"}, ["source_language: 'nl'", "['de', 'en', 'it']"]),
        ({"languages": ["fr"]}, ["languages: has 'fr'", "['de', 'it']"]),
        ({"languages": ["en"]}, ["languages: has 'en'"]),
        ({"records": RECORDS[:1]}, ["all are in 'en'"]),
        ({"strengths": []}, ["strengths: empty"]),
        ({"layer_a": 9}, ["9", "expected 0 to 3"]),
    ],
)
def test_bad_arguments_of_language_steering(change: Any, words: list[str]) -> None:
    model_a, model_b, tokenizer = tiny_pair()
    stitch = suture.Stitch(np.eye(D, 24), np.zeros(24), np.eye(24, D), np.zeros(D))
    good = {
        "model_a": model_a, "model_b": model_b, "tokenizer": tokenizer, "stitch": stitch,
        "layer_a": 1, "layer_b": 2, "records": RECORDS, "prompts": ["a"], "max_new_tokens": 2,
        "context": 32, "detect": lambda text: None,
    }  # fmt: skip
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        language_steering(**good | change)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_beginnings_come_from_each_text_in_turn(tokenizer: Any) -> None:
    texts = [
        "HEAD\nFirst one.\n\n  indented\n\nSecond one.\n\nNo",
        "Third text.\n\na = 3;\n\nFourth",
    ]
    assert beginnings(texts, tokenizer, 6) == ["First ", "Third ", "Second", "Fourth"]
    assert beginnings(texts, tokenizer, 4, rest=6) == ["Firs", "Thir", "Seco"]
    with pytest.raises(ValueError, match="tokens is 0"):
        beginnings(texts, tokenizer, 0)


# -- suture steer ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Any, rng: np.random.Generator) -> Any:
    """Two models, texts of two kinds, and a stitch between layers 1 and 2."""
    small, large, tokenizer = tiny_pair()
    for name, made in (("small", small), ("large", large)):
        made.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "de.txt").write_text("der die das und nicht", "utf-8")
    (tmp_path / "en.txt").write_text("the file is not there", "utf-8")
    shapes = [(D, 24), (24,), (24, D), (D,)]
    metadata = {"model_a": "small", "layer_a": 1, "model_b": "large", "layer_b": 2}
    stitch = suture.Stitch(*(rng.normal(size=shape) for shape in shapes), metadata=metadata)
    stitch.save(tmp_path / "stitch.safetensors")
    return tmp_path


def command(capsys: Any, *words: Any, status: int = 0) -> Any:
    capsys.readouterr()
    assert main(["steer", *map(str, words), "--quiet", "--json"]) == status
    printed = capsys.readouterr()
    return json.loads(printed.out) if status == 0 else printed.err


def test_command_fits_transfers_and_writes_steered_text(folder: Any, capsys: Any) -> None:
    texts = [folder / "de.txt", folder / "en.txt"]
    result = command(
        capsys, *texts, "--model", folder / "small", "--layer", 1,
        "--stitch", folder / "stitch.safetensors", "--steered-model", folder / "large",
        "--generate", "The file", "A", "--max-new-tokens", 9, "--strength", 2,
        "--out", folder / "v.safetensors",
    )  # fmt: skip
    small, large, tokenizer = tiny_pair()
    acts = [extract(small, tokenizer, [path.read_text()], 1, progress=False)[1] for path in texts]
    stitch = suture.Stitch.load(folder / "stitch.safetensors")
    wanted = stitch.transfer(suture.SteeringVector.fit(*acts))
    found = suture.SteeringVector.load(folder / "v.safetensors")
    np.testing.assert_allclose(found.vector, wanted.vector, atol=1e-6)
    assert result["z_mean"] == found.z_mean == pytest.approx(wanted.z_mean, rel=1e-5)
    assert found.metadata["model_name"] == "large"
    assert found.metadata["transferred_from"]["hook_name"] == "blocks.1.hook_resid_pre"
    with steer(large, found, 2, strength=2.0):
        same = generate(large, tokenizer, ["The file", "A"], max_new_tokens=9, progress=False)
    assert list(result["texts"].values()) == same
    # The same from activations, and from the vector in the file.
    for name, rows in zip(("p.npy", "n.npy"), acts, strict=True):
        np.save(folder / name, rows)
    direct = command(capsys, folder / "p.npy", folder / "n.npy", "--out", folder / "w.safetensors")
    assert direct["d"] == D
    again = command(
        capsys, "--use", folder / "v.safetensors", "--steered-model", folder / "large",
        "--generate", "The file", "A", "--max-new-tokens", 9, "--strength", 2,
    )  # fmt: skip
    assert again["texts"] == result["texts"]
    later = command(
        capsys, "--use", folder / "v.safetensors", "--steered-model", folder / "large",
        "--generate", "The file", "A", "--max-new-tokens", 9, "--strength", 2,
        "--positions", "generated",
    )  # fmt: skip
    rows = suture.Rows(positions="generated")
    with steer(large, found, 2, strength=2.0, rows=rows, tokenizer=tokenizer):
        same = generate(large, tokenizer, ["The file", "A"], max_new_tokens=9, progress=False)
    assert list(later["texts"].values()) == same != list(result["texts"].values())
    assert main(["info", str(folder / "v.safetensors"), "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["kind"] == "steering vector"
    assert described["z_mean"] == found.z_mean


def test_command_names_what_is_wrong(folder: Any, capsys: Any) -> None:
    de, en, out = folder / "de.txt", folder / "en.txt", folder / "out.safetensors"
    small = ["--model", folder / "small", "--layer", 1]
    for words, expected in [
        ([de, "--out", out], "1 paths, expected 2"),
        ([de, en, "--out", out], "model and layer are not both given"),
        ([de, folder / "small", *small, "--out", out], "texts and activations"),
        ([de, de, *small, "--out", out], "same mean"),
        ([de, en, *small, "--generate", "a", "--steered-layer", 7, "--out", out], "layer: 7"),
        ([de, en, *small, "--generate", "a", "--steered-model", "x", "--out", out], "'x'"),
        (["--use", folder / "no", "--out", out], "no"),
        ([de, en, *small, "--acts", "x.npy", "--out", out], "acts is given without --stitch"),
        ([de, en, "--generate", "a", "--out", out], "steered-model is not given"),
    ]:
        assert expected in command(capsys, *words, status=1), words
        assert not out.exists()

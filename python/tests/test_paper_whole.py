# SPDX-License-Identifier: Apache-2.0
"""All experiments of the paper in one report, on two tiny GPT-2 models and texts that say their
language and page."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
pytest.importorskip("langdetect")
pytest.importorskip("stopwordsiso")

import torch
import transformers
from pairs import WORDS, pair_arguments, save_models, save_records, sentence, strict_json

from suture import paper
from suture.cli import main
from suture.models import tiny_pair
from suture.paper import experiments
from suture.report.settings import Settings
from suture.report.steps import Steps, write_whole

#: Beside the defaults, so that each experiment takes seconds.
SMALL: dict[str, dict[str, Any]] = {
    "stitching": {"alphas": (0.0, 1.0)},
    "savings": {
        "widths": (16,), "seeds": 1, "charged_tokens": 1000, "run_tokens": 4096,
        "run_batch_size": 128, "lrs": (1e-2,),
    },
    "probes": {"ks": (1, 4), "draws": 2},
    "steering": {
        "prompts": 24, "prompt_tokens": 8, "new_tokens": 8, "vector_tokens": 500,
        "strengths": (1.0,),
    },
    "attribution": {"other_d_sae": (16,), "other_k": 2},
    "structure": {"sentences": 20, "attribution_tokens": 1000},
    "attention": {"score_tokens": 2000, "ablation_tokens": 1000, "features": 2, "least_p_bos": 0.0},
    "features": {"count": 3},
}  # fmt: skip


def gpt2_pair() -> tuple[Any, Any, Any]:
    """GPT-2 modules, with the byte tokenizer of the tiny pair; the larger one's vocabulary is
    padded, as those of some families are."""
    _, _, tokenizer = tiny_pair()

    def model(width: int, blocks: int, padding: int) -> Any:
        config = transformers.GPT2Config(
            vocab_size=len(tokenizer) + padding, n_embd=width, n_layer=blocks, n_head=2,
            n_positions=64, initializer_range=0.2, bos_token_id=0, eos_token_id=1, pad_token_id=2,
        )  # fmt: skip
        return transformers.GPT2LMHeadModel(config).eval()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model(16, 2, 0), model(24, 3, 5), tokenizer


def documents(pages: range) -> list[dict[str, Any]]:
    """Pages in two languages, each with several paragraphs."""
    rng = np.random.default_rng(pages.start)
    return [
        {
            "text": "\n\n".join(
                " ".join(sentence(rng, language) for _ in range(2)) for _ in range(4)
            ),
            "lang": language,
            "page": f"page{number}.{1 + number % 3}",
        }
        for number in pages
        for language in WORDS
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    small, large, *_ = pair_arguments(
        folder, documents(range(60)), documents(range(60, 90)), models=gpt2_pair()
    )
    results = paper.write(
        small, large, [folder / "fit.jsonl"], [folder / "held.jsonl"], folder / "out",
        settings={
            name: experiments.experiment(name).Settings(**own) for name, own in SMALL.items()
        },
        common=Settings(
            context=32, d_sae=32, k=4, sae_tokens=5000, batch_size=256, lr=1e-2, fit_tokens=20_000,
            held_out_tokens=5000, svcca_tokens=2000, loss_tokens=2000,
        ),
        progress=False,
    )  # fmt: skip
    return folder / "out", results


def test_every_experiment_is_there(written: tuple[Path, dict[str, Any]]) -> None:
    out, results = written
    assert results["left_out"] == {}
    assert [found["name"] for found in results["experiments"]] == list(paper.EXPERIMENTS)
    for name in paper.EXPERIMENTS:
        found = strict_json(out / f"{name}.json")
        assert found["findings"] or name in ("features", "labels")
    assert strict_json(out / "paper.json")["left_out"] == {}
    for step in (out / "work").rglob("step.json"):
        strict_json(step)


def test_the_page_shows_each_finding(written: tuple[Path, dict[str, Any]]) -> None:
    out, results = written
    page = (out / "report.html").read_text("utf-8")
    for found in results["experiments"]:
        assert found["title"] in page
        for finding in found["findings"]:
            assert f"{finding['figure']}: " in page
    for link in re.findall(r'href="([^"#:]+)"', page):
        assert (out / link).is_file(), link
    for text in (text for found in results["experiments"] for text in found["remarks"].values()):
        assert text in html.unescape(page)
    [labels] = [found["result"] for found in results["experiments"] if found["name"] == "labels"]
    assert page.count('<div class="labels">') == len(labels["examples"]) > 0
    assert not list(out.rglob("*.partial"))


def test_what_fails_leaves_nothing_half_done(tmp_path: Path, monkeypatch: Any) -> None:
    def compute(folder: Path) -> dict[str, Any]:
        (folder / "part").write_text("half", "utf-8")
        raise KeyboardInterrupt

    steps = Steps(tmp_path / "work")
    with pytest.raises(KeyboardInterrupt):
        steps.run("one", "One", {}, compute)
    assert not list((tmp_path / "work").iterdir())

    def refuse(*_: Any) -> None:
        raise KeyboardInterrupt

    write_whole(tmp_path / "page", "first")
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "page", "second")
    assert (tmp_path / "page").read_text("utf-8") == "first"


def test_a_label_for_each_text(tmp_path: Path, capsys: Any) -> None:
    """Texts that are longer than a sequence: each has its label, however it was cut."""
    small, *_ = save_models(tmp_path)
    texts = [{"text": word * (1 + 9 * (number % 3))} for number, word in enumerate(["abcd "] * 12)]
    save_records(tmp_path / "texts.jsonl", texts)
    (tmp_path / "labels.txt").write_text("yes\nno\n" * 6, "utf-8")
    extract = ["extract", small, str(tmp_path / "texts.jsonl"), "--layers", "1", "--quiet"]
    extract += ["--context", "16", "--out", str(tmp_path / "acts")]
    probe = ["probe", str(tmp_path / "acts"), str(tmp_path / "labels.txt"), "--pool", "--quiet"]
    assert main(extract) == 0
    for more in ([], ["--overwrite", "--chunking", "truncate"]):
        assert main([*extract, *more]) == 0
        capsys.readouterr()
        assert main([*probe, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["classes"] == ["no", "yes"]
    (tmp_path / "labels.txt").write_text("yes\nno\n" * 7, "utf-8")
    assert main(probe) == 1
    assert "labels" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""The whole experiment on a tiny random pair, through the command line."""

import json
import re
import shutil

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast  # noqa: E402

import suture  # noqa: E402
from suture.cli import main  # noqa: E402
from suture.report import verdicts  # noqa: E402

TINY = ["report", "a", "b", "--texts", "t", "--held-out", "h", "--out", "o"]
WORDS = [
    "the",
    "stitch",
    "carries",
    "features",
    "of",
    "a",
    "small",
    "model",
    "into",
    "larger",
    "ones",
    "and",
    "back",
    "again",
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two random GPT-NeoX models with one word-level tokenizer, and texts."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("pair")
    vocabulary = {word: index for index, word in enumerate(["<bos>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", unk_token="<unk>", pad_token="<bos>"
    )
    for name, width, layers, seed in (("small", 16, 3, 0), ("large", 24, 4, 1)):
        torch.manual_seed(seed)
        config = GPTNeoXConfig(
            vocab_size=len(vocabulary),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=64,
            bos_token_id=0,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    generator = torch.Generator().manual_seed(2)
    for name, count in (("fit.jsonl", 120), ("held.jsonl", 40)):
        lines = []
        for _ in range(count):
            picks = torch.randint(len(WORDS), (30,), generator=generator).tolist()
            lines.append(json.dumps({"text": " ".join(WORDS[i] for i in picks)}))
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def run_report(pair, out, *extra):
    return main(
        [
            "report",
            *(str(pair / "small"), str(pair / "large")),
            *("--texts", str(pair / "fit.jsonl"), "--held-out", str(pair / "held.jsonl")),
            *("--out", str(out), "--context", "32", "--d-sae", "64", "--k", "4"),
            *("--sae-tokens", "20000", "--batch-size", "512", "--quiet", *extra),
        ]
    )


@pytest.fixture(scope="module")
def report(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert run_report(pair, out) == 0
    return out


def test_json_holds_every_figure(report):
    results = json.loads((report / "report.json").read_text("utf-8"))
    assert results["svcca"]["layer_a"] == 1
    assert results["svcca"]["layers_b"] == [1, 2, 3]
    assert set(results["table1"]["losses"]) == {"A", "B", "A→B", "B→A", "A→B→A", "B→A→B"}
    assert [row["label"] for row in results["table2"]] == [
        "original on A",
        "transferred to B",
        "random on B",
    ]
    after, before = results["stitch"]["after"], results["stitch"]["before"]
    assert after["total"] <= before["total"]
    assert results["tokens"]["fit"] > results["tokens"]["held_out"] > 0
    original, moved, random = results["table2"]
    assert 0 < original["fvu"] < 1
    assert original["fvu"] < random["fvu"]
    assert moved["spliced_loss"] == pytest.approx(moved["clean_loss"] + moved["delta_loss"])


def test_features_are_compared_by_the_way_they_are_moved(report):
    rows = json.loads((report / "report.json").read_text("utf-8"))["features"]
    assert [row["label"] for row in rows] == ["stitch", "stitch, decoder refitted", "pairs"]
    stitched, refitted, paired = rows
    # A refit leaves the codes as they are; what is carried has a SAE of its own.
    assert refitted["correlation"] == stitched["correlation"]
    assert refitted["explained_variance"] > stitched["explained_variance"]
    assert paired["correlation"][1] > stitched["correlation"][1]
    assert abs(paired["control"]) < 0.1
    sae = suture.SAE.load(report / "work" / "features" / "carried")
    assert sae.metadata["transferred_from"]["model_name"]
    page = (report / "report.html").read_text("utf-8")
    assert "Whether its features are still the same" in page


def test_page_is_self_contained_and_complete(report):
    page = (report / "report.html").read_text("utf-8")
    assert page.count("<svg ") == 6
    assert page.count('class="verdict"') == 7
    assert 'name="viewport"' in page
    # Nothing is fetched: no scripts, images, style sheets or fonts from elsewhere.
    assert not re.search(r"<(script|img|link|iframe)|@import|url\((?!#)", page)


def test_running_again_computes_nothing(pair, report):
    assert run_report(pair, report) == 0
    results = json.loads((report / "report.json").read_text("utf-8"))
    assert all(step["cached"] for step in results["steps"])


def test_a_changed_setting_computes_only_what_depends_on_it(pair, report):
    assert run_report(pair, report, "--alpha", "0.5") == 0
    results = json.loads((report / "report.json").read_text("utf-8"))
    fresh = {step["name"] for step in results["steps"] if not step["cached"]}
    assert fresh == {"stitch", "stitches", "table1", "table2", "features"}


def test_commands_do_the_same_steps(pair, tmp_path, capsys):
    def suture(*arguments):
        assert main([*map(str, arguments), "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)

    for name, layers in (("small", [1]), ("large", [0, 1, 2, 3])):
        for texts in ("fit", "held"):
            suture(
                *("extract", pair / name, pair / f"{texts}.jsonl", "--layers", *layers),
                *("--out", tmp_path / f"{texts}-{name}", "--context", 32),
            )
    fitted = suture(
        *("fit", tmp_path / "fit-small", tmp_path / "fit-large", "--layer-b", "auto"),
        *("--held-a", tmp_path / "held-small", "--held-b", tmp_path / "held-large"),
        *("--out", tmp_path / "stitch.safetensors"),
    )
    assert set(fitted["svcca"]) == {"1", "2", "3"}
    layer = max(fitted["svcca"], key=fitted["svcca"].get)
    assert fitted["held_out"]["total"] > 0
    suture(
        *("train", tmp_path / "fit-small", "--d-sae", 64, "--k", 4, "--tokens", 8192),
        *("--batch-size", 512, "--lr", 1e-3, "--out", tmp_path / "sae"),
    )
    moved = suture(
        *("transfer", tmp_path / "stitch.safetensors", tmp_path / "sae"),
        *("--out", tmp_path / "moved"),
    )
    assert moved["d_in"] == 24
    assert moved["metadata"]["hook_name"] == f"blocks.{layer}.hook_resid_pre"
    # The folders know their model, so the stitch and the SAE do, and a second move is refused.
    assert moved["metadata"]["model_name"] == "large"
    again = ("transfer", tmp_path / "stitch.safetensors", tmp_path / "moved", "--out", tmp_path)
    assert main([*map(str, again)]) == 1
    arguments = ("train", tmp_path / "fit-large", "--layer", 9, "--tokens", 9, "--out", tmp_path)
    assert main([*map(str, arguments)]) == 1
    assert "layer is 9, expected one of [0, 1, 2, 3]" in capsys.readouterr().err
    metrics = suture("evaluate", tmp_path / "moved", tmp_path / "held-large", "--layer", layer)
    assert metrics["fvu"] == pytest.approx(1 - metrics["explained_variance"])
    objective = suture(
        *("evaluate", tmp_path / "stitch.safetensors"),
        *(tmp_path / "held-small", tmp_path / "held-large", "--layer", 1, layer),
    )
    assert objective["total"] == pytest.approx(fitted["held_out"]["total"])
    continued = suture(
        *("train", tmp_path / "fit-large", "--layer", layer, "--init", tmp_path / "moved"),
        *("--tokens", 4096, "--batch-size", 512, "--out", tmp_path / "continued"),
    )
    assert continued["tokens"] == 4096
    run = (
        *("train", tmp_path / "fit-large", "--layer", layer, "--init", tmp_path / "moved"),
        *("--batch-size", 512, "--checkpoint", tmp_path / "run", "--out", tmp_path / "trained"),
    )
    first = suture(*run, "--tokens", 2048, "--lr-warm-up-steps", 2, "--decoder-norm", "free")
    assert (first["tokens"], first["stopped"]) == (2048, "tokens")
    resumed = suture(
        *("train", tmp_path / "fit-large", "--layer", layer, "--resume", "--tokens", 4096),
        *("--checkpoint", tmp_path / "run", "--out", tmp_path / "trained"),
    )
    assert resumed["tokens"] == 4096
    for path, kind in (
        (tmp_path / "stitch.safetensors", "stitch"),
        (tmp_path / "moved", "sae"),
        (tmp_path / "fit-large", "activations"),
    ):
        assert suture("info", path)["kind"] == kind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "nowhere", "b", "--texts", "t", "--held-out", "h", "--out", "o"], ["model_a"]),
        (["extract", "nowhere", "t", "--layers", "1", "--out", "o"], ["model", "nowhere"]),
        (["info", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (
            [
                "report",
                *[
                    "a",
                    "b",
                    "--texts",
                    "t",
                    "--held-out",
                    "h",
                    "--out",
                    "o",
                    "--k",
                    "9",
                    "--d-sae",
                    "8",
                ],
            ],
            ["k is 9", "d_sae = 8"],
        ),
        (
            [*TINY, "--lr", "nan"],
            ["lr is nan"],
        ),
        (["info", "--threads", "-1"], ["threads is -1", "expected 0 to 1024"]),
        (["fit", "a.npy", "b.npy", "--held-a", "c.npy", "--out", "o"], ["held-a", "held-b"]),
        (["evaluate", "s.safetensors", "a.npy", "--json"], ["acts", "expected 2"]),
        (["train", "nowhere.npy", "--tokens", "10", "--out", "o"], ["nowhere.npy"]),
        (["train", "nowhere.npy", "--out", "o"], ["tokens is missing"]),
        (["train", "nowhere.npy", "--resume", "--out", "o"], ["resume", "--checkpoint"]),
        (["transfer", "nowhere.safetensors", "sae", "--out", "o"], ["nowhere.safetensors"]),
    ],
)
def test_errors_are_one_line_that_names_the_argument(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize("command", ["extract", "fit", "transfer", "train", "evaluate", "info"])
def test_help_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"suture {command}" in capsys.readouterr().out.split("example:")[1]


def test_verdicts_change_with_the_numbers():
    """The sentences say what the numbers say, in both directions."""
    row = {"label": "", "explained_variance": 0.9, "fvu": 0.1, "delta_loss": 0.1, "l0": 4.0}
    good = [row, row | {"fvu": 0.2}, row | {"fvu": 0.9}]
    bad = [row, row | {"fvu": 0.95}, row | {"fvu": 0.9}]
    assert "far better than chance" in verdicts.transfer(good)
    assert "no better than chance" in verdicts.transfer(bad)
    grid = {"grid": [[0.2, 0.9]], "layers_a": [1], "layers_b": [1, 2], "layer_a": 1, "layer_b": 2}
    assert verdicts.svcca(grid).startswith("Layer 2 of B")
    assert "nearly a tie" in verdicts.svcca(grid | {"grid": [[0.895, 0.9]]})
    assert "told" not in verdicts.svcca(grid)
    assert "told to take layer 1, which has 0.20" in verdicts.svcca(grid | {"layer_b": 1})
    for end, word in ((0.9, "still rising"), (0.5, "levelled off"), (0.1, "falling")):
        history = [{"explained_variance": v, "tokens": 1e6} for v in (0.5, 0.5, 0.5, 0.5, 0.5, end)]
        assert word in verdicts.training(history, row | {"dead_fraction": 0.0})


def test_a_layer_that_cannot_be_stitched_is_refused_before_any_work(pair, tmp_path, capsys):
    for name, layer in (("a", "9"), ("b", "0")):
        assert run_report(pair, tmp_path, f"--layer-{name}", layer) == 1
        assert f"layer_{name} is {layer}, expected 1 to" in capsys.readouterr().err
    assert not (tmp_path / "work" / "svcca").exists()


def test_a_damaged_model_is_one_line(pair, tmp_path, capsys):
    shutil.copytree(pair / "small", tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    arguments = ["extract", str(tmp_path / "cut"), str(pair / "fit.jsonl"), "--layers", "1"]
    assert main([*arguments, "--out", str(tmp_path / "acts"), "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cannot be read" in error
    assert not (tmp_path / "acts").exists()


def test_a_perfect_fit_has_a_verdict():
    zero = {"scaled_total": 0.0, "up_explained_variance": 1.0, "down_explained_variance": 1.0}
    assert "nothing is left" in verdicts.objective(
        {"before": zero, "after": zero, "held_out": zero, "minimised": "scaled_total"}
    )

# SPDX-License-Identifier: Apache-2.0
"""The whole report and the paper's experiments on a tiny pair whose tokenizers differ."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

import suture  # noqa: E402
from suture.cli import main  # noqa: E402

PAGES = {
    "en": "the small model reads a text and the large one writes it",
    "de": "das kleine Modell liest einen Text und das große schreibt ihn 😀",
}


def tokenizers():
    """Whole words with BOS, and pairs of bytes without: few tokens end at the same place."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in PAGES.values() for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(["<bos>", "<unk>", *words])}
    whole = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    whole.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    whole.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    pieces.train_from_iterator(
        PAGES.values(),
        trainers.BpeTrainer(
            vocab_size=290,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<end>"],
            show_progress=False,
        ),
    )
    return (
        PreTrainedTokenizerFast(
            tokenizer_object=whole, bos_token="<bos>", unk_token="<unk>", pad_token="<bos>"
        ),
        PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<end>", pad_token="<end>"),
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A Llama that reads words, and a larger GPT-NeoX that reads bytes."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("two-tokenizers")
    words, pieces = tokenizers()
    torch.manual_seed(0)
    small = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=3,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
            bos_token_id=0, eos_token_id=None, pad_token_id=0,
        )
    )  # fmt: skip
    large = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=len(pieces), hidden_size=24, intermediate_size=48, num_hidden_layers=4,
            num_attention_heads=2, max_position_embeddings=128,
            bos_token_id=None, eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    # Another size of stream: what raw units would not hear.
    with torch.no_grad():
        large.gpt_neox.embed_in.weight *= 50
    for name, model, tokenizer in (("words", small, words), ("pieces", large, pieces)):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    rng = np.random.default_rng(1)
    for name, count in (("fit", 160), ("held", 40)):
        lines = []
        for number in range(count):
            lang = ("en", "de")[number % 2]
            drawn = rng.permutation(PAGES[lang].split() * 2)
            lines.append(json.dumps({"text": " ".join(drawn), "lang": lang, "page": str(number)}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def run(command, pair, out, *extra):
    names = [command] if isinstance(command, str) else command
    return main(
        [
            *names,
            *(str(pair / "words"), str(pair / "pieces")),
            *("--texts", str(pair / "fit.jsonl"), "--held-out", str(pair / "held.jsonl")),
            *("--out", str(out), "--context", "96", "--d-sae", "64", "--k", "4"),
            *("--sae-tokens", "8000", "--batch-size", "512", "--quiet", *extra),
        ]
    )


@pytest.fixture(scope="module")
def report(pair, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    assert run("report", pair, out, "--both-ways", "1", "--layer-step", "2") == 0
    return out


def results_of(folder):
    return json.loads((folder / "report.json").read_text("utf-8"))


def test_rows_are_paired_where_tokens_of_both_end(pair, report):
    results = results_of(report)
    assert results["models"]["one_tokenizer"] is False
    words, pieces = tokenizers()
    wanted = 0
    for text in suture.read_texts(pair / "held.jsonl"):
        ends = [
            [len(text[:end].encode()) for _, end in found["offset_mapping"]]
            for found in (
                tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
                for tokenizer in (words, pieces)
            )
        ]
        wanted += len(set(ends[0]) & set(ends[1]))
    assert results["tokens"]["held_out"] == wanted
    acts = [suture.Activations.open(report / "work" / "activations-held_out" / n) for n in "ab"]
    assert len(acts[0]) == len(acts[1]) == wanted
    assert acts[0].text.tolist() == acts[1].text.tolist()
    assert acts[0].ends.tolist() == acts[1].ends.tolist()


def test_layers_are_compared_at_every_other_one_and_the_middle(report):
    svcca = results_of(report)["svcca"]
    assert svcca["layers_a"] == [1, 2]
    assert svcca["layers_b"] == [2]
    assert np.shape(svcca["grid"]) == (2, 1)


def test_the_paper_s_form_is_compared_with_the_default(report):
    found = results_of(report)["stitches"]
    rows = {row["label"]: row["ordinary"] for row in found["stitches"]}
    assert next(iter(rows)) == "raw units, all rows"
    scaled = rows["scaled, ordinary rows"]
    # The scaled objective is what the scaled fit minimises: none has a lower one on its own rows.
    least = min(row["scaled_total"] for row in rows.values())
    assert scaled["scaled_total"] <= least * 1.2
    stitch = results_of(report)["stitch"]["held_out"]
    assert scaled["up_explained_variance"] == pytest.approx(stitch["up_explained_variance"])
    assert set(found["streams"]) == {"a", "b"}


def test_saes_go_both_ways(report):
    results = results_of(report)
    labels = [[row["label"] for row in results[name]] for name in ("table2", "table2_b")]
    assert labels == [
        ["original on A", "transferred to B", "random on B"],
        ["original on B", "transferred to A", "random on A"],
    ]
    moved = suture.SAE.load(report / "work" / "table2-b" / "transferred")
    assert moved.d_in == 16
    for name in ("features", "features_b"):
        stitched, _, paired = results[name]
        assert paired["judged"] == stitched["judged"]
        assert paired["correlation"][1] >= stitched["correlation"][1]
    assert "moved to A without" in results["verdicts"]["transfer_b"]


def test_the_page_says_how_rows_were_paired(report):
    page = (report / "report.html").read_text("utf-8")
    assert "pairs of tokens that end at the same place" in page
    assert page.count("<svg ") == 7
    assert page.count('class="verdict"') == 9


def test_running_again_computes_nothing(pair, report):
    assert run("report", pair, report, "--both-ways", "1", "--layer-step", "2") == 0
    assert all(step["cached"] for step in results_of(report)["steps"])


def test_experiments_of_the_paper_run_or_say_why_not(pair, report, capsys):
    options = ("--objective", "scaled", "--layer-step", "2")
    assert run(["experiment", "stitching"], pair, report, *options) == 0
    assert (report / "stitching.json").is_file()
    capsys.readouterr()
    assert run(["experiment", "attribution"], pair, report, *options) == 1
    assert "words and pieces have different tokens" in capsys.readouterr().err

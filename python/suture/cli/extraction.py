# SPDX-License-Identifier: Apache-2.0
"""The sub-command ``extract``: its options, and what it calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import suture
from suture.cli import inputs


def extract_options(parser: ArgumentParser) -> None:
    """The options of ``suture extract``."""
    parser.add_argument("model", type=Path, help="folder of a Hugging Face model and its tokenizer")
    parser.add_argument("texts", type=Path, nargs="+", help=".jsonl or text files (.gz, .xz)")
    parser.add_argument(
        "--layers",
        type=inputs.layer,
        nargs="+",
        required=True,
        help="residual stream before these layers",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the activations")
    parser.add_argument("--context", type=int, default=128, help="tokens a sequence (128)")
    parser.add_argument(
        "--chunking",
        choices=["split", "pack", "truncate"],
        default="split",
        help="long texts go on in a new sequence (split), or end at --context (truncate); "
        "pack joins short ones",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="sequences a batch (32)")
    parser.add_argument("--max-tokens", type=int, help="stop after this many tokens")
    parser.add_argument(
        "--skip-positions", type=int, default=0, help="first positions to leave out"
    )
    inputs.add_norm_bound(
        parser,
        "leave out rows beyond so many times the median norm in some layer (all are kept, for what "
        "uses them bounds norms itself)",
    )
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument(
        "--bos",
        choices=["once", "always", "never"],
        default="once",
        help="begin sequences with BOS: where the tokenizer has one and the text does not begin "
        "with it (once), before any text (always), or not at all (never)",
    )
    parser.add_argument(
        "--with",
        dest="other",
        type=Path,
        metavar="MODEL_B",
        help="read a second model, whose tokenizer may be another, on the same texts: row i of "
        "OUT/a and OUT/b belong together",
    )
    parser.add_argument(
        "--with-layers",
        dest="other_layers",
        type=inputs.layer,
        nargs="+",
        metavar="LAYER",
        help="layers of MODEL_B",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="of two models: keep a row only if both tokens also begin at one place",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing folder")


def extract(options: Namespace) -> dict[str, Any]:
    """``suture extract``."""
    from suture.models.loading import load

    if (options.other is None) != (options.other_layers is None):
        raise ValueError("with and with-layers go together, expected both or neither")
    if options.strict and options.other is None:
        raise ValueError("strict is for two models, expected with and with-layers beside it")
    settings: dict[str, Any] = {
        "batch_size": options.batch_size,
        "context": options.context,
        "chunking": options.chunking,
        "prepend_bos": {"once": None, "always": True, "never": False}[options.bos],
        "dtype": options.dtype,
        "skip_positions": options.skip_positions,
        "max_tokens": options.max_tokens,
        "rows": inputs.counted(options),
        "out": options.out,
        "overwrite": options.overwrite,
        "progress": not options.quiet,
    }
    model, tokenizer = load(options.model)
    texts = suture.read_texts(*options.texts)
    name = options.model.resolve().name
    if options.other is None:
        acts = suture.models.extract(
            model, tokenizer, texts, options.layers, model_name=name, **settings
        )
        return {"out": str(options.out), "tokens": len(acts), "layers": list(acts.layers)}
    model_b, tokenizer_b = load(options.other)
    acts_a, acts_b = suture.models.extract_pair(
        model,
        tokenizer,
        model_b,
        tokenizer_b,
        texts,
        options.layers,
        options.other_layers,
        strict=options.strict,
        model_names=(name, options.other.resolve().name),
        **settings,
    )
    told = ("pairs", "kept_a", "kept_b", "one_to_one", "skipped_windows", "texts_without_pairs")
    return {
        "out": [str(options.out / side) for side in ("a", "b")],
        "tokens": len(acts_a),
        "layers_a": list(acts_a.layers),
        "layers_b": list(acts_b.layers),
        "pairing": {key: acts_a.metadata["pairing"][key] for key in told},
    }

# SPDX-License-Identifier: Apache-2.0
"""Rebuild the pair of language models in ``pair/`` from Debian's manual pages.

    python examples/models/make_pair.py

renders the corpus, learns the tokenizer, trains both models, measures them on
the held-out pages and writes weights, tokenizers, text excerpts and
``results.json``.  An interrupted call goes on where it was.  With ``--only`` the
two models can be trained by two processes at once; a last call without it
then collects them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

import corpus
import data
import export
import tokenizer
import train

HERE = Path(__file__).resolve().parent

#: The pair: name, width, layers, heads, steps of the first run, share of them that decays.
PAIR = (
    train.Spec("small", 96, 4, 3, 5500, 0.2),
    train.Spec("large", 192, 6, 3, 3200, 0.25),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--build",
        type=Path,
        default=HERE / ".build-corpus",
        help="folder for the corpus and the checkpoints",
    )
    parser.add_argument("--out", type=Path, default=HERE / "pair", help="folder for the result")
    parser.add_argument(
        "--only", choices=[spec.name for spec in PAIR], help="train this model and write nothing"
    )
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch (default: all)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do everything that is not done yet."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    split = data.split(corpus.build(options.build))
    words = tokenizer.load_or_train(
        options.build / "tokenizer", (page.text for page in split.train), data.CONTEXT
    )
    tokens = data.stream(words, split.train, train.SEED)
    heldout = data.windows(data.encode(words, split.heldout))
    print(f"{len(tokens)} training tokens, {len(heldout)} held-out windows", flush=True)

    results: dict[str, object] = {
        "packages": corpus.require_packages(),
        "training_tokens": len(tokens),
        "characters": export.characters(split),
    }
    for spec in PAIR:
        if options.only not in (None, spec.name):
            continue
        trained = train.until_enough(spec, options.build / spec.name, tokens, heldout)
        if options.only:
            continue
        export.save_model(trained.model, words, options.out / spec.name)
        results[spec.name] = {
            "width": spec.width,
            "layers": spec.layers,
            "heads": spec.heads,
            "parameters": trained.model.num_parameters(),
            "steps": trained.steps,
            "tokens_seen": trained.steps * train.BATCH * data.CONTEXT,
            "heldout_loss_by_steps": trained.losses,
            "heldout_loss_saved": export.saved_losses(options.out / spec.name, split.heldout),
        }
        print(json.dumps(results[spec.name], indent=1), flush=True)
    if not options.only:
        export.save_texts(split, options.out / "text")
        export.save_licences(options.out / "text" / "licences")
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What the figure of `suture.fidelity` can be at all: features of a SAE that was carried from one
model of the pair to the other, beside those of SAEs that were trained there, each with its best
match. SAEs and rows are kept below --out, so that a second run goes on.

    python python/benchmarks/fidelity_scale.py [--out out/scale] [--tokens 3000000]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _pairs import describe, machine, say
from _scale_pair import experiment, trained

import suture

CARRY_TOKENS = 300_000
HEAD = (
    "latents compared", "correlation", "mutual", "share", "judged", "effects", "control",
    "delta loss",
)  # fmt: skip


def line(cells: tuple[Any, ...]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/scale"))
    parser.add_argument("--tokens", type=int, default=3_000_000, help="to train each SAE on")
    parser.add_argument("--fit-tokens", type=int, default=800_000, help="different ones")
    parser.add_argument("--latents", type=int, default=200, help="to take out")
    parser.add_argument("--loss-tokens", type=int, default=60_000)
    options = parser.parse_args()
    say(describe(machine()))

    of = experiment(options.out, options.tokens, options.fit_tokens)
    layers = of.pick_layers(of.describe())
    layer_a, layer_b = layers.result["layer_a"], layers.result["layer_b"]
    train = of.extract(layers, "fit", of.settings.fit_tokens)
    held = of.extract(layers, "held_out", of.settings.held_out_tokens)
    some: dict[str, Any] = {name: of._rows(train, name, CARRY_TOKENS) for name in "ab"}
    judge: dict[str, Any] = {name: of._rows(held, name) for name in "ab"}
    say(f"\nlayers {layer_a} -> {layer_b}; {held.result['tokens']} held-out tokens")

    sae = trained(of, train, "a", 0)
    in_b = [trained(of, train, "b", seed) for seed in (0, 1)]
    stitch = suture.Stitch.fit(some["a"], some["b"], progress=False)
    carried = {
        "stitch": stitch.transfer(sae),
        "stitch + refit": stitch.transfer(sae, refit=some["b"], progress=False),
        "pairs": suture.carry(sae, some["a"], some["b"], progress=False)[0],
    }
    texts = suture.read_texts(*of.texts["held_out"])
    context = of.settings.context
    model_a, model_b, tokenizer = of._model("a"), of._model("b"), of._tokenizer()

    def effects(one: suture.SAE, other: suture.SAE, first: str, partners: Any = None) -> Any:
        models = {"a": (model_a, layer_a, one), "b": (model_b, layer_b, one)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", suture.SutureWarning)
            return suture.models.ablation_effects(
                *models[first], model_b, layer_b, other, texts, tokenizer,
                latents=options.latents, latents_b=partners, context=context,
                max_tokens=options.loss_tokens, progress=False,
            ).summary()  # fmt: skip

    def delta_loss(other: suture.SAE) -> str:
        found = suture.models.spliced_loss(
            model_b, other, layer_b, texts, tokenizer, context=context,
            max_tokens=options.loss_tokens, progress=False,
        )  # fmt: skip
        return f"{found.delta_loss:.3f}"

    say("")
    say(line(HEAD))
    say("|" + "---|" * len(HEAD))
    for label, moved in carried.items():
        told = suture.fidelity(sae, judge["a"], moved, judge["b"], progress=False).summary()
        done = effects(sae, moved, "a")
        say(
            line(
                (
                    f"{label}: latent i with latent i", told.correlation, "",
                    f"{told.share_active:.2f}", told.judged, done.correlation, done.control,
                    delta_loss(moved),
                )
            )
        )  # fmt: skip
    best: list[tuple[str, suture.SAE, str, suture.SAE]] = [
        ("pairs: best matches", sae, "a", carried["pairs"]),
        ("A's and one trained on B: best matches", sae, "a", in_b[0]),
        ("two seeds on B: best matches", in_b[0], "b", in_b[1]),
    ]
    notes = []
    for label, one, first, other in best:
        matches = suture.best_matches(one, judge[first], other, judge["b"], progress=False)
        summary = matches.summary()
        done = effects(one, other, first, matches.match)
        say(
            line(
                (
                    label, summary.correlation, f"{summary.mutual / summary.judged:.2f}",
                    f"{summary.share_active:.2f}", summary.judged,
                    done.correlation, done.control, delta_loss(other),
                )
            )
        )  # fmt: skip
        notes.append(
            f"{label}: on the rows that chose {summary.chosen}, with other rows {summary.control}; "
            f"mutual ones {np.nanmedian(matches.correlation[matches.mutual]):.2f}"
        )
    say("")
    for note in notes:
        say(note)


if __name__ == "__main__":
    main()

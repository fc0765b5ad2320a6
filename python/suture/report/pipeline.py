# SPDX-License-Identifier: Apache-2.0
"""The main experiment on a pair of language models, step by step, each step kept."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import suture
from suture.report.carrying import METHODS, carried
from suture.report.comparison import STITCHES, compare
from suture.report.pair import Pair
from suture.report.settings import Settings
from suture.report.steps import Step, write_whole


class Experiment(Pair):
    """One pair of models, from their texts to the figures of the report."""

    settings: Settings

    def table1(self, svcca: Step, stitch: Step) -> Step:
        """Six next-token losses on held-out text."""

        def compute(_: Path) -> dict[str, Any]:
            losses = suture.models.stitched_loss(
                self._model("a"),
                self._model("b"),
                suture.Stitch.load(stitch.folder / "stitch.safetensors"),
                svcca.result["layer_a"],
                svcca.result["layer_b"],
                suture.read_texts(*self.texts["held_out"]),
                tokenizer=self._tokenizer(),
                tokenizer_b=self._tokenizer("b"),
                context=self.settings.context,
                max_tokens=self.settings.loss_tokens,
                progress=self.progress,
            )
            labels = {
                "A": ("a", None),
                "B": ("b", None),
                "A→B": ("a_to_b", "a_to_b"),
                "B→A": ("b_to_a", "b_to_a"),
                "A→B→A": ("a_to_b_to_a", "a_to_b_to_a"),
                "B→A→B": ("b_to_a_to_b", "b_to_a_to_b"),
            }
            found = losses.to_dict()
            return {key: found[key] for key in ("tokens", "tokens_b", "share_a", "share_b")} | {
                "losses": {
                    label: {
                        "loss": getattr(losses, field),
                        "relative_change": losses.relative[change] if change else None,
                    }
                    for label, (field, change) in labels.items()
                },
            }

        depends = {
            "stitch": stitch.key,
            "texts": self._fingerprints["held_out"],
            "tokens": self.settings.loss_tokens,
        }
        return self.steps.run("table1", "Running text through both models", depends, compute)

    def compare(self, train: Step, held: Step) -> Step:
        """The stitch beside what other rows, objectives and methods give."""
        settings = self.settings
        return self.steps.run(
            "stitches",
            "Comparing stitches",
            {
                "train": train.key,
                "held": held.key,
                "alpha": settings.alpha,
                "tokens": settings.stitch_tokens,
                "stitches": [[label, *map(str, options)] for label, *options in STITCHES],
            },
            lambda _: compare(
                {name: self._rows(train, name, settings.stitch_tokens) for name in "ab"},
                {name: self._rows(held, name) for name in "ab"},
                alpha=settings.alpha,
                progress=self.progress,
            ),
        )

    def train(self, train: Step, svcca: Step, models: Step, name: str = "a") -> Step:
        """A TopK SAE on A, or on B."""
        settings = self.settings
        scaled: suture.TrainOptions = {}
        if settings.scale_inputs:
            scaled = {"normalize_activations": "expected_average_only_in", "b_dec_init": "mean"}
        training: suture.TrainOptions = {
            "batch_size": settings.batch_size,
            "lr": settings.lr,
            "seed": settings.seed,
            **scaled,
        }

        def compute(folder: Path) -> dict[str, Any]:
            sae = suture.SAE.init(
                d_in=models.result[name]["d_model"],
                d_sae=settings.d_sae,
                architecture="topk",
                k=settings.k,
                seed=settings.seed,
            )
            run = suture.train(
                sae,
                self._rows(train, name),
                tokens=settings.sae_tokens,
                progress=self.progress,
                **training,
            )
            site = suture.Site(models.result[name]["name"], svcca.result[f"layer_{name}"])
            run.sae.metadata |= site.metadata
            run.sae.save(folder / "sae")
            return {"history": [dict(row) for row in run.history]}

        depends = {
            "train": train.key,
            "sae": [settings.d_sae, settings.k, settings.seed],
            "training": [settings.sae_tokens, settings.batch_size, settings.lr, scaled],
        }
        title = f"Training a sparse autoencoder on {name.upper()}"
        return self.steps.run("sae" if name == "a" else "sae-b", title, depends, compute)

    def table2(self, svcca: Step, stitch: Step, sae: Step, held: Step, source: str = "a") -> Step:
        """Original on the model it was trained on, transferred to the other, random there."""
        settings = self.settings
        target = "b" if source == "a" else "a"

        def compute(folder: Path) -> dict[str, Any]:
            original = suture.SAE.load(sae.folder / "sae")
            moved = suture.Stitch.load(stitch.folder / "stitch.safetensors").transfer(
                original, "up" if source == "a" else "down"
            )
            moved.save(folder / "transferred")
            random = suture.SAE.init(
                d_in=moved.d_in,
                d_sae=settings.d_sae,
                architecture="topk",
                k=settings.k,
                seed=settings.seed + 1,
            )
            rows = []
            for label, name, candidate in (
                (f"original on {source.upper()}", source, original),
                (f"transferred to {target.upper()}", target, moved),
                (f"random on {target.upper()}", target, random),
            ):
                metrics = candidate.evaluate(self._rows(held, name), progress=self.progress)
                spliced = suture.models.spliced_loss(
                    self._model(name),
                    candidate,
                    svcca.result[f"layer_{name}"],
                    suture.read_texts(*self.texts["held_out"]),
                    tokenizer=self._tokenizer(name),
                    context=settings.context,
                    max_tokens=settings.loss_tokens,
                    progress=self.progress,
                )
                rows.append(
                    {"label": label}
                    | dict(metrics)
                    | {
                        "clean_loss": spliced.clean,
                        "spliced_loss": spliced.spliced,
                        "delta_loss": spliced.delta_loss,
                        "ce_score": spliced.to_dict()["ce_score"],
                        "loss_tokens": spliced.tokens,
                    }
                )
            return {"rows": rows}

        depends = {
            "sae": sae.key,
            "stitch": stitch.key,
            "held": held.key,
            "texts": self._fingerprints["held_out"],
            "tokens": settings.loss_tokens,
        }
        title = f"Transferring to {target.upper()} and evaluating"
        name = "table2" if source == "a" else "table2-b"
        return self.steps.run(name, title, depends, compute)

    def features(self, stitch: Step, sae: Step, train: Step, held: Step, source: str = "a") -> Step:
        """Whether the SAE's latents still are themselves in the other model, by way of moving."""
        target = "b" if source == "a" else "a"

        def rows(step: Step) -> dict[str, Any]:
            return {"source": self._rows(step, source), "target": self._rows(step, target)}

        def compute(folder: Path) -> dict[str, Any]:
            return {
                "rows": carried(
                    suture.SAE.load(sae.folder / "sae"),
                    suture.Stitch.load(stitch.folder / "stitch.safetensors"),
                    "up" if source == "a" else "down",
                    rows(train),
                    rows(held),
                    progress=self.progress,
                    keep=folder / "carried",
                )
            }

        depends = {
            "sae": sae.key,
            "stitch": stitch.key,
            "train": train.key,
            "held": held.key,
            "methods": list(METHODS),
        }
        name = "features" if source == "a" else "features-b"
        return self.steps.run(name, f"Comparing features in {target.upper()}", depends, compute)

    # -- all of it -------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Runs every step that is not done yet and gathers ``report.json``'s content."""
        start = time.perf_counter()
        models = self.describe()
        svcca = self.pick_layers(models)
        train = self.extract(svcca, "fit", self.settings.fit_tokens)
        held = self.extract(svcca, "held_out", self.settings.held_out_tokens)
        stitch = self.fit(svcca, models, train, held)
        stitches = self.compare(train, held)
        table1 = self.table1(svcca, stitch)
        sae = self.train(train, svcca, models)
        table2 = self.table2(svcca, stitch, sae, held)
        features = self.features(stitch, sae, train, held)
        back: dict[str, Any] = {}
        if self.settings.both_ways:
            sae_b = self.train(train, svcca, models, "b")
            back = {
                "training_b": sae_b.result["history"],
                "table2_b": self.table2(svcca, stitch, sae_b, held, "b").result["rows"],
                "features_b": self.features(stitch, sae_b, train, held, "b").result["rows"],
            }
        return {
            "suture": suture.__version__,
            "machine": asdict(suture.cpu_info()),
            "settings": asdict(self.settings),
            "models": models.result,
            "tokens": {
                "svcca": svcca.result["tokens"],
                "fit": train.result["tokens"],
                "held_out": held.result["tokens"],
            },
            "pairing": {
                which: {
                    key: step.result[key]
                    for key in ("kept_a", "kept_b", "one_to_one")
                    if key in step.result
                }
                for which, step in (("fit", train), ("held_out", held))
            },
            "svcca": svcca.result,
            "stitch": stitch.result,
            "stitches": stitches.result,
            "table1": table1.result,
            "training": sae.result["history"],
            "table2": table2.result["rows"],
            "features": features.result["rows"],
            **back,
            "steps": [
                {"name": step.name, "seconds": step.seconds, "cached": step.cached}
                for step in self.steps.done
            ],
            "seconds": time.perf_counter() - start,
        }


def dump(results: dict[str, Any], path: Path) -> None:
    """Writes ``report.json``."""
    write_whole(path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")

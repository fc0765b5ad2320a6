# SPDX-License-Identifier: Apache-2.0
"""The main experiment on a pair of language models, step by step, each step kept."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import suture
from suture.models._residual import find_blocks
from suture.models.loading import load
from suture.report.settings import Settings
from suture.report.steps import Step, Steps, fingerprint_files


class Experiment:
    """One pair of models, from their texts to the figures of the report."""

    def __init__(
        self,
        model_a: str | os.PathLike[str],
        model_b: str | os.PathLike[str],
        texts: Sequence[str | os.PathLike[str]],
        held_out: Sequence[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        settings: Settings,
        progress: bool = True,
    ) -> None:
        self.paths = {"a": Path(model_a), "b": Path(model_b)}
        self.texts = {"fit": list(map(Path, texts)), "held_out": list(map(Path, held_out))}
        self.settings = settings
        self.progress = progress
        for name, path in self.paths.items():
            if not (path / "config.json").is_file():
                raise ValueError(
                    f"model_{name} is {os.fspath(path)!r}, expected a folder that "
                    "transformers' save_pretrained() wrote (no config.json in it)"
                )
        self.steps = Steps(Path(out) / "work")
        self._models: dict[str, tuple[Any, Any]] = {}
        self._fingerprints = {
            name: fingerprint_files([path]) for name, path in self.paths.items()
        } | {name: fingerprint_files(paths) for name, paths in self.texts.items()}

    # -- the models, loaded when the first step needs them ---------------------------------------

    def _load(self, name: str) -> tuple[Any, Any]:
        if name not in self._models:
            self._models[name] = load(self.paths[name], f"model_{name}")
        return self._models[name]

    def _model(self, name: str) -> Any:
        return self._load(name)[0]

    def _tokenizer(self, name: str = "a") -> Any:
        return self._load(name)[1]

    def _extract(
        self, name: str, which: str, layers: list[int], tokens: int, out: Path
    ) -> dict[str, Any]:
        acts = suture.models.extract(
            self._model(name),
            self._tokenizer(name),
            suture.read_texts(*self.texts[which]),
            layers,
            context=self.settings.context,
            max_tokens=tokens,
            out=out / name,
            model_name=self.paths[name].name,
            progress=self.progress,
        )
        return {"tokens": len(acts)}

    def _layers(self, name: str) -> int:
        return len(find_blocks(self._model(name)))

    # -- steps -----------------------------------------------------------------------------------

    def describe(self) -> Step:
        """Sizes of the two models."""

        def compute(_: Path) -> dict[str, Any]:
            return {
                name: {
                    "name": path.name,
                    "architecture": self._model(name).config.model_type,
                    "d_model": self._model(name).config.hidden_size,
                    "layers": self._layers(name),
                    "parameters": sum(p.numel() for p in self._model(name).parameters()),
                }
                for name, path in self.paths.items()
            }

        depends = {
            "suture": suture.__version__,
            "a": [self.paths["a"].name, self._fingerprints["a"]],
            "b": [self.paths["b"].name, self._fingerprints["b"]],
        }
        return self.steps.run("models", "Reading the models", depends, compute)

    def pick_layers(self, models: Step) -> Step:
        """SVCCA between all layers; A's middle layer and B's most alike one."""
        settings = self.settings

        layers = {name: list(range(1, models.result[name]["layers"])) for name in "ab"}
        for name, given in (("a", settings.layer_a), ("b", settings.layer_b)):
            if not layers[name]:
                raise ValueError(f"model_{name} has 1 layer, expected at least 2 to stitch between")
            if given is not None and given not in layers[name]:
                raise ValueError(f"layer_{name} is {given}, expected 1 to {layers[name][-1]}")

        def compute(folder: Path) -> dict[str, Any]:
            for name in "ab":
                self._extract(name, "fit", layers[name], settings.svcca_tokens, folder)
            acts = {name: suture.Activations.open(folder / name) for name in "ab"}
            suture.check_paired(acts["a"], acts["b"])
            grid = suture.svcca_grid(
                {layer: acts["a"].shards(layer) for layer in layers["a"]},
                {layer: acts["b"].shards(layer) for layer in layers["b"]},
                progress=self.progress,
            ).tolist()
            layer_a = settings.layer_a
            if layer_a is None:
                layer_a = models.result["a"]["layers"] // 2
            layer_b = settings.layer_b
            if layer_b is None:
                row = grid[layers["a"].index(layer_a)]
                layer_b = layers["b"][row.index(max(row))]
            return {
                "tokens": len(acts["a"]),
                "layers_a": layers["a"],
                "layers_b": layers["b"],
                "grid": grid,
                "layer_a": layer_a,
                "layer_b": layer_b,
            }

        depends = {
            "models": models.key,
            "texts": self._fingerprints["fit"],
            "context": settings.context,
            "tokens": settings.svcca_tokens,
            "layers": [settings.layer_a, settings.layer_b],
        }
        return self.steps.run("svcca", "Comparing layers by SVCCA", depends, compute)

    def extract(self, svcca: Step, which: str, tokens: int) -> Step:
        """Activations of both models at the chosen layers."""

        def compute(folder: Path) -> dict[str, Any]:
            for name in "ab":
                self._extract(name, which, [svcca.result[f"layer_{name}"]], tokens, folder)
            acts = [suture.Activations.open(folder / name) for name in "ab"]
            suture.check_paired(*acts)
            return {"tokens": len(acts[0])}

        depends = {
            "svcca": svcca.key,
            "texts": self._fingerprints[which],
            "context": self.settings.context,
            "tokens": tokens,
        }
        title = {"fit": "Extracting activations", "held_out": "Extracting held-out activations"}
        return self.steps.run(f"activations-{which}", title[which], depends, compute)

    @staticmethod
    def _rows(step: Step, name: str) -> Any:
        acts = suture.Activations.open(step.folder / name)
        (layer,) = acts.layers
        return acts.shards(layer)

    def fit(self, svcca: Step, models: Step, train: Step, held: Step) -> Step:
        """The stitch, and its objective on fitted and held-out rows."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            stitch = suture.Stitch.fit(
                self._rows(train, "a"),
                self._rows(train, "b"),
                alpha=settings.alpha,
                progress=self.progress,
            )
            stitch.metadata |= {
                "model_a": models.result["a"]["name"],
                "layer_a": svcca.result["layer_a"],
                "model_b": models.result["b"]["name"],
                "layer_b": svcca.result["layer_b"],
            }
            stitch.save(folder / "stitch.safetensors")
            held_out = stitch.evaluate(
                self._rows(held, "a"), self._rows(held, "b"), alpha=settings.alpha
            )
            report = stitch.report
            assert report is not None
            return asdict(report) | {"held_out": asdict(held_out)}

        depends = {"train": train.key, "held": held.key, "alpha": settings.alpha}
        return self.steps.run("stitch", "Fitting the stitch", depends, compute)

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
            return {
                "tokens": losses.tokens,
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

    def train(self, train: Step, svcca: Step, models: Step) -> Step:
        """A TopK SAE on A."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            rows = self._rows(train, "a")
            sae = suture.SAE.init(
                d_in=models.result["a"]["d_model"],
                d_sae=settings.d_sae,
                architecture="topk",
                k=settings.k,
                seed=settings.seed,
            )
            run = suture.train(
                sae,
                rows,
                tokens=settings.sae_tokens,
                batch_size=settings.batch_size,
                lr=settings.lr,
                seed=settings.seed,
                progress=self.progress,
            )
            run.sae.metadata |= {
                "model_name": models.result["a"]["name"],
                "hook_name": f"blocks.{svcca.result['layer_a']}.hook_resid_pre",
            }
            run.sae.save(folder / "sae")
            return {"history": [dict(row) for row in run.history]}

        depends = {
            "train": train.key,
            "sae": [settings.d_sae, settings.k, settings.seed],
            "training": [settings.sae_tokens, settings.batch_size, settings.lr],
        }
        return self.steps.run("sae", "Training a sparse autoencoder on A", depends, compute)

    def table2(self, svcca: Step, stitch: Step, sae: Step, held: Step) -> Step:
        """Original on A, transferred to B, random on B."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            original = suture.SAE.load(sae.folder / "sae")
            moved = suture.Stitch.load(stitch.folder / "stitch.safetensors").transfer(original)
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
                ("original on A", "a", original),
                ("transferred to B", "b", moved),
                ("random on B", "b", random),
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
        return self.steps.run("table2", "Transferring and evaluating", depends, compute)

    # -- all of it -------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Runs every step that is not done yet and gathers ``report.json``'s content."""
        start = time.perf_counter()
        models = self.describe()
        svcca = self.pick_layers(models)
        train = self.extract(svcca, "fit", self.settings.fit_tokens)
        held = self.extract(svcca, "held_out", self.settings.held_out_tokens)
        stitch = self.fit(svcca, models, train, held)
        table1 = self.table1(svcca, stitch)
        sae = self.train(train, svcca, models)
        table2 = self.table2(svcca, stitch, sae, held)
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
            "svcca": svcca.result,
            "stitch": stitch.result,
            "table1": table1.result,
            "training": sae.result["history"],
            "table2": table2.result["rows"],
            "steps": [
                {"name": step.name, "seconds": step.seconds, "cached": step.cached}
                for step in self.steps.done
            ],
            "seconds": time.perf_counter() - start,
        }


def dump(results: dict[str, Any], path: Path) -> None:
    """Writes ``report.json``."""
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

# SPDX-License-Identifier: Apache-2.0
"""A pair of language models and what every experiment on one begins with, each step kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import suture
from suture.models._residual import find_blocks
from suture.models.loading import load
from suture.report.settings import PairSettings
from suture.report.steps import Step, Steps, fingerprint_files


class Pair:
    """Two models, from their texts to activations and a stitch."""

    def __init__(
        self,
        model_a: str | os.PathLike[str],
        model_b: str | os.PathLike[str],
        texts: Sequence[str | os.PathLike[str]],
        held_out: Sequence[str | os.PathLike[str]],
        out: str | os.PathLike[str],
        settings: PairSettings,
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
        self, which: str, layers: dict[str, list[int]], tokens: int, out: Path
    ) -> dict[str, Any]:
        """Activations of both models, paired row by row, in ``out/a`` and ``out/b``."""
        texts = suture.read_texts(*self.texts[which])
        if self.one_tokenizer:
            for name in "ab":
                suture.models.extract(
                    self._model(name),
                    self._tokenizer(name),
                    texts,
                    layers[name],
                    context=self.settings.context,
                    max_tokens=tokens,
                    out=out / name,
                    model_name=self.paths[name].name,
                    progress=self.progress,
                )
            acts = [suture.Activations.open(out / name) for name in "ab"]
            suture.check_paired(*acts)
            return {"tokens": len(acts[0])}
        acts_a, _ = suture.models.extract_pair(
            self._model("a"),
            self._tokenizer("a"),
            self._model("b"),
            self._tokenizer("b"),
            texts,
            layers["a"],
            layers["b"],
            context=self.settings.context,
            max_tokens=tokens,
            out=out,
            model_names=(self.paths["a"].name, self.paths["b"].name),
            progress=self.progress,
        )
        pairing = acts_a.metadata["pairing"]
        return {"tokens": len(acts_a)} | {
            key: pairing[key] for key in ("kept_a", "kept_b", "one_to_one")
        }

    @cached_property
    def one_tokenizer(self) -> bool:
        """Whether both models read all of the texts as the same tokens."""
        a, b = self._tokenizer("a"), self._tokenizer("b")
        if (a.bos_token_id, set(a.all_special_ids)) != (b.bos_token_id, set(b.all_special_ids)):
            return False
        for which in self.texts:
            texts = suture.read_texts(*self.texts[which])
            for start in range(0, len(texts), 256):
                part = texts[start : start + 256]
                ids_a, ids_b = (
                    tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
                    for tokenizer in (a, b)
                )
                if ids_a != ids_b:
                    return False
        return True

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
                    "vocabulary": len(self._tokenizer(name)),
                }
                for name, path in self.paths.items()
            } | {"one_tokenizer": self.one_tokenizer}

        depends = {
            "suture": suture.__version__,
            "a": [self.paths["a"].name, self._fingerprints["a"]],
            "b": [self.paths["b"].name, self._fingerprints["b"]],
            "texts": [self._fingerprints["fit"], self._fingerprints["held_out"]],
        }
        return self.steps.run("models", "Reading the models", depends, compute)

    def pick_layers(self, models: Step) -> Step:
        """SVCCA between all layers; A's middle layer and B's most alike one."""
        settings = self.settings

        layers: dict[str, list[int]] = {}
        middle = {"a": models.result["a"]["layers"] // 2, "b": None}
        for name, given in (("a", settings.layer_a), ("b", settings.layer_b)):
            count = models.result[name]["layers"]
            if count < 2:
                raise ValueError(f"model_{name} has 1 layer, expected at least 2 to stitch between")
            if given is not None and not 0 < given < count:
                raise ValueError(f"layer_{name} is {given}, expected 1 to {count - 1}")
            stitched = given or middle[name]
            compared = range(min(settings.layer_step, count - 1), count, settings.layer_step)
            layers[name] = sorted({*compared} | ({stitched} if stitched else set()))

        def compute(folder: Path) -> dict[str, Any]:
            found = self._extract("fit", layers, settings.svcca_tokens, folder)
            acts = {name: suture.Activations.open(folder / name) for name in "ab"}
            grid = suture.svcca_grid(
                {layer: acts["a"].shards(layer) for layer in layers["a"]},
                {layer: acts["b"].shards(layer) for layer in layers["b"]},
                progress=self.progress,
            ).tolist()
            layer_a = settings.layer_a or middle["a"]
            layer_b = settings.layer_b
            if layer_b is None:
                row = grid[layers["a"].index(layer_a)]
                layer_b = layers["b"][row.index(max(row))]
            return found | {
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
            "layers": [settings.layer_a, settings.layer_b, settings.layer_step],
        }
        return self.steps.run("svcca", "Comparing layers by SVCCA", depends, compute)

    def extract(self, svcca: Step, which: str, tokens: int) -> Step:
        """Activations of both models at the chosen layers."""

        def compute(folder: Path) -> dict[str, Any]:
            layers = {name: [int(svcca.result[f"layer_{name}"])] for name in "ab"}
            return self._extract(which, layers, tokens, folder)

        depends = {
            "svcca": svcca.key,
            "texts": self._fingerprints[which],
            "context": self.settings.context,
            "tokens": tokens,
        }
        title = {"fit": "Extracting activations", "held_out": "Extracting held-out activations"}
        return self.steps.run(f"activations-{which}", title[which], depends, compute)

    @staticmethod
    def _rows(step: Step, name: str, tokens: int | None = None) -> Any:
        """Activations of a model, by shards; the first `tokens` rows, or all."""
        acts = suture.Activations.open(step.folder / name)
        (layer,) = acts.layers
        if tokens is None:
            return acts.shards(layer)
        blocks = []
        for block in acts.shards(layer):
            if tokens > 0:
                blocks.append(block[:tokens])
                tokens -= len(block)
        return blocks

    def fit(self, svcca: Step, models: Step, train: Step, held: Step) -> Step:
        """The stitch, and its objective on fitted and held-out rows."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            stitch = suture.Stitch.fit(
                self._rows(train, "a", settings.stitch_tokens),
                self._rows(train, "b", settings.stitch_tokens),
                alpha=settings.alpha,
                objective=settings.objective,
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
            minimised = "scaled_total" if settings.objective == "scaled" else "total"
            return asdict(report) | {"held_out": asdict(held_out), "minimised": minimised}

        depends = {
            "train": train.key,
            "held": held.key,
            "alpha": settings.alpha,
            "objective": settings.objective,
            "tokens": settings.stitch_tokens,
        }
        return self.steps.run("stitch", "Fitting the stitch", depends, compute)

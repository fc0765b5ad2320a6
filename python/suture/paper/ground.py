# SPDX-License-Identifier: Apache-2.0
"""What the paper's experiments begin with: two models, their stitch and their SAEs, each kept."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import suture
from suture.report.pipeline import Experiment
from suture.report.steps import Step, fingerprint

Name = Literal["a", "b"]
Which = Literal["fit", "held_out"]

#: SAEs by name: trained on A; that one on B, by the stitch; trained on B; untrained ones.
SAES = ("a", "transferred", "b", "random_a", "random_b")


class Ground(Experiment):
    """A pair of models and what its experiments share. What is asked for is made once, when it is
    first asked for, and kept in ``out/work``: see :class:`suture.report.steps.Steps`.

    Args:
        model_a: Folder of a Hugging Face model, usually the smaller one.
        model_b: Folder of the other one. Where its tokenizer is another, rows are paired where
            tokens of both end at the same place of the text.
        texts: Files of documents to fit and train on (see :func:`suture.texts.read_records`).
        held_out: Files of documents to judge by.
        out: Folder of the results; made if it is not there.
        settings: Token counts, layers, sizes; see :class:`suture.report.Settings`.
        progress: Show progress bars on standard error.
    """

    # -- steps -----------------------------------------------------------------------------------

    @cached_property
    def models(self) -> Step:
        """Names, architectures and sizes of both models."""
        return self.describe()

    @cached_property
    def layers(self) -> Step:
        """SVCCA between all layers, and the pair that is stitched."""
        return self.pick_layers(self.models)

    @cached_property
    def fit_rows(self) -> Step:
        """Activations to fit and train on."""
        return self.extract(self.layers, "fit", self.settings.fit_tokens)

    @cached_property
    def held_out_rows(self) -> Step:
        """Activations to judge by."""
        return self.extract(self.layers, "held_out", self.settings.held_out_tokens)

    @cached_property
    def stitched(self) -> Step:
        """The stitch and its objective."""
        return self.fit(self.layers, self.models, self.fit_rows, self.held_out_rows)

    @cached_property
    def trained_a(self) -> Step:
        """The SAE on A."""
        return self.train(self.fit_rows, self.layers, self.models, "a")

    @cached_property
    def trained_b(self) -> Step:
        """The SAE on B: what a transferred one is compared with."""
        return self.train(self.fit_rows, self.layers, self.models, "b")

    # -- what they give --------------------------------------------------------------------------

    def layer(self, name: Name) -> int:
        """The stitched layer: the residual stream before this block."""
        return int(self.layers.result[f"layer_{name}"])

    def width(self, name: Name) -> int:
        """Width of the residual stream."""
        return int(self.models.result[name]["d_model"])

    def model(self, name: Name) -> Any:
        """The language model, in float32 and evaluation mode."""
        return self._model(name)

    def tokenizer(self, name: Name = "a") -> Any:
        """Its tokenizer."""
        return self._tokenizer(name)

    def needs_one_tokenizer(self, what: str) -> None:
        """Refuses what compares both models' logits of the same tokens, where theirs differ."""
        if not self.models.result["one_tokenizer"]:
            names = " and ".join(self.models.result[name]["name"] for name in ("a", "b"))
            raise suture.UnsupportedError(
                f"{what} compare what features add to the logits of the same tokens, and {names} "
                "have different tokens"
            )

    def unembedding(self, name: Name, *, fold_norm: bool = False) -> Any:
        """W_U of the model, (d, tokens), without the columns that only pad it beyond the tokenizer:
        models of one family are padded to different sizes."""
        head = suture.models.unembedding(self.model(name), fold_norm=fold_norm)
        return head[:, : len(self.tokenizer(name))]

    def activations(self, which: Which, name: Name) -> suture.Activations:
        """Activations at the stitched layer, with token ids, positions and sequences."""
        step = self.fit_rows if which == "fit" else self.held_out_rows
        return suture.Activations.open(step.folder / name)

    def rows(self, which: Which, name: Name) -> Any:
        """The rows of :meth:`activations`, as a sequence of memory-mapped blocks."""
        return self.activations(which, name).shards(self.layer(name))

    def first_rows(self, which: Which, name: Name, tokens: int | None) -> Any:
        """The first `tokens` rows, or all."""
        return self._rows(self.fit_rows if which == "fit" else self.held_out_rows, name, tokens)

    def records(self, which: Which) -> list[dict[str, Any]]:
        """The documents, with their language, page or whatever else the files say of them."""
        return suture.read_records(*self.texts[which])

    def stitch(self) -> suture.Stitch:
        """The stitch between the two layers."""
        return suture.Stitch.load(self.stitched.folder / "stitch.safetensors")

    def sae(self, which: str) -> suture.SAE:
        """One of :data:`SAES`: "a", "transferred", "b", "random_a" or "random_b"."""
        if which == "transferred":
            return self.stitch().transfer(self.sae("a"))
        if which in ("a", "b"):
            step = self.trained_a if which == "a" else self.trained_b
            return suture.SAE.load(step.folder / "sae")
        if which in ("random_a", "random_b"):
            name: Name = "a" if which == "random_a" else "b"
            # Not the seed of the trained ones: they began as such a SAE.
            return suture.SAE.init(
                d_in=self.width(name),
                d_sae=self.settings.d_sae,
                architecture="topk",
                k=self.settings.k,
                seed=self.settings.seed + 1,
            )
        raise ValueError(f"which is {which!r}, expected one of {', '.join(SAES)}")

    def key(self, *names: str) -> dict[str, str]:
        """Fingerprints for the `depends` of a step: what changes when any of these does.

        Args:
            names: Of :data:`SAES`, "models", "layers", "stitch", "fit" and "held_out" (texts and
                activations), "texts_fit" and "texts_held_out" (texts alone).
        """
        return {name: self._key(name) for name in names}

    def _key(self, name: str) -> str:
        settings = self.settings
        if name.startswith("texts_"):
            return self._fingerprints[name.removeprefix("texts_")]
        if name == "transferred":
            return fingerprint([self.trained_a.key, self.stitched.key])
        if name.startswith("random_"):
            sizes = [settings.d_sae, settings.k, settings.seed + 1]
            return fingerprint([self.models.key, name, *sizes])
        steps = {
            "models": "models",
            "layers": "layers",
            "stitch": "stitched",
            "fit": "fit_rows",
            "held_out": "held_out_rows",
            "a": "trained_a",
            "b": "trained_b",
        }
        if name not in steps:
            raise ValueError(f"names has {name!r}, expected one of {', '.join([*SAES, *steps])}")
        step: Step = getattr(self, steps[name])
        return step.key

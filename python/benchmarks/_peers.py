# SPDX-License-Identifier: Apache-2.0
"""One training step of Suture and of the libraries it is compared with, each through its own
interface with its own defaults. What a step holds is said with each class."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from _activations import Float32, Setting

import suture


class NotThere(Exception):
    """A library is not installed, or has no such architecture."""


class Contestant(Protocol):
    """Something that takes training steps."""

    def step(self, i: int) -> None:
        """One training step, on batch i modulo the number of batches."""

    def l0(self) -> float | None:
        """Mean number of active latents a token, now, on one batch."""


def threshold_for(pre_activations: torch.Tensor, k: int) -> float:
    """The threshold above which k pre-activations a token lie, on average."""
    flat = pre_activations.detach().float().flatten()
    return float(flat.topk(k * len(pre_activations), sorted=False).values.min())


class Suture:
    """`suture.Trainer.step`: forward, gradients, Adam, decoder rows back to norm 1, metrics."""

    def __init__(self, setting: Setting, architecture: str, batches: list[Float32]) -> None:
        self.batches = batches
        try:
            start = _start(setting, architecture, batches[0])
            # JumpReLU holds no number of active latents by itself: let it stay where it starts.
            lr = 1e-6 if architecture == "jumprelu" else 1e-4
            self.trainer = suture.Trainer(start, batch_size=setting.batch, lr=lr)
        except (suture.UnsupportedError, TypeError) as error:
            raise NotThere(str(error)) from error
        self.row: dict[str, Any] = {}

    def step(self, i: int) -> None:
        self.row = self.trainer.step(self.batches[i % len(self.batches)])

    def l0(self) -> float | None:
        return float(self.row["l0"])


def _start(setting: Setting, architecture: str, x: Float32) -> suture.SAE:
    """Random directions, `b_dec` the mean of a batch and `b_enc` such that the encoder sees rows
    without it: from zero biases a few latents along the mean would take most of the work."""
    d_in, d_sae, k = setting.d_in, setting.d_sae, setting.k
    if architecture == "batchtopk":
        return suture.SAE.init(d_in, d_sae, architecture=architecture, k=k)  # type: ignore[arg-type]
    start = suture.SAE.init(d_in, d_sae, k=k)
    mean = x.mean(0)
    weights: dict[str, Any] = {
        "W_enc": start.W_enc, "b_enc": -mean @ start.W_enc, "W_dec": start.W_dec, "b_dec": mean,
    }  # fmt: skip
    if architecture == "topk":
        return suture.SAE(**weights, k=k)
    pre_activations = torch.from_numpy((x[:512] - mean) @ start.W_enc)
    threshold = np.full(d_sae, threshold_for(pre_activations, k), np.float32)
    return suture.SAE(**weights, architecture="jumprelu", threshold=threshold)


class SAELens:
    """`SAETrainer.step`: forward, the sparsity counts, backward, clipping, Adam, schedulers."""

    def __init__(
        self, setting: Setting, architecture: str, batches: list[Float32], *, bf16: bool = False
    ) -> None:
        with _import("sae_lens"):
            from sae_lens import (
                BatchTopKTrainingSAE,
                BatchTopKTrainingSAEConfig,
                JumpReLUTrainingSAE,
                JumpReLUTrainingSAEConfig,
                TopKTrainingSAE,
                TopKTrainingSAEConfig,
            )
            from sae_lens.config import SAETrainerConfig
            from sae_lens.training.sae_trainer import SAETrainer
        torch.manual_seed(0)
        sizes = {"d_in": setting.d_in, "d_sae": setting.d_sae}
        self.batches = [torch.from_numpy(batch) for batch in batches]
        self.sae: Any
        if architecture == "topk":
            self.sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, k=setting.k))
        elif architecture == "batchtopk":
            self.sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**sizes, k=setting.k))
        else:
            self.sae = JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**sizes))
            with torch.no_grad():
                _, hidden = self.sae.encode_with_hidden_pre(self.batches[0][:512])
                self.sae.threshold.fill_(threshold_for(hidden, setting.k))
        config = SAETrainerConfig(
            total_training_samples=10**9,
            train_batch_size_samples=setting.batch,
            lr_warm_up_steps=1000,
            lr_end=3e-5,  # not used with its constant learning rate, yet asked for
            autocast=bf16,
        )
        self.trainer = SAETrainer(config, self.sae, iter(()))

    def step(self, i: int) -> None:
        self.trainer.step(self.batches[i % len(self.batches)])
        self.trainer.n_training_steps += 1

    @torch.no_grad()
    def l0(self) -> float | None:
        x = self.batches[0][:512]
        return int(self.sae.encode_with_hidden_pre(x)[0].count_nonzero()) / len(x)


class SAELensBfloat16(SAELens):
    """SAELens with `autocast`: products in bfloat16."""

    def __init__(self, setting: Setting, architecture: str, batches: list[Float32]) -> None:
        super().__init__(setting, architecture, batches, bf16=True)


class DictionaryLearning:
    """`update` of its trainers: forward, backward, projection, clipping, Adam, decoder norms. The
    running threshold, which it keeps from step 1,000 on, is not reached."""

    def __init__(self, setting: Setting, architecture: str, batches: list[Float32]) -> None:
        with _import("dictionary_learning"):
            if "nnsight" not in sys.modules and find_spec("nnsight") is None:
                # Imported for a class that reads activations from models, of no use here.
                stand_in: Any = types.ModuleType("nnsight")
                stand_in.LanguageModel = object
                sys.modules["nnsight"] = stand_in
            from dictionary_learning.trainers import BatchTopKTrainer, JumpReluTrainer, TopKTrainer
        torch.manual_seed(0)
        self.batches = [torch.from_numpy(batch) for batch in batches]
        self.steps = 0
        options: dict[str, Any] = {
            "steps": 10**6, "activation_dim": setting.d_in, "dict_size": setting.d_sae,
            "layer": 0, "lm_name": "", "device": "cpu",
        }  # fmt: skip
        self.trainer: Any
        if architecture == "jumprelu":
            self.trainer = JumpReluTrainer(**options, target_l0=setting.k)
            ae = self.trainer.ae
            with torch.no_grad():
                hidden = self.batches[0][:512] @ ae.W_enc + ae.b_enc
                ae.threshold.fill_(threshold_for(hidden, setting.k))
        else:
            trainer = TopKTrainer if architecture == "topk" else BatchTopKTrainer
            self.trainer = trainer(**options, k=setting.k)
        self.encoding = {} if architecture == "jumprelu" else {"use_threshold": False}

    def step(self, i: int) -> None:
        self.trainer.update(self.steps, self.batches[i % len(self.batches)])
        self.steps += 1

    @torch.no_grad()
    def l0(self) -> float | None:
        x = self.batches[0][:512]
        return int(self.trainer.ae.encode(x, **self.encoding).count_nonzero()) / len(x)


class Sparsify:
    """What its `Trainer` does with one batch of activations: decoder norms, `SparseCoder` forward,
    backward, projection, its default optimiser (schedule-free SignSGD), counts of firing. Left out:
    its copies of the activations. Without Triton, so on any CPU, it decodes by `embedding_bag`."""

    def __init__(self, setting: Setting, architecture: str, batches: list[Float32]) -> None:
        if architecture != "topk":
            raise NotThere(f"it has no {architecture}")
        os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
        with _import("sparsify"):
            from schedulefree import ScheduleFreeWrapper
            from sparsify import SparseCoder, SparseCoderConfig
            from sparsify.sign_sgd import SignSGD
        torch.manual_seed(0)
        self.batches = [torch.from_numpy(batch) for batch in batches]
        config = SparseCoderConfig(num_latents=setting.d_sae, k=setting.k)
        self.sae = SparseCoder(setting.d_in, config, dtype=torch.float32)
        self.sae.b_dec.data = self.batches[0].mean(0)
        lr = 5e-3 / (setting.d_sae / 2**14) ** 0.5
        self.optimizer = ScheduleFreeWrapper(SignSGD(self.sae.parameters(), lr=lr), momentum=0.95)
        self.optimizer.train()
        self.did_fire = torch.zeros(setting.d_sae, dtype=torch.bool)
        self.since_fired = torch.zeros(setting.d_sae, dtype=torch.long)

    def step(self, i: int) -> None:
        x = self.batches[i % len(self.batches)]
        self.sae.set_decoder_norm_to_unit_norm()
        total_variance = (x - x.mean(0)).pow(2).sum()
        out = self.sae(x=x, y=x, dead_mask=None, total_variance=total_variance)
        self.did_fire[out.latent_indices.flatten()] = True
        float(out.fvu.detach())
        (out.fvu + out.multi_topk_fvu / 8).backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.since_fired += len(x)
        self.since_fired[self.did_fire] = 0
        self.did_fire.zero_()

    @torch.no_grad()
    def l0(self) -> float | None:
        x = self.batches[0][:512]
        return int(self.sae.encode(x).top_acts.count_nonzero()) / len(x)


class Product:
    """The dense encoder product alone, float32, by torch, into memory that is there already."""

    def __init__(self, setting: Setting, architecture: str, batches: list[Float32]) -> None:
        if architecture != "topk":
            raise NotThere("it is the same for all")
        self.batches = [torch.from_numpy(batch) for batch in batches]
        self.weight = torch.randn(setting.d_in, setting.d_sae)
        self.out = torch.empty(setting.batch, setting.d_sae)

    def step(self, i: int) -> None:
        torch.mm(self.batches[i % len(self.batches)], self.weight, out=self.out)

    def l0(self) -> float | None:
        return None


PEERS: dict[str, Any] = {
    "saelens": SAELens,
    "saelens-bf16": SAELensBfloat16,
    "dictionary_learning": DictionaryLearning,
    "sparsify": Sparsify,
    "product": Product,
}


@contextlib.contextmanager
def _import(name: str) -> Iterator[None]:
    """Imports without what they print; an ImportError becomes NotThere."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except ImportError as error:
        raise NotThere(f"{name} is not installed: {error}") from error

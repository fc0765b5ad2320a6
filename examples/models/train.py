# SPDX-License-Identifier: Apache-2.0
"""Training of one GPT-NeoX model until more steps hardly pay.

The schedule is warm-up, a constant part (the trunk), and a linear decay to zero.
Then the finished model is trained for 10 % more steps, from a fifth of the full
rates down to zero again, and so on until that gains too little to matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from data import CONTEXT, Tokens, batches
from tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCABULARY

SEED = 20250611
BATCH = 24
WARMUP = 100
MUON_RATE, MUON_WEIGHT_DECAY = 0.02, 0.05
ADAM_RATE = 8e-3
CLIP = 1.0

#: Share of the full rates at which a finished model is taken up again, and the
#: held-out gain (nats) of 10 % more steps below which it counts as trained.
AGAIN, ENOUGH = 0.2, 0.01

SAVE_EVERY, EVALUATE_EVERY, LOG_EVERY = 100, 250, 50


@dataclass(frozen=True)
class Spec:
    """One model of the pair: its size, the steps of its first run, the share that decays."""

    name: str
    width: int
    layers: int
    heads: int
    steps: int
    decay: float


def build(spec: Spec) -> GPTNeoXForCausalLM:
    """The model with its random start."""
    torch.manual_seed(SEED)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=spec.width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=4 * spec.width,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    model = GPTNeoXForCausalLM._from_config(config, attn_implementation="eager")
    if not isinstance(model, GPTNeoXForCausalLM):
        raise TypeError("unexpected model class")
    return model


def token_losses(model: torch.nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy at every position of ``rows``; zero where the target is padding."""
    logits = model(input_ids=rows[:, :-1], use_cache=False).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), rows[:, 1:].flatten(), ignore_index=PAD_ID, reduction="none"
    ).view(len(rows), -1)


@torch.no_grad()
def heldout_loss(model: torch.nn.Module, rows: Tokens) -> tuple[float, int]:
    """Mean loss over all predicted tokens in float32, and their number."""
    total, count = 0.0, 0
    for piece in torch.from_numpy(rows).split(64):
        total += float(token_losses(model, piece).sum(dtype=torch.float64))
        count += int((piece[:, 1:] != PAD_ID).sum())
    return total / count, count


class Run:
    """Model, optimisers and step; saved whole, so that an interrupted run goes on where it was."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder, self.step = spec, folder, 0
        self.model = build(spec)
        hidden = [p for p in self.model.gpt_neox.layers.parameters() if p.ndim == 2]
        chosen = {id(p) for p in hidden}
        rest = [p for p in self.model.parameters() if id(p) not in chosen]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=MUON_RATE, weight_decay=MUON_WEIGHT_DECAY),
            torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, name: str) -> None:
        """Write the whole state to ``name`` in the run's folder."""
        state: dict[str, Any] = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        part = self.folder / (name + ".part")
        torch.save(state, part)
        part.replace(self.folder / name)

    def load(self, name: str) -> bool:
        """Take up the state saved under ``name``, if there is one."""
        path = self.folder / name
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return True

    def advance(
        self,
        tokens: Tokens,
        probe: Tokens,
        until: int,
        schedule: Callable[[int], float],
        checkpoint: str,
    ) -> None:
        """Train up to step ``until``; ``schedule`` gives each step's share of the full rates."""
        source = batches(tokens, BATCH, SEED, self.step)
        began, seen, losses = time.monotonic(), 0, list[float]()
        while self.step < until:
            rows = torch.from_numpy(next(source))
            scale = schedule(self.step)
            for optimizer, rate in zip(self.optimizers, (MUON_RATE, ADAM_RATE), strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * scale
            with torch.autocast("cpu", torch.bfloat16):
                loss = token_losses(self.model, rows).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            self.step += 1
            losses.append(loss.item())
            seen += BATCH * CONTEXT
            if self.step % LOG_EVERY == 0:
                rate = seen / (time.monotonic() - began)
                print(
                    f"{self.spec.name} step {self.step}/{until} loss "
                    f"{sum(losses) / len(losses):.4f} {rate:.0f} tokens/s",
                    flush=True,
                )
                losses.clear()
            if self.step % SAVE_EVERY == 0 or self.step == until:
                self.save(checkpoint)
            if self.step % EVALUATE_EVERY == 0 or self.step == until:
                print(
                    f"{self.spec.name} step {self.step} held-out probe "
                    f"{heldout_loss(self.model, probe)[0]:.4f}",
                    flush=True,
                )


def trunk(spec: Spec, folder: Path, tokens: Tokens, probe: Tokens, until: int) -> str:
    """Train the constant part up to step ``until`` and keep that state; returns its name."""
    fork = f"fork-{until}.pt"
    if not (folder / fork).exists():
        run = Run(spec, folder)
        run.load("trunk.pt")
        if run.step > until:
            raise RuntimeError(f"{folder} is past step {until}: delete it to start anew")
        run.advance(tokens, probe, until, lambda step: min(1.0, (step + 1) / WARMUP), "trunk.pt")
        run.save(fork)
    return fork


def falling(first: int, last: int, peak: float) -> Callable[[int], float]:
    """A schedule that falls linearly from ``peak`` at step ``first`` to zero at ``last``."""
    return lambda step: peak * (last - step) / (last - first)


def first_run(spec: Spec, folder: Path, tokens: Tokens, probe: Tokens) -> Run:
    """The trunk, then the decay to zero."""
    decay_from = round((1 - spec.decay) * spec.steps)
    fork = trunk(spec, folder, tokens, probe, decay_from)
    name = f"decayed-{spec.steps}.pt"
    run = Run(spec, folder)
    if not run.load(name):
        run.load(fork)
    run.advance(tokens, probe, spec.steps, falling(decay_from, spec.steps, 1.0), name)
    return run


def prolonged(spec: Spec, folder: Path, tokens: Tokens, probe: Tokens, steps: int) -> Run:
    """The finished run of ``steps`` steps trained for 10 % more."""
    until = round(1.1 * steps)
    name = f"decayed-{until}.pt"
    run = Run(spec, folder)
    if not run.load(name) and not run.load(f"decayed-{steps}.pt"):
        raise RuntimeError(f"no finished run of {steps} steps in {folder}")
    run.advance(tokens, probe, until, falling(steps, until, AGAIN), name)
    return run


@dataclass(frozen=True)
class Trained:
    """A model, its steps, and held-out losses by steps; the last of them is 10 % beyond it."""

    model: GPTNeoXForCausalLM
    steps: int
    losses: dict[int, float]


def until_enough(spec: Spec, folder: Path, tokens: Tokens, heldout: Tokens) -> Trained:
    """Train until another 10 % of steps gains less than ``ENOUGH`` on the held-out windows."""
    probe = heldout[::4]
    run = first_run(spec, folder, tokens, probe)
    losses = {run.step: heldout_loss(run.model, heldout)[0]}
    while True:
        longer = prolonged(spec, folder, tokens, probe, run.step)
        losses[longer.step] = heldout_loss(longer.model, heldout)[0]
        if losses[run.step] - losses[longer.step] < ENOUGH:
            return Trained(run.model, run.step, losses)
        run = longer

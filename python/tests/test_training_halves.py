# SPDX-License-Identifier: Apache-2.0
"""A step in two halves: gradients, and applying them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_training_torch import NAMES, dense_loss, parameters, start

import suture

OPTIONS: list[suture.TrainOptions] = [
    {},
    {"max_grad_norm": 2.0, "decoder_norm": "unit", "lr_scheduler": "linear", "total_steps": 7},
]


def batches(rng: np.random.Generator) -> list[np.ndarray]:
    return [(rng.standard_normal((128, 33)) + 0.3).astype(np.float32) for _ in range(5)]


def weights(trainer: suture.Trainer) -> list[np.ndarray]:
    return [getattr(trainer.sae, name) for name in NAMES]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("subtract", [False, True])
def test_the_halves_are_the_step(
    options: suture.TrainOptions, subtract: bool, rng: np.random.Generator
) -> None:
    sae = start(33, 257, 7, subtract, rng)
    whole, halves = (suture.Trainer(sae, lr=1e-3, **options) for _ in range(2))
    for x in batches(rng):
        before = halves.sae.W_enc
        metrics, flat = halves.step_grad(x)
        np.testing.assert_array_equal(halves.sae.W_enc, before)
        found = halves.apply(flat, tokens=len(x), firings=metrics["firings"])
        expected = whole.step(x)
        for name in ("steps", "tokens", "dead", "lr"):
            assert found[name] == expected[name]
        for name in ("loss", "explained_variance", "l0"):
            assert metrics[name] == expected[name]
        assert metrics["firings"].sum() == expected["l0"] * len(x)
    for one, other in zip(weights(halves), weights(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_flat_gradients_are_those_of_autograd(rng: np.random.Generator) -> None:
    sae = start(33, 257, 7, True, rng)
    x = batches(rng)[0]
    p = parameters(sae)
    gradients = torch.autograd.grad(dense_loss(p, torch.from_numpy(x), sae), list(p.values()))
    expected = torch.cat([gradient.flatten() for gradient in gradients]).numpy()
    # Neither clipped nor projected.
    _, flat = suture.Trainer(sae, max_grad_norm=1e-3, decoder_norm="unit").step_grad(x)
    np.testing.assert_allclose(flat, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_two_halves_of_a_batch_are_the_batch(
    options: suture.TrainOptions, rng: np.random.Generator
) -> None:
    sae = start(33, 257, 7, True, rng)
    lr = 1e-3
    whole, ranks = (suture.Trainer(sae, lr=lr, **options) for _ in range(2))
    for x in batches(rng):
        parts = [ranks.step_grad(half) for half in (x[:64], x[64:])]
        firings = sum(metrics["firings"] for metrics, _ in parts)
        found = ranks.apply((parts[0][1] + parts[1][1]) / 2, tokens=128, firings=firings)
        expected = whole.step(x)
        assert (found["tokens"], found["dead"]) == (expected["tokens"], expected["dead"])
        loss = (parts[0][0]["loss"] + parts[1][0]["loss"]) / 2
        assert loss == pytest.approx(expected["loss"], rel=1e-6)
    for one, other in zip(weights(ranks), weights(whole), strict=True):
        # Sums in another order: only gradients that nearly vanish feel it, at Adam's first steps.
        off = np.abs(one - other)
        assert (off > 1e-6).mean() < 2e-3
        assert off.max() < lr


def test_firings_count_the_dead(rng: np.random.Generator) -> None:
    sae = start(33, 257, 7, False, rng)
    x = batches(rng)[0][:8]
    told, guessed, silent = (suture.Trainer(sae) for _ in range(3))
    metrics, flat = told.step_grad(x)
    dead = 257 - np.count_nonzero(metrics["firings"])
    assert dead > 100
    assert told.apply(flat, tokens=8, firings=metrics["firings"])["dead"] == dead
    # Without them a gradient of b_enc tells.
    assert guessed.apply(torch.from_numpy(flat), tokens=8)["dead"] == dead
    assert silent.apply(flat, tokens=8, firings=np.zeros(257, np.int64))["dead"] == 257

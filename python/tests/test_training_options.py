# SPDX-License-Identifier: Apache-2.0
"""The options of training against what others compute: torch's schedulers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as schedulers

import suture


def torch_rates(
    scheduler: str, lr: float, warm_up: int, end: float, total: int, steps: int
) -> list[float]:
    """The schedulers as SAELens puts them together: a warm-up, then the main one."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    main: schedulers.LRScheduler
    if scheduler == "constant":
        main = schedulers.LambdaLR(optimizer, lambda _: 1.0)
    elif scheduler == "cosine":
        main = schedulers.CosineAnnealingLR(optimizer, T_max=total - warm_up, eta_min=end)
    else:
        main = schedulers.LinearLR(
            optimizer, start_factor=1.0, end_factor=end / lr, total_iters=total - warm_up
        )
    parts = [main]
    milestones = []
    if warm_up > 0:
        parts.insert(
            0,
            schedulers.LinearLR(
                optimizer, start_factor=1 / warm_up, end_factor=1.0, total_iters=warm_up - 1
            ),
        )
        milestones = [warm_up]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sequence = schedulers.SequentialLR(optimizer, parts, milestones)
        rates = []
        for _ in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            sequence.step()
    return rates


@pytest.mark.parametrize("warm_up", [0, 2, 7])
@pytest.mark.parametrize("end", [0.0, 1e-4])
@pytest.mark.parametrize("scheduler", ["constant", "linear", "cosine"])
def test_learning_rates_are_those_of_torch(
    scheduler: Any, end: float, warm_up: int, rng: np.random.Generator
) -> None:
    x = rng.normal(size=(30, 6)).astype(np.float32)
    lr, total = 3e-3, 20
    trainer = suture.Trainer(
        suture.SAE.init(6, 24, k=3), lr=lr, lr_scheduler=scheduler, lr_warm_up_steps=warm_up,
        lr_end=end, total_steps=total,
    )  # fmt: skip
    found = []
    for _ in range(total):
        before = trainer.sae.b_dec
        found.append(trainer.step(x)["lr"])
        if len(found) == 1:
            # The rate that is told is the one that moves: Adam's first step is lr times a sign.
            np.testing.assert_allclose(np.abs(trainer.sae.b_dec - before), found[0], rtol=1e-4)
    expected = torch_rates(scheduler, lr, warm_up, end, total, total)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    # Past the end, where torch's cosine would rise again.
    assert trainer.step(x)["lr"] == pytest.approx(lr if scheduler == "constant" else end)


def test_train_fills_in_the_steps(rng: np.random.Generator) -> None:
    x = rng.normal(size=(100, 6)).astype(np.float32)
    sae = suture.SAE.init(6, 24, k=3)
    run = suture.train(
        sae, x, tokens=401, batch_size=50, lr=1e-2, lr_scheduler="linear", log_every=1
    )
    np.testing.assert_allclose(
        [row["lr"] for row in run.history], 1e-2 * (1 - np.arange(9) / 9), rtol=1e-12
    )
    # Without `tokens` as many as there are rows.
    rows = suture.train(sae, x, batch_size=50, lr_scheduler="linear", log_every=1).history
    assert [row["lr"] for row in rows] == [1e-4, 5e-5]

# SPDX-License-Identifier: Apache-2.0
"""The options of training against what others compute: torch's schedulers, clipping and Adam."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from test_training_torch import NAMES, dense_loss, parameters, start
from torch.optim import lr_scheduler as schedulers

import suture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sae_lens.saes as lens

LIMIT = 10.0
STEPS: list[suture.TrainOptions] = [
    {"decoder_norm": "unit"},
    {"max_grad_norm": LIMIT},
    {"max_grad_norm": LIMIT, "decoder_norm": "unit"},
]


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


@pytest.mark.parametrize("options", STEPS, ids=str)
@pytest.mark.parametrize("subtract", [False, True])
def test_steps_are_those_of_torch(
    options: suture.TrainOptions, subtract: bool, rng: np.random.Generator
) -> None:
    """Clipping and the treatment of decoder norms, in the order of dictionary_learning: project,
    clip, Adam, normalise."""
    lr = 1e-3
    trainer = suture.Trainer(start(48, 256, 12, subtract, rng), lr=lr, **options)
    begun = trainer.sae
    p = parameters(begun)
    adam = torch.optim.Adam(list(p.values()), lr=lr)
    limit, norms = options.get("max_grad_norm"), []
    for step in range(20):
        x = ((1 + step % 3) / 2 * (rng.standard_normal((200, 48)) + 0.3)).astype(np.float32)
        loss = dense_loss(p, torch.from_numpy(x), begun)
        for parameter, gradient in zip(
            p.values(), torch.autograd.grad(loss, list(p.values())), strict=True
        ):
            parameter.grad = gradient
        rows, gradient = p["W_dec"].detach(), p["W_dec"].grad
        assert gradient is not None
        if options.get("decoder_norm") == "unit":
            gradient -= (gradient * rows).sum(1, keepdim=True) * rows
        if limit is not None:
            norms.append(float(torch.nn.utils.clip_grad_norm_(list(p.values()), limit)))
        adam.step()
        with torch.no_grad():
            p["W_dec"] /= p["W_dec"].norm(dim=1, keepdim=True)
        assert trainer.step(x)["loss"] == pytest.approx(loss.item(), rel=1e-6)
    if limit == LIMIT:
        # Some steps are clipped, others are not: their sizes differ from one to the next.
        assert min(norms) < LIMIT < max(norms), norms
    for name in NAMES:
        found, expected = getattr(trainer.sae, name), p[name].detach().numpy()
        off = np.abs(found - expected)
        assert np.abs(found - getattr(begun, name)).max() > 10 * lr, name
        # See test_training_torch for the few weights that rounding decides.
        assert (off > 1e-6).mean() < 2e-3, (name, (off > 1e-6).mean())
        assert off.max() < lr, (name, off.max())


def test_options_change_the_step(rng: np.random.Generator) -> None:
    """Adam does not feel a constant factor of all gradients, so the second step is compared."""
    sae = start(48, 256, 12, False, rng)
    batches = [scale * rng.standard_normal((200, 48)).astype(np.float32) for scale in (1, 5)]
    results = []
    for options in ({}, *STEPS):
        trainer = suture.Trainer(sae, lr=1e-3, **options)  # type: ignore[arg-type]
        for batch in batches:
            trainer.step(batch)
        results.append(trainer.sae.W_dec)
    for i, one in enumerate(results):
        for other in results[:i]:
            assert np.abs(one - other).max() > 1e-5


def test_clipping_gives_the_same_bits_for_any_number_of_threads(rng: np.random.Generator) -> None:
    x = rng.standard_normal((300, 48)).astype(np.float32)
    sae = start(48, 500, 12, True, rng)
    found = []
    try:
        for threads in (1, 2, 5):
            suture.set_threads(threads)
            trainer = suture.Trainer(sae, lr=1e-2, max_grad_norm=0.1, decoder_norm="unit")
            for _ in range(3):
                trainer.step(x)
            found.append(trainer.sae.W_enc)
    finally:
        suture.set_threads(0)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
def test_free_norms_are_those_of_saelens(
    subtract: bool, rescale: bool, rng: np.random.Generator
) -> None:
    """Gradients by autograd through SAELens' own TopK that rescales, and Adam's steps."""
    lr = 1e-3
    given = start(48, 256, 12, subtract, rng)
    given = suture.SAE(
        W_enc=given.W_enc, b_enc=given.b_enc, W_dec=given.W_dec * rng.uniform(0.2, 3, (256, 1)),
        b_dec=given.b_dec, k=12, apply_b_dec_to_input=subtract, rescale_by_decoder_norm=rescale,
    )  # fmt: skip
    config = lens.TopKTrainingSAEConfig(
        d_in=48, d_sae=256, k=12, apply_b_dec_to_input=subtract, rescale_acts_by_decoder_norm=True
    )
    theirs = lens.TopKTrainingSAE(config)
    theirs.load_state_dict({name: torch.tensor(getattr(given, name)) for name in NAMES})
    adam = torch.optim.Adam(theirs.parameters(), lr=lr)
    trainer = suture.Trainer(given, lr=lr, decoder_norm="free")
    for _ in range(10):
        x = (rng.standard_normal((200, 48)) + 0.3).astype(np.float32)
        tokens = torch.from_numpy(x)
        loss = ((theirs(tokens) - tokens) ** 2).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        _, gradients = trainer.gradients(x)
        for name in NAMES:
            expected = getattr(theirs, name).grad.numpy()
            off = np.abs(gradients[name] - expected)
            # After some steps rounding decides between near ties, for a few weights.
            assert (off > 1e-4 * np.abs(expected).max()).mean() < 2e-3, name
        adam.step()
        assert trainer.step(x)["loss"] == pytest.approx(loss.item(), rel=1e-5)
    trained = trainer.sae
    assert trained.rescale_by_decoder_norm
    for name in NAMES:
        off = np.abs(getattr(trained, name) - getattr(theirs, name).detach().numpy())
        assert (off > 1e-5).mean() < 2e-3, name
        assert off.max() < lr, name
    norms = np.linalg.norm(trained.W_dec, axis=1)
    assert norms.min() < 0.3
    assert norms.max() > 2
    # It goes back into training as it is, and not where rows have norm 1.
    np.testing.assert_array_equal(
        suture.Trainer(trained, decoder_norm="free").sae.W_dec, trained.W_dec
    )
    with pytest.raises(suture.UnsupportedError, match="or use decoder_norm free"):
        suture.Trainer(trained)

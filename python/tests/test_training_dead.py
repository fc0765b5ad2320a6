# SPDX-License-Identifier: Apache-2.0
"""The auxiliary loss of dead latents against SAELens' own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_training_architectures import (
    D_IN,
    D_SAE,
    TOKENS,
    K,
    TrainStepInput,
    batch,
    lens,
    names,
)
from test_training_torch import one_torch_thread

import suture

__all__ = ["one_torch_thread"]

# Latents that never fire, of which with aux_k = D_IN / 2 = 24 a part takes part.
DEAD = (9, 60)
STEPS = 12


def start(architecture: Any, dead: int, free: bool, rng: np.random.Generator) -> suture.SAE:
    decoder = rng.standard_normal((D_SAE, D_IN))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    bias = 0.1 * rng.standard_normal(D_SAE)
    bias[:dead] -= 30
    own: dict[str, Any] = {"threshold": 0.0} if architecture == "batchtopk" else {}
    return suture.SAE(
        W_enc=0.5 * decoder.T,
        b_enc=bias,
        W_dec=decoder * (rng.uniform(0.9, 1.1, (D_SAE, 1)) if free else 1),
        b_dec=0.2 * rng.standard_normal(D_IN),
        architecture=architecture,
        k=K,
        apply_b_dec_to_input=True,
        **own,
    )


@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize("free", [False, True])
def test_gradients_are_those_of_saelens(
    architecture: str, dead: int, free: bool, rng: np.random.Generator
) -> None:
    options: suture.TrainOptions = {
        "aux_loss_coefficient": 0.7,
        "dead_feature_window": STEPS * TOKENS,
        "decoder_norm": "free" if free else "unit_unprojected",
        "lr": 1e-5,
    }
    trainer = suture.Trainer(start(architecture, dead, free, rng), **options)
    fired = np.zeros(D_SAE, bool)
    for _ in range(STEPS):
        x = batch(rng)
        metrics, _ = trainer.step_grad(x)
        assert metrics["aux_loss"] == 0
        fired |= metrics["firings"] > 0
        trainer.step(x)
    assert not fired[:dead].any()
    # Fewer than take part, or more.
    assert ((~fired).sum() < D_IN // 2) == (dead == DEAD[0])
    kind = {"topk": "TopK", "batchtopk": "BatchTopK"}[architecture]
    config = getattr(lens, f"{kind}TrainingSAEConfig")(
        d_in=D_IN, d_sae=D_SAE, k=K, dtype="float32", device="cpu", aux_loss_coefficient=0.7,
        rescale_acts_by_decoder_norm=free,
    )  # fmt: skip
    other = getattr(lens, f"{kind}TrainingSAE")(config)
    now = trainer.sae
    for name in names(architecture):
        getattr(other, name).data = torch.tensor(np.array(getattr(now, name)))
    x = batch(rng)
    output = other.training_forward_pass(
        TrainStepInput(torch.from_numpy(x), {}, torch.from_numpy(~fired), 0, False)
    )
    output.loss.backward()
    loss, gradients = trainer.gradients(x)
    metrics, _ = trainer.step_grad(x)
    expected_aux = output.losses["auxiliary_reconstruction_loss"].item()
    assert metrics["aux_loss"] == pytest.approx(expected_aux, rel=1e-5)
    assert expected_aux > 0
    assert loss == pytest.approx(output.loss.item(), rel=1e-5)
    for name in names(architecture):
        expected = getattr(other, name).grad.to_dense()
        np.testing.assert_allclose(
            gradients[name], expected, rtol=0, atol=1e-5 * float(expected.abs().max()), err_msg=name
        )
    assert float(np.abs(gradients["W_dec"][:dead]).max()) > 0


def test_it_brings_dead_latents_back(rng: np.random.Generator) -> None:
    dead = []
    for options in ({}, {"aux_loss_coefficient": 1.0, "aux_k": 16}):
        local = np.random.default_rng(7)
        sae = start("topk", 60, False, local)
        trainer = suture.Trainer(sae, lr=3e-2, dead_feature_window=3 * TOKENS, **options)  # type: ignore[arg-type]
        for _ in range(150):
            row = trainer.step(batch(local))
        dead.append(row["dead"])
    assert dead[1] < dead[0]


def test_without_dead_latents_it_changes_nothing(rng: np.random.Generator) -> None:
    sae = start("topk", 0, False, rng)
    plain = suture.Trainer(sae, lr=1e-3)
    with_loss = suture.Trainer(sae, lr=1e-3, aux_loss_coefficient=1.0)
    for _ in range(3):
        x = batch(rng)
        assert plain.step(x)["loss"] == with_loss.step(x)["loss"]
    np.testing.assert_array_equal(plain.sae.W_enc, with_loss.sae.W_enc)

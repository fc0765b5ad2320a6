# SPDX-License-Identifier: Apache-2.0
"""Training of BatchTopK, JumpReLU and ReLU against SAELens' own training classes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from test_training_torch import one_torch_thread

import suture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sae_lens.saes as lens
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.training.optim import CoefficientScheduler

__all__ = ["one_torch_thread"]

D_IN, D_SAE, TOKENS = 48, 320, 300
K = 12
LR = 1e-3
# Architecture, options, and what SAELens calls them.
CASES: list[tuple[str, suture.TrainOptions, dict[str, Any]]] = [
    ("batchtopk", {}, {"k": K, "rescale_acts_by_decoder_norm": False}),
    ("batchtopk", {"decoder_norm": "free"}, {"k": K, "rescale_acts_by_decoder_norm": True}),
    (
        "jumprelu",
        {"l0_coefficient": 0.4, "bandwidth": 0.3},
        {"l0_coefficient": 0.4, "jumprelu_bandwidth": 0.3},
    ),
    (
        "jumprelu",
        {"l0_coefficient": 2.0, "bandwidth": 0.2, "decoder_norm": "free"},
        {"l0_coefficient": 2.0, "jumprelu_bandwidth": 0.2},
    ),
    ("relu", {"l1_coefficient": 0.7, "decoder_norm": "free"}, {"l1_coefficient": 0.7}),
]
LENS = {"batchtopk": "BatchTopK", "jumprelu": "JumpReLU", "relu": "Standard"}


def names(architecture: str) -> tuple[str, ...]:
    own = ("threshold",) if architecture == "jumprelu" else ()
    return ("W_enc", "b_enc", "W_dec", "b_dec", *own)


def start(architecture: Any, free: bool, rng: np.random.Generator) -> suture.SAE:
    decoder = rng.standard_normal((D_SAE, D_IN))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    norms = rng.uniform(0.5, 1.5, (D_SAE, 1)) if free else 1
    own: dict[str, Any] = {
        "batchtopk": {"k": K, "threshold": 0.0},
        "jumprelu": {"threshold": rng.uniform(0.1, 1.5, D_SAE)},
        "relu": {},
    }[architecture]
    return suture.SAE(
        W_enc=0.5 * decoder.T,
        b_enc=0.1 * rng.standard_normal(D_SAE) - 0.3,
        W_dec=norms * decoder,
        b_dec=0.5 * rng.standard_normal(D_IN),
        architecture=architecture,
        apply_b_dec_to_input=True,
        **own,
    )


def peer(sae: suture.SAE, settings: dict[str, Any]) -> Any:
    """SAELens' training class with these weights."""
    kind = LENS[sae.architecture]
    config = getattr(lens, f"{kind}TrainingSAEConfig")(
        d_in=D_IN, d_sae=D_SAE, dtype="float32", device="cpu", **settings
    )
    other = getattr(lens, f"{kind}TrainingSAE")(config)
    for name in names(sae.architecture):
        getattr(other, name).data = torch.tensor(np.array(getattr(sae, name)))
    return other


def step_input(x: npt.NDArray[np.float32], coefficients: dict[str, float], steps: int) -> Any:
    return TrainStepInput(torch.from_numpy(x), coefficients, None, steps, False)


def batch(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return (rng.standard_normal((TOKENS, D_IN)) + 0.3).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_saelens(case: Any, rng: np.random.Generator) -> None:
    architecture, options, settings = case
    sae = start(architecture, options.get("decoder_norm") == "free", rng)
    x = batch(rng)
    other = peer(sae, settings)
    coefficients = {name: c.value for name, c in other.get_coefficients().items()}
    output = other.training_forward_pass(step_input(x, coefficients, 0))
    output.loss.backward()
    trainer = suture.Trainer(sae, **options)
    loss, gradients = trainer.gradients(x)
    assert loss == pytest.approx(output.loss.item(), rel=2e-6)
    metrics, _ = trainer.step_grad(x)
    active = output.feature_acts > 0
    assert metrics["l0"] == pytest.approx(active.sum(1).float().mean().item())
    assert metrics["loss"] == pytest.approx(output.losses["mse_loss"].item(), rel=2e-6)
    np.testing.assert_array_equal(metrics["firings"], active.sum(0))
    for name in names(architecture):
        expected = getattr(other, name).grad
        assert float(expected.abs().max()) > 0
        np.testing.assert_allclose(
            gradients[name], expected, rtol=0, atol=5e-6 * float(expected.abs().max()), err_msg=name
        )


@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_are_those_of_saelens(case: Any, rng: np.random.Generator) -> None:
    architecture, options, settings = case
    free = options.get("decoder_norm") == "free"
    warm_up = 0 if architecture == "batchtopk" else 8
    trainer = suture.Trainer(
        start(architecture, free, rng), lr=LR, sparsity_warm_up_steps=warm_up, **options
    )
    begun = trainer.sae
    other = peer(begun, settings)
    adam = torch.optim.Adam([getattr(other, name) for name in names(architecture)], lr=LR)
    schedulers = {
        name: CoefficientScheduler(warm_up, c.value) for name, c in other.get_coefficients().items()
    }
    for step in range(20):
        x = batch(rng)
        coefficients = {name: s.value for name, s in schedulers.items()}
        output = other.training_forward_pass(step_input(x, coefficients, step))
        adam.zero_grad()
        output.loss.backward()
        adam.step()
        for scheduler in schedulers.values():
            scheduler.step()
        if not free:
            with torch.no_grad():
                other.W_dec /= other.W_dec.norm(dim=1, keepdim=True)
        row = trainer.step(x)
        total = row["loss"] + row["sparsity_loss"]
        assert total == pytest.approx(output.loss.item(), rel=2e-5), step
    trained = trainer.sae
    assert trained.architecture == architecture
    for name in names(architecture):
        found, expected = getattr(trained, name), getattr(other, name).detach().numpy()
        if name == "threshold":
            expected = np.maximum(expected, 0)
        off = np.abs(found - expected)
        # Where a gradient nearly vanishes, or a choice is nearly a tie, rounding decides: for few
        # weights, and by a part of the way that they have moved.
        assert np.abs(found - getattr(begun, name)).max() > 5 * LR, name
        assert (off > 2e-6).mean() < 5e-3, (name, (off > 2e-6).mean())
        assert off.max() < 2 * LR, (name, off.max())
    if architecture == "batchtopk":
        assert trained.k == K
        assert float(trained.threshold[0]) == pytest.approx(other.topk_threshold.item(), rel=1e-5)


def test_batchtopk_finds_its_batch_after_any_jump(rng: np.random.Generator) -> None:
    """The search begins where the last batch ended; what it finds does not depend on that."""
    sae = suture.SAE.init(D_IN, D_SAE, architecture="batchtopk", k=K)
    trainer = suture.Trainer(sae)
    for scale in (1, 100, 0.01, 1e-4, 1):
        x = (scale * batch(rng)).astype(np.float32)
        metrics, flat = trainer.step_grad(x)
        assert metrics["l0"] == K
        fresh, again = suture.Trainer(sae).step_grad(x)
        np.testing.assert_array_equal(flat, again)
        assert metrics["loss"] == fresh["loss"]


def test_batchtopk_with_few_positive_takes_all(rng: np.random.Generator) -> None:
    sae = suture.SAE.init(4, 16, architecture="batchtopk", k=15)
    trainer = suture.Trainer(sae)
    x = rng.standard_normal((7, 4)).astype(np.float32)
    positive = (x @ sae.W_enc > 0).sum() / 7
    assert trainer.step_grad(x)[0]["l0"] == pytest.approx(positive)


def test_penalties_make_codes_sparser(rng: np.random.Generator) -> None:
    x = batch(rng)
    for architecture, name in (("relu", "l1_coefficient"), ("jumprelu", "l0_coefficient")):
        sae = suture.SAE.init(D_IN, D_SAE, architecture=architecture)  # type: ignore[arg-type]
        l0 = []
        for coefficient in (1e-3, 10.0):
            trainer = suture.Trainer(sae, lr=3e-3, **{name: coefficient})  # type: ignore[misc]
            for _ in range(60):
                row = trainer.step(x)
            l0.append(row["l0"])
        assert l0[1] < 0.8 * l0[0], (architecture, l0)


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu"])
def test_a_trained_sae_keeps_its_function_in_files(
    architecture: Any, rng: np.random.Generator, tmp_path: Any
) -> None:
    k = K if architecture == "batchtopk" else None
    trainer = suture.Trainer(suture.SAE.init(D_IN, D_SAE, architecture=architecture, k=k), lr=1e-3)
    x = batch(rng)
    for _ in range(5):
        trainer.step(x)
    trainer.sae.save(tmp_path / "sae")
    again = suture.SAE.load(tmp_path / "sae")
    assert (again.architecture, again.k) == (architecture, k)
    np.testing.assert_array_equal(again(x), trainer.sae(x))

# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of training against PyTorch: gradients by autograd, steps by torch.optim.Adam."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

import suture

NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
# d_in, d_sae, k, tokens, b_dec subtracted; widths that are and are not whole vectors.
SHAPES = [
    (64, 512, 16, 300, False),
    (96, 1024, 24, 400, True),
    (33, 257, 7, 129, True),
]


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """At these sizes threads only wait for each other, long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(d_in: int, d_sae: int, k: int, subtract: bool, rng: np.random.Generator) -> suture.SAE:
    decoder = rng.standard_normal((d_sae, d_in))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    return suture.SAE(
        W_enc=(0.5 * decoder.T).astype(np.float32),
        b_enc=0.1 * rng.standard_normal(d_sae),
        W_dec=decoder.astype(np.float32),
        b_dec=0.5 * rng.standard_normal(d_in),
        k=k,
        apply_b_dec_to_input=subtract,
    )


def parameters(sae: suture.SAE) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(np.array(getattr(sae, name)), requires_grad=True) for name in NAMES}


def pre_activations(p: dict[str, torch.Tensor], x: torch.Tensor, sae: suture.SAE) -> torch.Tensor:
    encoded = x - p["b_dec"] if sae.apply_b_dec_to_input else x
    return encoded @ p["W_enc"] + p["b_enc"]


def dense_loss(p: dict[str, torch.Tensor], x: torch.Tensor, sae: suture.SAE) -> torch.Tensor:
    pre = pre_activations(p, x, sae)
    assert sae.k is not None
    values, indices = pre.topk(sae.k, dim=1)
    activations = torch.zeros_like(pre).scatter(1, indices, torch.relu(values))
    return ((x - activations @ p["W_dec"] - p["b_dec"]) ** 2).sum(1).mean()


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_autograd(
    shape: tuple[int, int, int, int, bool], rng: np.random.Generator
) -> None:
    d_in, d_sae, k, tokens, subtract = shape
    sae = start(d_in, d_sae, k, subtract, rng)
    x = (rng.standard_normal((tokens, d_in)) + 0.3).astype(np.float32)
    p = parameters(sae)
    expected = dense_loss(p, torch.from_numpy(x), sae)
    loss, gradients = suture.Trainer(sae).gradients(x)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for name, gradient in zip(p, torch.autograd.grad(expected, list(p.values())), strict=True):
        # Sums of a few hundred products in float32, in another order.
        np.testing.assert_allclose(
            gradients[name], gradient, rtol=0, atol=3e-6 * float(gradient.abs().max()), err_msg=name
        )


def without_ties(
    p: dict[str, torch.Tensor], x: npt.NDArray[np.float32], sae: suture.SAE
) -> npt.NDArray[np.float32]:
    """The rows whose k-th and next latent are apart: otherwise rounding decides between them, and
    Adam makes a whole step of it for a latent that fires on few tokens."""
    assert sae.k is not None
    with torch.no_grad():
        largest = pre_activations(p, torch.from_numpy(x), sae).topk(sae.k + 1, dim=1).values
    return x[(largest[:, -2] - largest[:, -1] > 1e-5).numpy()]


@pytest.mark.parametrize("shape", SHAPES)
def test_twenty_steps_are_those_of_torch_adam(
    shape: tuple[int, int, int, int, bool], rng: np.random.Generator
) -> None:
    d_in, d_sae, k, tokens, subtract = shape
    lr = 1e-3
    trainer = suture.Trainer(start(d_in, d_sae, k, subtract, rng), lr=lr)
    begun = trainer.sae
    p = parameters(begun)
    adam = torch.optim.Adam(list(p.values()), lr=lr)
    for _ in range(20):
        x = without_ties(p, (rng.standard_normal((tokens, d_in)) + 0.3).astype(np.float32), begun)
        loss = dense_loss(p, torch.from_numpy(x), begun)
        gradients = torch.autograd.grad(loss, list(p.values()))
        for parameter, gradient in zip(p.values(), gradients, strict=True):
            parameter.grad = gradient
        adam.step()
        with torch.no_grad():
            p["W_dec"] /= p["W_dec"].norm(dim=1, keepdim=True)
        assert trainer.step(x)["loss"] == pytest.approx(loss.item(), rel=1e-6)
    for name in NAMES:
        found, expected = getattr(trainer.sae, name), p[name].detach().numpy()
        off = np.abs(found - expected)
        # Steps are lr times the sign of a gradient at first, so weights have moved by about 20 lr.
        # Where a gradient nearly vanishes, or two latents nearly tie for the last place of the
        # top-k, rounding decides: for few weights, and by a small part of that way.
        assert np.abs(found - getattr(begun, name)).max() > 10 * lr, name
        assert (off > 1e-6).mean() < 2e-3, (name, (off > 1e-6).mean())
        assert off.max() < lr, (name, off.max())

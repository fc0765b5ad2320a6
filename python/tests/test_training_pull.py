# SPDX-License-Identifier: Apache-2.0
"""Training with a pull towards the codes of another model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import suture

D_A, D_B, D_SAE, K, N = 12, 20, 96, 5, 700
PULL = 0.7


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[suture.SAE, np.ndarray, np.ndarray]:
    """A SAE of A, rows of A, and rows of B that go with them."""
    a = rng.standard_normal((N, D_A)).astype(np.float32)
    b = a @ rng.standard_normal((D_A, D_B)) + 0.4 * rng.standard_normal((N, D_B))
    return suture.SAE.init(D_A, D_SAE, k=K, seed=3), a, b.astype(np.float32)


def start(kind: str, rng: np.random.Generator, norm: float = 1.0) -> suture.SAE:
    decoder = rng.standard_normal((D_SAE, D_B))
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True) / norm
    own: dict[str, Any] = {
        "topk": {"k": K},
        "batchtopk": {"k": K, "threshold": 0.0},
        "jumprelu": {"threshold": rng.uniform(0.5, 1.0, D_SAE).astype(np.float32)},
        "relu": {},
    }[kind]
    return suture.SAE(
        W_enc=(0.4 * decoder.T).astype(np.float32),
        b_enc=(0.1 * rng.standard_normal(D_SAE)).astype(np.float32),
        W_dec=decoder.astype(np.float32),
        b_dec=(0.3 * rng.standard_normal(D_B)).astype(np.float32),
        architecture=kind,  # type: ignore[arg-type]
        apply_b_dec_to_input=kind in ("topk", "relu"),
        **own,
    )


def loss(
    sae: suture.SAE, p: dict[str, torch.Tensor], x: np.ndarray, wanted: np.ndarray, pull: float
) -> tuple[torch.Tensor, float]:
    """What is minimised but for sparsity: with the surrogate of latents that should be active and
    are not; and the pull's part as it is reported."""
    rows, target = torch.from_numpy(x), torch.from_numpy(wanted)
    inputs = rows - p["b_dec"] if sae.apply_b_dec_to_input else rows
    pre = inputs @ p["W_enc"] + p["b_enc"]
    if sae.architecture == "topk":
        indices = pre.topk(K, dim=1).indices
        chosen = torch.zeros_like(pre).scatter(1, indices, 1.0) * (pre > 0)
    elif sae.architecture == "batchtopk":
        bar = torch.relu(pre).flatten().topk(K * len(x)).values[-1]
        chosen = ((pre >= bar) & (pre > 0)).float()
    elif sae.architecture == "jumprelu":
        chosen = (pre > torch.from_numpy(np.array(sae.threshold))).float()
    else:
        chosen = (pre > 0).float()
    f = pre * chosen
    missing = (1 - chosen) * (target > 0)
    squares = ((f - target) ** 2 * chosen).sum(1)
    surrogate = (torch.relu(target - pre) ** 2 * missing).sum(1)
    error = ((rows - f @ p["W_dec"] - p["b_dec"]) ** 2).sum(1)
    reported = pull * ((f - target) ** 2).sum(1).mean().item()
    return (error + pull * (squares + surrogate)).mean(), reported


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "jumprelu", "relu"])
def test_gradients_are_those_of_autograd(kind: str, pair: Any, rng: np.random.Generator) -> None:
    like, a, b = pair
    sae = start(kind, rng)
    sparsity: suture.TrainOptions = {}
    if kind == "jumprelu":
        sparsity = {"l0_coefficient": 1e-12}
    if kind == "relu":
        sparsity = {"l1_coefficient": 1e-12}
    codes = like.encode(a)
    names = ("W_enc", "b_enc", "W_dec", "b_dec")
    p = {name: torch.tensor(np.array(getattr(sae, name)), requires_grad=True) for name in names}
    minimised, reported = loss(sae, p, b, codes.to_dense(), PULL)
    trainer = suture.Trainer(sae, pull=PULL, **sparsity)
    metrics, _ = trainer.step_grad(b, like=codes)
    assert metrics["pull_loss"] == pytest.approx(reported, rel=1e-5)
    _, gradients = trainer.gradients(b, like=codes)
    for name, expected in zip(p, torch.autograd.grad(minimised, list(p.values())), strict=True):
        # Sums of a few hundred products in float32, in another order.
        atol = 5e-6 * float(expected.abs().max())
        np.testing.assert_allclose(gradients[name], expected, rtol=0, atol=atol, err_msg=name)


def test_norms_of_decoder_rows_are_units_of_the_pull(pair: Any, rng: np.random.Generator) -> None:
    like, a, b = pair
    codes = like.encode(a)
    plain, long = start("topk", rng), None
    # The same function: activations are a quarter, decoder rows four times as long.
    long = suture.SAE(
        W_enc=plain.W_enc / 4, b_enc=plain.b_enc / 4, W_dec=plain.W_dec * 4, b_dec=plain.b_dec,
        k=K, apply_b_dec_to_input=True,
    )  # fmt: skip
    quarter = suture.SparseCodes(codes.indices, codes.values / 4, d_sae=D_SAE)
    one = suture.Trainer(plain, pull=PULL, lr=1e-3)
    other = suture.Trainer(long, pull=PULL, lr=1e-3)
    for _ in range(3):
        rows = one.step(b, like=codes), other.step(b, like=quarter)
        assert rows[0]["pull_loss"] == pytest.approx(rows[1]["pull_loss"], rel=1e-5)
    np.testing.assert_allclose(one.sae.W_enc, other.sae.W_enc * 4, atol=1e-5)
    np.testing.assert_allclose(one.sae.W_dec, other.sae.W_dec / 4, atol=1e-5)


def test_a_run_reads_the_rows_of_both_models(pair: Any, rng: np.random.Generator) -> None:
    """Whatever order they come in; the same bits for any threads, and after a checkpoint."""
    like, a, b = pair
    sae = start("topk", rng)
    options: suture.TrainOptions = {"pull": PULL, "lr": 1e-2, "batch_size": 100}
    one = suture.Trainer(sae, **options)
    history = one.run(b, 2000, like=(like, a), rows=suture.Rows.all(), log_every=1)
    assert len(history) == 20
    assert all(row["pull_loss"] > 0 for row in history)
    before = suture.cpu_info().threads
    try:
        for threads in (1, 8):
            suture.set_threads(threads)
            other = suture.Trainer(sae, **options)
            shards = [a[:333], a[333:]]
            other.run(b, 2000, like=(like, shards), rows=suture.Rows.all(), log_every=1)
            np.testing.assert_array_equal(one.sae.W_enc, other.sae.W_enc)
    finally:
        suture.set_threads(before)


def test_a_run_with_a_mask_pairs_what_counts(pair: Any, rng: np.random.Generator) -> None:
    like, a, b = pair
    sae = start("topk", rng)
    mask = rng.random(N) < 0.5
    options: suture.TrainOptions = {"pull": PULL, "lr": 1e-2, "batch_size": 64}
    one = suture.train(sae, b, like=(like, a), rows=mask, tokens=640, progress=False, **options)
    other = suture.train(
        sae, b[mask], like=(like, a[mask]), rows=suture.Rows.all(), tokens=640, progress=False,
        **options,
    )  # fmt: skip
    np.testing.assert_array_equal(one.sae.W_dec, other.sae.W_dec)


def test_rows_of_enormous_norm_in_the_other_model_are_not_drawn(
    rng: np.random.Generator,
) -> None:
    like = suture.SAE.init(D_A, D_SAE, k=K, seed=3)
    a = rng.standard_normal((3000, D_A)).astype(np.float32)
    b = (a @ rng.standard_normal((D_A, D_B))).astype(np.float32)
    a[7] *= 1e4
    options: suture.TrainOptions = {"pull": PULL, "batch_size": 100}
    run = suture.train(
        start("topk", rng), b, like=(like, a), tokens=3000, progress=False, **options
    )
    assert run.rows is not None
    assert run.rows.rows == 2999


def test_it_goes_on_from_a_checkpoint(pair: Any, rng: np.random.Generator, tmp_path: Path) -> None:
    like, a, b = pair
    sae = start("topk", rng)
    options: suture.TrainOptions = {"pull": PULL, "lr": 1e-2, "batch_size": 100}
    more: dict[str, Any] = {"progress": False, "rows": suture.Rows.all(), "like": (like, a)}
    whole = suture.train(sae, b, tokens=2000, **more, **options)
    suture.train(sae, b, tokens=1000, checkpoint=tmp_path / "run", **more, **options)
    with pytest.raises(TypeError, match=r"like is None and pull is 0\.7"):
        suture.resume(tmp_path / "run", b, tokens=2000, progress=False)
    resumed = suture.resume(
        tmp_path / "run", b, tokens=2000, progress=False, like=(like, a), rows=suture.Rows.all()
    )
    assert isinstance(resumed, suture.TrainRun)
    np.testing.assert_array_equal(whole.sae.W_enc, resumed.sae.W_enc)
    text = (tmp_path / "run" / "history.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows[-1]["pull_loss"] == whole.history[-1]["pull_loss"]


def test_a_pull_keeps_latents_alike(pair: Any) -> None:
    like, a, b = pair
    rng = np.random.default_rng(5)
    a = rng.standard_normal((20_000, D_A)).astype(np.float32)
    b = (a @ rng.standard_normal((D_A, D_B)) + rng.standard_normal((20_000, D_B))).astype("f4")
    carried, _ = suture.carry(like, a[:16_000], b[:16_000], progress=False)
    found = []
    for pull in (None, 1.0):
        source: Any = None if pull is None else (like, a[:16_000])
        run = suture.train(
            carried, b[:16_000], like=source, pull=pull, tokens=64_000, lr=3e-3, batch_size=256,
            progress=False,
        )  # fmt: skip
        compared = suture.fidelity(like, a[16_000:], run.sae, b[16_000:], progress=False)
        found.append(compared.summary().correlation.median)
    assert found[1] > found[0] + 0.05


def test_a_step_without_a_pull_costs_what_it_did(pair: Any, rng: np.random.Generator) -> None:
    like, a, b = pair
    plain = suture.Trainer(start("topk", rng))
    assert plain.step(b)["pull_loss"] == 0
    pulled = suture.Trainer(start("topk", rng), pull=PULL, batch_size=100)
    more = pulled.run(b, 100, like=(like, a), rows=suture.Rows.all())[-1]
    assert more["flops"] == (12 * D_B + 2 * D_A) * D_SAE * 100

# SPDX-License-Identifier: Apache-2.0
"""The Python side of training: inputs, history, going on, stopping. The arithmetic is tested in
test_training_*."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import DIRECT, exact

import suture


def start() -> suture.SAE:
    return suture.SAE.init(6, 24, k=3, seed=1, metadata={"model_name": "small"})


def test_history(rng: np.random.Generator) -> None:
    x = rng.normal(size=(500, 6)).astype(np.float32)
    rows: list[dict[str, Any]] = []
    sae = start()
    before = sae.W_dec.copy()
    run = suture.train(
        sae, x, tokens=1001, batch_size=50, lr=1e-2, log_every=8, callback=rows.append
    )
    assert [row["steps"] for row in run.history] == [8, 16, 21]
    assert [row["tokens"] for row in run.history] == [400, 800, 1050]
    assert rows == run.history
    assert set(rows[0]) == {
        "steps", "tokens", "loss", "sparsity_loss", "aux_loss", "pull_loss", "explained_variance",
        "explained_variance_average", "l0", "dead",
        "lr", "seconds", "flops", "flops_executed",
    }  # fmt: skip
    assert rows[-1]["loss"] < rows[0]["loss"]
    np.testing.assert_array_equal(sae.W_dec, before)
    np.testing.assert_allclose(np.linalg.norm(run.sae.W_dec, axis=1), 1, rtol=1e-5)
    assert run.sae.metadata["model_name"] == "small"
    assert suture.train(sae, x, batch_size=50).history[-1]["tokens"] == len(x)


def test_runs_in_slices_are_one_run(rng: np.random.Generator) -> None:
    x = rng.normal(size=(500, 6)).astype(np.float32)
    settings: dict[str, Any] = {"batch_size": 32, "lr": 1e-2, "seed": 5}
    whole = suture.train(start(), x, tokens=3200, log_every=100, **settings)
    trainer = suture.Trainer(start(), **settings)
    first = trainer.run(x, tokens=1600, log_every=7)
    trainer.sae.evaluate(x)
    second = trainer.run(x, tokens=1600, log_every=3)
    assert trainer.history == first + second
    np.testing.assert_array_equal(trainer.sae.W_enc, whole.sae.W_enc)
    other = suture.train(start(), x, tokens=3200, **settings | {"seed": 6})
    assert (other.sae.W_enc != whole.sae.W_enc).any()


@pytest.mark.parametrize("kind", list(DIRECT))
def test_every_kind_of_array(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x = exact(rng)
    settings: dict[str, Any] = {"batch_size": 5, "tokens": 50, "lr": 1e-2}
    expected = suture.train(start(), x, **settings).sae
    found = suture.train(start(), DIRECT[kind](x, tmp_path), **settings).sae
    np.testing.assert_array_equal(found.W_enc, expected.W_enc)


def test_inputs_in_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    x = exact(rng, (4, 6, 6))
    rows = x[:, 1:].reshape(-1, 6)
    settings: dict[str, Any] = {"batch_size": 5, "tokens": 50, "lr": 1e-2}
    expected = suture.train(start(), rows, **settings).sae
    for i in range(4):
        np.save(tmp_path / f"{i}.npy", x[i, 1:])
    for acts in (x[:, 1:], [rows[:3], rows[3:]], tmp_path, sorted(tmp_path.glob("*.npy"))):
        found = suture.train(start(), acts, **settings).sae
        np.testing.assert_array_equal(found.W_enc, expected.W_enc)


def test_bad_rows_are_named_as_in_the_input(rng: np.random.Generator) -> None:
    x = exact(rng, (4, 6, 6))
    x[2, 3, 1] = np.nan
    trainer = suture.Trainer(start(), batch_size=20)
    with pytest.raises(ValueError, match=r"acts\[12, 1\] is nan"):
        trainer.run(x[:, 1:])
    with pytest.raises(ValueError, match=r"acts\[12, 1\] is nan"):
        trainer.run(list(x[:, 1:]))
    # It is as good as before.
    assert trainer.run(x[:2])[-1]["steps"] == 1


def test_callback_ends_the_run(rng: np.random.Generator) -> None:
    x = rng.normal(size=(500, 6)).astype(np.float32)
    trainer = suture.Trainer(start(), batch_size=50)

    def stop(row: dict[str, Any]) -> None:
        if row["steps"] == 4:
            raise StopIteration

    with pytest.raises(StopIteration):
        trainer.run(x, tokens=10**9, log_every=2, callback=stop)
    assert [row["steps"] for row in trainer.history] == [2, 4]
    with pytest.raises(suture.TrainingInterrupted) as caught:
        suture.train(
            start(), x, tokens=10**9, callback=lambda row: signal.raise_signal(signal.SIGINT)
        )
    run = caught.value.run
    assert len(run.history) == 1
    assert run.trainer.run(x, tokens=4096)[-1]["steps"] == 11


def test_step_and_gradients(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 6)).astype(np.float32)
    trainer = suture.Trainer(start(), lr=1e-3)
    sae = trainer.sae
    loss, gradients = trainer.gradients(np.asfortranarray(x))
    assert loss == pytest.approx(((x - sae(x)) ** 2).sum(1).mean(), rel=1e-5)
    assert {n: g.shape for n, g in gradients.items()} == {
        "W_enc": (6, 24), "b_enc": (24,), "W_dec": (24, 6), "b_dec": (6,),
    }  # fmt: skip
    # By b_dec the gradient is twice the mean error, since it does not enter the encoder.
    np.testing.assert_allclose(gradients["b_dec"], 2 * (sae(x) - x).mean(0), rtol=1e-3, atol=1e-5)
    metrics = trainer.step(x)
    assert metrics["loss"] == pytest.approx(loss)
    assert (metrics["steps"], metrics["tokens"]) == (1, 40)
    assert trainer.history == []
    moved = trainer.sae
    np.testing.assert_allclose(
        moved.b_dec - sae.b_dec, -1e-3 * np.sign(gradients["b_dec"]), rtol=1e-2
    )


def test_trained_sae_is_a_copy(rng: np.random.Generator) -> None:
    trainer = suture.Trainer(start(), batch_size=50, lr=1e-2)
    first = trainer.sae
    kept = copy.deepcopy(first)
    trainer.run(rng.normal(size=(500, 6)).astype(np.float32))
    np.testing.assert_array_equal(first.W_enc, kept.W_enc)
    assert (trainer.sae.W_enc != kept.W_enc).any()

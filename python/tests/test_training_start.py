# SPDX-License-Identifier: Apache-2.0
"""What training takes from the activations at its first step, against SciPy and SAELens."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from test_training_torch import NAMES, start

import suture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sae_lens.saes as lens
    from sae_lens.training.activation_scaler import ActivationScaler

# Steps with it leave the weights as they are.
STILL = 1e-30


def skewed(rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """Rows whose mean and median lie apart."""
    return (rng.exponential(size=(rows, cols)) ** 2 + np.arange(cols)).astype(np.float32)


def begun(acts: Any, sae: suture.SAE | None = None, **options: Any) -> suture.SAE:
    """The SAE just before its first step."""
    sae = sae or suture.SAE.init(acts[0].shape[-1], 32, k=3, seed=2)
    trainer = suture.Trainer(sae, batch_size=1, lr=STILL, **options)
    trainer.run(acts, tokens=1, rows=suture.Rows.all())
    return trainer.sae


@pytest.mark.parametrize("rows", [300, 70_000])
def test_b_dec_starts(rows: int, rng: np.random.Generator) -> None:
    x = skewed(rows, 5, rng)
    # Up to 65,536 rows, evenly.
    sample = x[np.arange(min(rows, 65536)) * rows // min(rows, 65536)].astype(np.float64)
    given = suture.SAE.init(5, 32, k=3)
    given = suture.SAE(
        W_enc=given.W_enc, b_enc=given.b_enc, W_dec=given.W_dec, b_dec=np.arange(5.0), k=3
    )
    np.testing.assert_allclose(begun(x, given).b_dec, np.arange(5), atol=1e-20)
    np.testing.assert_allclose(begun(x, given, b_dec_init="keep").b_dec, np.arange(5), atol=1e-20)
    np.testing.assert_allclose(begun(x, given, b_dec_init="zero").b_dec, np.zeros(5), atol=1e-20)
    mean = begun(x, given, b_dec_init="mean").b_dec
    np.testing.assert_allclose(mean, sample.mean(0), rtol=1e-6)
    median = begun(x, given, b_dec_init="geometric_median").b_dec

    def distances(point: np.ndarray) -> tuple[float, np.ndarray]:
        difference = point - sample
        length = np.linalg.norm(difference, axis=1)
        return length.mean(), (difference / length[:, None]).mean(0)

    best = minimize(distances, sample.mean(0) + 1e-3, jac=True, method="BFGS", tol=1e-10).x
    np.testing.assert_allclose(median, best, atol=2e-6 * np.abs(best).max())
    assert np.abs(median - mean).max() > 0.1
    shards = [x[:100], x[100:]]
    again = begun(shards, given, b_dec_init="geometric_median").b_dec
    np.testing.assert_array_equal(again, median)


def test_geometric_median_at_a_row() -> None:
    # Half of the rows and more in one place: that is the median, from wherever one begins.
    x = np.array([[1, 2]] * 6 + [[5, 2], [1, 9], [7, 7], [0, 3], [8, 8]], dtype=np.float32)
    np.testing.assert_allclose(begun(x, b_dec_init="geometric_median").b_dec, [1, 2], atol=1e-5)
    # All the same; and the mean is a row, but not the median.
    same = np.full((4, 2), 3.0, dtype=np.float32)
    np.testing.assert_allclose(begun(same, b_dec_init="geometric_median").b_dec, [3, 3], atol=1e-20)
    line = np.array([[0, 0], [1, 0], [1.5, 0], [2.5, 0], [7.5, 0]], dtype=np.float32)
    assert (line.mean(0) == line[3]).all()
    np.testing.assert_allclose(
        begun(line, b_dec_init="geometric_median").b_dec, [1.5, 0], atol=1e-3
    )


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("b_dec_init", ["keep", "mean"])
def test_normalized_training_is_training_on_scaled_activations(
    b_dec_init: Any, subtract: bool, rng: np.random.Generator
) -> None:
    x = (7 * rng.standard_normal((1024, 24)) + 2).astype(np.float32)
    given = start(24, 160, 9, subtract, rng)
    options: dict[str, Any] = {"batch_size": 256, "lr": 1e-3, "b_dec_init": b_dec_init}
    run = suture.train(
        given, x, normalize_activations="expected_average_only_in", log_every=1, tokens=5120,
        **options,
    )  # fmt: skip

    # SAELens' factor of the same data.
    parts = iter(torch.tensor(x).split(256))
    scaler = ActivationScaler()
    scaler.estimate_scaling_factor(24, parts, 4)
    scale = scaler.scaling_factor
    assert scale is not None
    assert scale < 0.2

    # The SAE that does on scaled activations what `given` does on plain ones.
    like = suture.SAE(
        W_enc=given.W_enc, b_enc=given.b_enc * scale, W_dec=given.W_dec, b_dec=given.b_dec * scale,
        k=9, apply_b_dec_to_input=subtract,
    )  # fmt: skip
    scaled = (x * np.float32(scale)).astype(np.float32)
    expected = suture.train(like, scaled, log_every=1, tokens=5120, **options)
    for found, row in zip(run.history, expected.history, strict=True):
        assert found["loss"] == pytest.approx(row["loss"], rel=1e-4)
    np.testing.assert_allclose(run.sae(x), expected.sae(scaled) / scale, atol=2e-3)

    # Folded as SAELens folds.
    theirs = lens.TopKSAE(
        lens.TopKSAEConfig(
            d_in=24, d_sae=160, k=9, apply_b_dec_to_input=subtract,
            normalize_activations="expected_average_only_in",
        )
    )  # fmt: skip
    theirs.load_state_dict({n: torch.tensor(getattr(expected.sae, n)) for n in NAMES})
    theirs.fold_activation_norm_scaling_factor(scale)
    for name in NAMES:
        folded = getattr(theirs, name).detach().numpy()
        np.testing.assert_allclose(
            getattr(run.sae, name), folded, atol=2e-3 * np.abs(folded).max(), err_msg=name
        )


def test_normalizing_leaves_the_start_as_it_is(rng: np.random.Generator) -> None:
    x = (9 * rng.standard_normal((500, 24)) - 1).astype(np.float32)
    given = start(24, 160, 9, True, rng)
    found = begun(x, given, normalize_activations="expected_average_only_in")
    np.testing.assert_allclose(found(x), given(x), atol=1e-3)


@pytest.mark.parametrize(
    "options",
    [{"b_dec_init": "geometric_median"}, {"normalize_activations": "expected_average_only_in"}],
)
def test_start_errors(options: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((64, 6)).astype(np.float32)
    trainer = suture.Trainer(suture.SAE.init(6, 24, k=3), batch_size=8, **options)
    with pytest.raises(ValueError, match=r"b_dec_init is .* expected one before"):
        trainer.gradients(x)
    bad = x.copy()
    bad[17, 3] = np.nan
    with pytest.raises(ValueError, match=r"acts\[17, 3\] is nan"):
        trainer.run(bad, tokens=8)
    if "normalize_activations" in options:
        with pytest.raises(ValueError, match=r"the mean norm of the activations is 0"):
            trainer.step(np.zeros((8, 6)))
    assert trainer.step(x)["steps"] == 1
    trainer.gradients(x)


def test_start_is_taken_once(rng: np.random.Generator) -> None:
    x = skewed(64, 6, rng)
    trainer = suture.Trainer(suture.SAE.init(6, 24, k=3), batch_size=8, lr=STILL, b_dec_init="mean")
    trainer.run(x, tokens=8)
    trainer.run(2 * x, tokens=8)
    np.testing.assert_allclose(trainer.sae.b_dec, x.mean(0), rtol=1e-6)


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "jumprelu", "relu"])
@pytest.mark.parametrize("decoder_norm", ["unit", "unit_unprojected"])
def test_training_begins_from_the_function_that_the_sae_has(
    architecture: str, decoder_norm: str, rng: np.random.Generator, tmp_path: Any
) -> None:
    """Decoder norms from 0.05 to 20: moved into the encoder, other latents would win."""
    own: dict[str, Any] = {
        "topk": {"k": 5}, "batchtopk": {"k": 5, "threshold": 0.7},
        "jumprelu": {"threshold": np.full(40, 0.5)}, "relu": {},
    }[architecture]  # fmt: skip
    W = rng.normal(size=(6, 40)) / np.sqrt(6)
    sae = suture.SAE(
        W_enc=W, b_enc=0.1 * rng.normal(size=40), b_dec=rng.normal(size=6),
        W_dec=W.T * np.geomspace(0.05, 20, 40)[:, None], architecture=architecture, **own,
    )  # fmt: skip
    x = rng.normal(size=(500, 6)).astype(np.float32)
    trainer = suture.Trainer(sae, batch_size=500, lr=STILL, decoder_norm=decoder_norm)
    mean = ((sae(x) - x).astype(np.float64) ** 2).sum(1).mean()
    loss = trainer.step(x)["loss"]
    if architecture in ("topk", "jumprelu"):
        # ReLU's loss has its penalty, BatchTopK's is of the batch's own threshold.
        assert loss == pytest.approx(mean, rel=1e-5)
    begun = trainer.sae
    if architecture != "batchtopk":
        np.testing.assert_allclose(begun(x), sae(x), rtol=1e-4, atol=1e-4)
    norms = np.linalg.norm(begun.W_dec, axis=1)
    if architecture in ("topk", "batchtopk"):
        np.testing.assert_allclose(norms, np.linalg.norm(sae.W_dec, axis=1), rtol=1e-5)
        np.testing.assert_allclose(begun.W_enc, sae.W_enc, rtol=1e-5, atol=1e-7)
    # What goes on from a checkpoint is the same to the bit.
    options: dict[str, Any] = {
        "batch_size": 100, "lr": 1e-3, "decoder_norm": decoder_norm, "progress": False
    }  # fmt: skip
    whole = suture.train(sae, x, tokens=2000, **options).sae
    suture.train(sae, x, tokens=1000, checkpoint=tmp_path / "run", **options)
    resumed = suture.resume(tmp_path / "run", x, tokens=2000, progress=False).sae
    np.testing.assert_array_equal(whole.W_dec, resumed.W_dec)
    np.testing.assert_array_equal(whole.W_enc, resumed.W_enc)

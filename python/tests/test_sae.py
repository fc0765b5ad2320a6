# SPDX-License-Identifier: Apache-2.0
"""SAEs against NumPy: the forward pass of every architecture, codes, metrics, keeping."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import COPIED, DIRECT, exact, files

import suture

D_IN, D_SAE = 6, 20


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "W_enc": rng.normal(size=(D_IN, D_SAE)).astype(np.float32),
        "W_dec": rng.normal(size=(D_SAE, D_IN)).astype(np.float32),
        "b_dec": rng.normal(size=D_IN).astype(np.float32),
    }


def settings(architecture: str, rng: np.random.Generator) -> dict[str, Any]:
    weights: dict[str, Any] = arrays(rng) | {"architecture": architecture}
    if architecture == "gated":
        for name in ("b_gate", "b_mag", "r_mag"):
            weights[name] = 0.3 * rng.normal(size=D_SAE).astype(np.float32)
        return weights
    weights["b_enc"] = rng.normal(size=D_SAE).astype(np.float32)
    if architecture == "topk":
        weights["k"] = 5
    if architecture == "batchtopk":
        weights["threshold"] = 0.7
    if architecture == "jumprelu":
        weights["threshold"] = rng.uniform(0, 1, D_SAE).astype(np.float32)
    return weights


def forward(x: np.ndarray, s: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Activations and reconstruction in float64."""
    w = {n: np.asarray(v, np.float64) for n, v in s.items() if isinstance(v, np.ndarray)}
    x = x.astype(np.float64)
    subtract = s.get("apply_b_dec_to_input", False)
    inputs = x - w["b_dec"] if subtract else x
    norms = np.linalg.norm(w["W_dec"], axis=1) if s.get("rescale_by_decoder_norm") else 1.0
    if s["architecture"] == "gated":
        gate = inputs @ w["W_enc"] + w["b_gate"]
        magnitude = inputs @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"]
        f = (gate > 0) * np.maximum(magnitude, 0)
        return f, f @ w["W_dec"] + w["b_dec"]
    pre = (inputs @ w["W_enc"] + w["b_enc"]) * norms
    f = np.maximum(pre, 0)
    if s["architecture"] == "topk":
        kth = np.sort(pre, axis=1)[:, -s["k"], None]
        f = f * (pre >= kth)
    elif s["architecture"] in ("batchtopk", "jumprelu"):
        f = f * (pre > np.asarray(s["threshold"], np.float32))
    return f, (f / norms) @ w["W_dec"] + w["b_dec"]


ARCHITECTURES = ["topk", "batchtopk", "jumprelu", "relu", "gated"]


# No library rescales a gated SAE by its decoder norms.
VARIANTS = [
    (architecture, rescale, subtract)
    for architecture in ARCHITECTURES
    for rescale in (False, True)
    for subtract in (False, True)
    if not (rescale and architecture == "gated")
]


@pytest.mark.parametrize(("architecture", "rescale", "subtract"), VARIANTS)
def test_forward(
    architecture: str, rescale: bool, subtract: bool, rng: np.random.Generator
) -> None:
    s = settings(architecture, rng)
    s |= {"apply_b_dec_to_input": subtract, "rescale_by_decoder_norm": rescale}
    sae = suture.SAE(**s)
    x = rng.normal(size=(50, D_IN)).astype(np.float32)
    activations, expected = forward(x, s)
    codes = sae.encode(x)
    np.testing.assert_allclose(codes.to_dense(), activations, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(sae.decode(codes), expected, rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(sae(x), expected, rtol=2e-4, atol=1e-4)
    assert sae.fold()(x) == pytest.approx(expected, rel=2e-4, abs=1e-4)


@pytest.mark.parametrize("kind", [*DIRECT, *COPIED])
def test_every_kind_of_array(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    sae = suture.SAE(**settings("topk", rng))
    x = exact(rng)
    made = (DIRECT | COPIED)[kind](x, tmp_path)
    expected = sae(x)
    found = sae(made)
    assert found.shape == tuple(made.shape)
    np.testing.assert_array_equal(found.reshape(x.shape), expected)
    np.testing.assert_array_equal(sae.encode(made).indices, sae.encode(x).indices)


def test_inputs_in_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    for architecture in ("topk", "relu"):
        sae = suture.SAE(**settings(architecture, rng))
        x = exact(rng)
        codes, metrics = sae.encode(x), sae.evaluate(x)
        folder = tmp_path / architecture
        folder.mkdir()
        for kind in ("path", "folder", "list of arrays", "generator", "column order in parts"):
            found = sae.encode(files(x, _new(folder, kind, "a"))[kind])
            np.testing.assert_array_equal(found.to_dense(), codes.to_dense(), err_msg=kind)
            # The bound on norms follows from a generator's first array alone.
            found_metrics = sae.evaluate(files(x, _new(folder, kind, "b"))[kind])
            found_metrics["norm_bound"] = metrics["norm_bound"]
            assert found_metrics == pytest.approx(metrics, rel=1e-6), kind


def _new(folder: Path, kind: str, use: str) -> Path:
    path = folder / f"{kind}-{use}"
    path.mkdir()
    return path


def test_metrics(rng: np.random.Generator) -> None:
    s = settings("topk", rng)
    sae = suture.SAE(**s)
    x = rng.normal(2, 1, (300, D_IN)).astype(np.float32)
    f, x_hat = forward(x, s)
    y = x.astype(np.float64)
    error = ((y - x_hat) ** 2).sum()
    explained = 1 - error / ((y - y.mean(0)) ** 2).sum()
    expected = {
        "tokens": 300,
        "explained_variance": explained,
        "fvu": 1 - explained,
        "l0": (f > 0).sum(1).mean(),
        "dead_fraction": ((f > 0).sum(0) == 0).mean(),
        "mse": error / y.size,
        "cosine": np.mean(
            (y * x_hat).sum(1) / np.linalg.norm(y, axis=1) / np.linalg.norm(x_hat, axis=1)
        ),
        "norm_ratio": np.mean(np.linalg.norm(x_hat, axis=1) / np.linalg.norm(y, axis=1)),
    }
    metrics = sae.evaluate(x, features=True)
    np.testing.assert_allclose(metrics.pop("feature_frequency"), (f > 0).mean(0), rtol=1e-12)
    np.testing.assert_allclose(metrics.pop("feature_maximum"), f.max(0), rtol=1e-4)
    for name in ("explained_variance", "fvu", "l0", "mse", "cosine", "norm_ratio"):
        expected[f"{name}_ordinary"] = expected[name]
    expected |= {"tokens_ordinary": 300, "beyond": 0, "share_beyond": 0.0}
    expected["norm_bound"] = 5 * np.median(np.linalg.norm(y, axis=1))
    assert metrics == pytest.approx(expected, rel=1e-4)
    evaluation = suture.Evaluation(sae, norm_bound=metrics["norm_bound"])
    assert evaluation.update(x[:100]).update(x[100:]).metrics == pytest.approx(metrics, rel=1e-9)


def test_metrics_of_ordinary_rows(rng: np.random.Generator) -> None:
    sae = suture.SAE(**settings("topk", rng))
    x = rng.normal(2, 1, (4000, D_IN)).astype(np.float32)
    x[::500] *= 100
    kept = np.ones(4000, bool)
    kept[::500] = False
    with pytest.warns(
        suture.SutureWarning, match=r"SAE.evaluate: few rows: 8 of 4000 rows of acts"
    ):
        metrics = sae.evaluate(x)
    whole, ordinary = sae.evaluate(x, rows=suture.Rows.all()), sae.evaluate(x[kept])
    for name in ("explained_variance", "fvu", "l0", "mse", "cosine", "norm_ratio", "tokens"):
        assert metrics[name] == pytest.approx(whole[name], rel=1e-12)
        assert metrics[f"{name}_ordinary"] == pytest.approx(ordinary[name], rel=1e-9)
        assert whole[f"{name}_ordinary"] == whole[name]
    assert metrics["beyond"] == 8
    centred = ((x - x.mean(0, dtype=np.float64)) ** 2).sum(1)
    assert metrics["share_beyond"] == pytest.approx(centred[~kept].sum() / centred.sum(), rel=1e-6)
    assert (whole["beyond"], whole["share_beyond"], whole["norm_bound"]) == (0, 0, np.inf)
    # A mask leaves rows out altogether; what it leaves out may be anything.
    x[~kept] = np.nan
    masked = sae.evaluate(x, rows=kept)
    assert masked == pytest.approx(ordinary, rel=1e-9)
    # All are beyond: their metrics are there, those of ordinary rows are not.
    none = suture.Evaluation(sae, norm_bound=1e-3).update(x[1:100]).metrics
    assert none["beyond"] == none["tokens"] == 99
    assert np.isnan(none["explained_variance_ordinary"])
    assert none["share_beyond"] == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_file_pickle_and_copy(architecture: str, rng: np.random.Generator, tmp_path: Path) -> None:
    s = settings(architecture, rng)
    sae = suture.SAE(**s, metadata={"model_name": "small"})
    sae.metadata |= {"hook_name": "blocks.3.hook_resid_pre"}
    x = rng.normal(size=(20, D_IN)).astype(np.float32)
    copies = [pickle.loads(pickle.dumps(sae)), copy.deepcopy(sae)]
    sae.save(tmp_path / "sae")
    loaded = suture.SAE.load(tmp_path / "sae")
    assert loaded.metadata["model_name"] == "small"
    assert loaded.metadata["hook_name"] == "blocks.3.hook_resid_pre"
    np.testing.assert_allclose(loaded(x), sae(x), rtol=1e-5, atol=1e-6)
    for other in copies:
        assert other.metadata == sae.metadata
        assert repr(other) == repr(sae)
        np.testing.assert_array_equal(other(x), sae(x))


def test_init() -> None:
    sae = suture.SAE.init(8, 32, k=4, seed=7)
    np.testing.assert_allclose(np.linalg.norm(sae.W_dec, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(sae.W_enc, sae.W_dec.T)
    assert not sae.b_enc.any()
    assert not sae.b_dec.any()
    np.testing.assert_array_equal(sae.W_dec, suture.SAE.init(8, 32, k=4, seed=7).W_dec)
    assert (sae.W_dec != suture.SAE.init(8, 32, k=4, seed=8).W_dec).any()
    assert (sae.d_in, sae.d_sae, sae.k, sae.architecture) == (8, 32, 4, "topk")
    assert suture.SAE.init(8, 32, architecture="relu").k is None


def test_weights_that_an_architecture_lacks(rng: np.random.Generator) -> None:
    sae = suture.SAE(**settings("topk", rng))
    with pytest.raises(AttributeError, match="a topk SAE has no threshold"):
        sae.threshold  # noqa: B018
    assert not hasattr(suture.SAE(**settings("gated", rng)), "b_enc")


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transfer(architecture: str, direction: str, rng: np.random.Generator) -> None:
    shapes = {"P_up": (D_IN, 9), "b_up": (9,), "P_down": (9, D_IN), "b_down": (D_IN,)}
    if direction == "down":
        shapes = {"P_down": (D_IN, 9), "b_down": (9,), "P_up": (9, D_IN), "b_up": (D_IN,)}
    stitch = suture.Stitch(**{n: rng.normal(size=s) for n, s in shapes.items()})
    sae = suture.SAE(**settings(architecture, rng))
    moved = stitch.transfer(sae, direction)
    h = rng.normal(size=(200, 9)).astype(np.float32)
    there, back = (stitch.down, stitch.up) if direction == "up" else (stitch.up, stitch.down)
    expected = back(sae(there(h)))
    # A token whose top-k or threshold is decided by rounding may differ.
    close = np.isclose(moved(h), expected, rtol=1e-3, atol=1e-3).all(1)
    assert close.mean() > 0.98


def test_transfer_checks_where_it_comes_from(rng: np.random.Generator) -> None:
    stitch = suture.Stitch(
        *(rng.normal(size=s) for s in [(6, 9), (9,), (9, 6), (6,)]),
        metadata={"model_a": "small", "layer_a": 3, "model_b": "large", "layer_b": 5},
    )
    sae = suture.SAE(
        **settings("topk", rng),
        metadata={"model_name": "small", "hook_name": "blocks.3.hook_resid_pre"},
    )
    moved = stitch.transfer(sae)
    assert moved.metadata["model_name"] == "large"
    assert moved.metadata["hook_name"] == "blocks.5.hook_resid_pre"
    # What is changed in the dict counts.
    sae.metadata["hook_name"] = "blocks.2.hook_resid_pre"
    with pytest.raises(ValueError, match="layer"):
        stitch.transfer(sae)
    sae.metadata = {"model_name": "other"}
    with pytest.raises(ValueError, match="other"):
        stitch.transfer(sae)


def test_same_bits_for_any_number_of_threads(rng: np.random.Generator, threads: None) -> None:
    sae = suture.SAE.init(32, 256, k=8)
    x = rng.normal(size=(5003, 32)).astype(np.float32)
    found = set()
    for count in (1, 2, 8):
        suture.set_threads(count)
        codes = sae.encode(x)
        run = suture.train(sae, x, batch_size=700, tokens=7000, lr=1e-3)
        found.add(
            codes.indices.tobytes() + codes.values.tobytes() + sae(x).tobytes()
            + repr(sae.evaluate(x)).encode() + run.sae.W_enc.tobytes()
        )  # fmt: skip
    assert len(found) == 1


def test_codes(rng: np.random.Generator) -> None:
    sae = suture.SAE(**settings("relu", rng))
    x = rng.normal(size=(30, D_IN)).astype(np.float32)
    codes = sae.encode(x)
    dense = codes.to_dense()
    assert codes.shape == dense.shape == (30, D_SAE)
    assert len(codes) == 30
    np.testing.assert_array_equal(codes.counts, (dense > 0).sum(1))
    assert (np.diff(codes.values, axis=1) <= 0).all()
    assert ((codes.indices < 0) == (codes.values == 0)).all()
    for rows in (
        slice(3, 9),
        slice(None, None, -2),
        [4, 1, 1],
        dense[:, 0] > 0,
        7,
        -1,
        slice(0, 1),
    ):
        part = codes[rows]
        np.testing.assert_array_equal(part.to_dense(), dense[rows].reshape(-1, D_SAE))
    remade = suture.SparseCodes(codes.indices, codes.values, D_SAE)
    np.testing.assert_array_equal(sae.decode(remade), sae.decode(codes))
    again = pickle.loads(pickle.dumps(codes))
    np.testing.assert_array_equal(again.to_dense(), dense)
    scipy = pytest.importorskip("scipy.sparse")
    matrix = codes.to_scipy()
    assert scipy.issparse(matrix)
    np.testing.assert_array_equal(matrix.toarray(), dense)

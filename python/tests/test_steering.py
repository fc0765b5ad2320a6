# SPDX-License-Identifier: Apache-2.0
"""Steering vectors against NumPy: fit, apply, transfer, files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds import COPIED, DIRECT, exact, files

import suture
from suture import SteeringVector, Stitch

D, D_B = 24, 37


@pytest.fixture
def sides(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    # A large common offset: means in float32 would lose the difference.
    common = 1000 * rng.normal(size=D)
    return (
        (common + rng.normal(size=(5000, D)) + 0.3).astype(np.float32),
        (common + rng.normal(size=(3000, D))).astype(np.float32),
    )


@pytest.fixture
def stitch(rng: np.random.Generator) -> Stitch:
    shapes = [(D, D_B), (D_B,), (D_B, D), (D,)]
    return Stitch(*(rng.normal(size=shape) for shape in shapes))


def unit(v: np.ndarray) -> np.ndarray:
    return np.asarray(v / np.linalg.norm(v))


def test_fit_is_the_normalised_difference_of_means(sides: Any) -> None:
    positive, negative = sides
    found = SteeringVector.fit(positive, negative)
    means = [side.astype(np.float64).mean(0) for side in sides]
    v = unit(means[0] - means[1])
    assert np.abs(found.vector - v).max() < 6e-8  # rounded once to float32
    assert found.z_mean == pytest.approx(
        (positive.astype(np.float64) @ found.vector).mean(), rel=1e-12
    )
    assert found.mean is not None
    np.testing.assert_array_equal(found.mean, means[0].astype(np.float32))
    assert found.metadata == {"positive_tokens": 5000, "negative_tokens": 3000}


@pytest.mark.parametrize("kind", DIRECT | COPIED)
def test_every_kind_of_array(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    positive, negative, h = exact(rng), exact(rng), exact(rng)
    make = (DIRECT | COPIED)[kind]
    wanted = SteeringVector.fit(positive, negative)
    found = SteeringVector.fit(make(positive, tmp_path), negative)
    # All sums are exact, whatever their order.
    np.testing.assert_array_equal(found.vector, wanted.vector)
    assert found.z_mean == wanted.z_mean
    steered = found.apply(make(h, tmp_path)).reshape(h.shape)
    np.testing.assert_array_equal(steered, wanted.apply(h))


def test_inputs_in_several_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    positive, negative = exact(rng), exact(rng)
    wanted = SteeringVector.fit(positive, negative)
    for kind, given in files(positive, tmp_path).items():
        found = SteeringVector.fit(given, negative)
        np.testing.assert_array_equal(found.vector, wanted.vector, err_msg=kind)
        assert found.metadata == wanted.metadata, kind


def test_the_same_bits_for_any_number_of_threads(sides: Any, threads: None) -> None:
    found = []
    for count in (1, 2, 8):
        suture.set_threads(count)
        vector = SteeringVector.fit(*sides)
        found.append((vector.vector.tobytes(), vector.z_mean, vector.apply(sides[1]).tobytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("strength", [1.0, 2.0, -0.5])
def test_apply_is_the_definition(strength: float, rng: np.random.Generator) -> None:
    h = rng.normal(size=(700, D))
    vector = SteeringVector(rng.normal(size=D), z_mean=3.5)
    v, along = vector.vector.astype(np.float64), h @ vector.vector
    expected = {
        "clamp": h + np.outer(strength * 3.5 - along, v),
        "add": h + strength * 3.5 * v,
        "ablate": h - np.outer(along, v),
    }
    for mode, wanted in expected.items():
        steered = vector.apply(h, mode, strength)  # type: ignore[arg-type]
        assert steered.dtype == np.float32
        # float32 rounding of h, of the factor and of their sum.
        assert np.abs(steered - wanted).max() < 3e-6
    shaped = vector.apply(h.reshape(7, 100, D), "clamp", strength)
    np.testing.assert_array_equal(shaped.reshape(-1, D), vector.apply(h, "clamp", strength))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_apply_takes_every_element_type(dtype: type, rng: np.random.Generator) -> None:
    h = rng.normal(size=(50, D)).astype(dtype)
    vector = SteeringVector(rng.normal(size=D), z_mean=1.0)
    np.testing.assert_array_equal(vector.apply(h), vector.apply(h.astype(np.float32)))


def test_in_place(rng: np.random.Generator) -> None:
    """What the C interface allows: out may be h."""
    h = rng.normal(size=(50, D)).astype(np.float32)
    vector = SteeringVector(rng.normal(size=D), z_mean=1.0)
    wanted = vector.apply(h)
    rows = suture._core.Rows(h, "h", writable=True)
    vector._core.apply("clamp", 1.0, rows, rows, None)
    np.testing.assert_array_equal(h, wanted)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_transfer(direction: Any, sides: Any, stitch: Stitch, rng: np.random.Generator) -> None:
    if direction == "down":
        stitch = Stitch(stitch.P_down, stitch.b_down, stitch.P_up, stitch.b_up)
    P, b = (stitch.P_up, stitch.b_up) if direction == "up" else (stitch.P_down, stitch.b_down)
    vector = SteeringVector.fit(*sides)
    moved = stitch.transfer(vector, direction)
    v = unit(vector.vector.astype(np.float64) @ P)
    assert np.abs(moved.vector - v).max() < 6e-8
    assert vector.mean is not None
    assert moved.mean is not None
    mean = vector.mean.astype(np.float64) @ P + b
    np.testing.assert_allclose(moved.mean, mean, rtol=1e-6)
    assert moved.z_mean == pytest.approx(mean @ moved.vector, rel=1e-12)

    acts = rng.normal(size=(400, len(b)))
    exact = stitch.transfer(vector, direction, acts=[acts[:100], acts[100:]])
    np.testing.assert_array_equal(exact.vector, moved.vector)
    assert exact.z_mean == pytest.approx((acts @ moved.vector).mean(), rel=1e-9)
    assert exact.metadata["positive_tokens"] == 400
    assert exact.mean is not None
    np.testing.assert_allclose(exact.mean, acts.mean(0), rtol=1e-6)

    bare = SteeringVector(vector.vector, vector.z_mean)
    assert stitch.transfer(bare, direction, acts=acts).z_mean == pytest.approx(exact.z_mean)


def test_a_vector_that_the_stitch_forgets_is_refused(rng: np.random.Generator) -> None:
    """In the kernel of P but for its rounding to float32, and one that is not quite."""
    P = rng.normal(size=(600, 20)).astype(np.float32)
    v = rng.normal(size=600)
    basis = np.linalg.qr(P.astype(np.float64))[0]
    forgotten = unit(v - basis @ (basis.T @ v))
    stitch = Stitch(P, np.zeros(20), P.T, np.zeros(600))
    with pytest.raises(suture.NumericalError, match="maps vector to zero"):
        stitch.transfer(SteeringVector(forgotten, 1.0, mean=v))
    nearly = forgotten + 1e-4 * basis[:, 0]
    moved = stitch.transfer(SteeringVector(nearly, 1.0, mean=v))
    assert abs(moved.vector @ unit(basis[:, 0] @ P)) > 0.999


def test_transferred_steering_is_steering_of_what_is_mapped(rng: np.random.Generator) -> None:
    """With an orthogonal P and no bias, both ways round are the same."""
    P = np.linalg.qr(rng.normal(size=(D, D)))[0]
    stitch = Stitch(P, np.zeros(D), P.T, np.zeros(D))
    vector = SteeringVector(rng.normal(size=D), 2.0, mean=rng.normal(size=D))
    vector = SteeringVector(vector.vector, float(vector.vector @ vector.mean), mean=vector.mean)
    h = rng.normal(size=(60, D))
    there = stitch.transfer(vector).apply(stitch.up(h))
    np.testing.assert_allclose(there, stitch.up(vector.apply(h)), atol=1e-5)


def test_transfer_names_the_new_model(rng: np.random.Generator) -> None:
    stitch = Stitch(
        np.eye(2), np.zeros(2), np.eye(2), np.zeros(2),
        metadata={"model_a": "small", "layer_a": 2, "model_b": "large", "layer_b": 3},
    )  # fmt: skip
    metadata = {"model_name": "small", "hook_name": "blocks.2.hook_resid_pre", "language": "de"}
    moved = stitch.transfer(SteeringVector(np.ones(2), 1.0, mean=np.ones(2), metadata=metadata))
    assert moved.metadata == {
        "model_name": "large",
        "hook_name": "blocks.3.hook_resid_pre",
        "language": "de",
        "transferred_from": {"model_name": "small", "hook_name": "blocks.2.hook_resid_pre"},
    }


def test_extracted_activations_say_where_they_come_from(sides: Any) -> None:
    index = np.zeros(50, np.int32)
    acts = [
        suture.Activations(
            {2: side[:50]}, token_ids=index, positions=index, sequence=index,
            metadata={"model": "small"},
        )
        for side in sides
    ]  # fmt: skip
    vector = SteeringVector.fit(*acts, metadata={"language": "de"})
    assert vector.metadata["model_name"] == "small"
    assert vector.metadata["hook_name"] == "blocks.2.hook_resid_pre"
    assert vector.metadata["language"] == "de"


def same(a: SteeringVector, b: SteeringVector) -> None:
    np.testing.assert_array_equal(a.vector, b.vector)
    assert a.z_mean == b.z_mean
    np.testing.assert_array_equal(np.asarray(a.mean), np.asarray(b.mean))
    assert a.metadata == b.metadata


@pytest.mark.parametrize("with_mean", [True, False])
def test_files_and_pickles_keep_every_bit(
    with_mean: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    vector = SteeringVector(
        rng.normal(size=D), np.pi, mean=rng.normal(size=D) if with_mean else None,
        metadata={"layer": 3, "number": "3", "nested": {"x": [1, None]}},
    )  # fmt: skip
    vector.save(tmp_path / "v.safetensors")
    same(SteeringVector.load(tmp_path / "v.safetensors"), vector)
    same(pickle.loads(pickle.dumps(vector)), vector)


def test_safetensors_reads_the_file(rng: np.random.Generator, tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    vector = SteeringVector(rng.normal(size=D), 2.5, mean=rng.normal(size=D))
    vector.save(tmp_path / "v.safetensors")
    tensors = numpy.load_file(tmp_path / "v.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "vector": (D,), "z_mean": (1,), "mean": (D,),
    }  # fmt: skip
    np.testing.assert_array_equal(tensors["vector"], vector.vector)
    assert tensors["z_mean"][0] == 2.5


# -- GGUF --------------------------------------------------------------------------------------


def test_control_vector_is_what_llama_cpp_adds(rng: np.random.Generator, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    metadata = {"model_name": "llama", "hook_name": "blocks.7.hook_resid_pre"}
    vector = SteeringVector(rng.normal(size=D), 3.25, metadata=metadata)
    path = tmp_path / "v.gguf"
    vector.save(path, "gguf")
    assert [file.name for file in tmp_path.iterdir()] == ["v.gguf"]
    reader = gguf.GGUFReader(path)
    # The output of block 6, counted from 0, is the residual stream before block 7.
    [tensor] = reader.tensors
    assert tensor.name == "direction.6"
    assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    h = rng.normal(size=(3, D)).astype(np.float32)
    np.testing.assert_allclose(h + tensor.data, vector.apply(h, "add"), atol=1e-6)
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 1

    back = SteeringVector.load(path)
    np.testing.assert_allclose(back.vector, vector.vector, atol=1e-7)
    assert back.z_mean == pytest.approx(3.25, rel=1e-6)
    assert back.metadata == metadata | {"model_hint": "llama"}
    vector.save(path, "gguf", layer=4)
    assert SteeringVector.load(path).metadata["hook_name"] == "blocks.4.hook_resid_pre"


def test_negative_z_mean_steers_the_same(rng: np.random.Generator, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    vector = SteeringVector(rng.normal(size=D), -1.5)
    vector.save(tmp_path / "v.gguf", "gguf", layer=2)
    back = SteeringVector.load(tmp_path / "v.gguf")
    h = rng.normal(size=(30, D))
    for mode in ("clamp", "add", "ablate"):
        np.testing.assert_allclose(back.apply(h, mode), vector.apply(h, mode), atol=1e-5)  # type: ignore[arg-type]


def repeng(
    path: Path, directions: dict[int, np.ndarray], architecture: str = "controlvector"
) -> Path:
    """A file as repeng's export_gguf writes it."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("controlvector.model_hint", "mistral")
    writer.add_uint32("controlvector.layer_count", len(directions))
    for layer, direction in directions.items():
        writer.add_tensor(f"direction.{layer}", direction.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_files_of_repeng_have_many_layers(rng: np.random.Generator, tmp_path: Path) -> None:
    directions = {layer: rng.normal(size=D) for layer in range(1, 5)}
    path = repeng(tmp_path / "r.gguf", directions)
    with pytest.raises(ValueError, match=r"layer is None, expected one of \[2, 3, 4, 5\]"):
        SteeringVector.load(path)
    found = SteeringVector.load(path, layer=4)
    np.testing.assert_allclose(found.vector, unit(directions[3]), atol=1e-7)
    assert found.z_mean == pytest.approx(np.linalg.norm(directions[3]), rel=1e-6)
    assert found.metadata["model_hint"] == "mistral"


def test_files_that_are_no_control_vectors(rng: np.random.Generator, tmp_path: Path) -> None:
    good = {2: rng.normal(size=D)}
    for word, path in {
        "'llama'": repeng(tmp_path / "a.gguf", good, "llama"),
        "zero": repeng(tmp_path / "b.gguf", {2: np.zeros(D)}),
        "direction.0": repeng(tmp_path / "c.gguf", {0: good[2]}),
        "shape": repeng(tmp_path / "d.gguf", {2: np.ones((D, 2))}),
    }.items():
        with pytest.raises(suture.FormatError, match=word):
            SteeringVector.load(path)


def test_files_cut_short(rng: np.random.Generator, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    vector = SteeringVector(rng.normal(size=D), 1.0)
    for name, options in {"v.safetensors": {}, "v.gguf": {"format": "gguf", "layer": 2}}.items():
        vector.save(tmp_path / name, **options)  # type: ignore[arg-type]
        whole = (tmp_path / name).read_bytes()
        for size in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:size])
            with pytest.raises(suture.FormatError):
                SteeringVector.load(tmp_path / "cut")

# SPDX-License-Identifier: Apache-2.0
"""SAELens is the judge: what it reads of ours computes the same, and we compute what it does of
its own, for every architecture."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import suture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sae_lens
    import sae_lens.saes as lens

D_IN, D_SAE, K, ROWS = 24, 160, 9, 300
# float32 sums of 24 products of order 1, and of up to 160 in the output.
TOLERANCE = 2e-5
NORMALIZATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
ARCHITECTURES = ("topk", "batchtopk", "jumprelu", "relu", "gated")


def weights(architecture: str, rng: np.random.Generator) -> dict[str, Any]:
    result: dict[str, Any] = {
        "W_enc": rng.normal(size=(D_IN, D_SAE)) / D_IN**0.5,
        "W_dec": rng.normal(size=(D_SAE, D_IN)) / D_IN**0.5 * rng.uniform(0.3, 2, (D_SAE, 1)),
        "b_dec": rng.normal(size=D_IN) * 0.5,
    }
    if architecture == "gated":
        result["b_gate"] = rng.normal(size=D_SAE) * 0.5 - 0.8
        result["b_mag"] = rng.normal(size=D_SAE) * 0.5
        result["r_mag"] = rng.normal(size=D_SAE) * 0.4
    else:
        result["b_enc"] = rng.normal(size=D_SAE) * 0.3 - 0.2
    if architecture == "jumprelu":
        result["threshold"] = rng.uniform(-0.1, 1.1, D_SAE)
    if architecture == "batchtopk":
        result["threshold"] = 1.1
    return result


def tokens(rng: np.random.Generator) -> np.ndarray:
    return (rng.normal(size=(ROWS, D_IN)) * 1.3 + 0.2).astype(np.float32)


def computed(sae: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations and output of a SAELens SAE."""
    with torch.no_grad():
        return sae.encode(torch.tensor(x)).numpy(), sae(torch.tensor(x)).numpy()


def read_by_saelens(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sae_lens.SAE.load_from_disk(path, dtype="float32")


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal to rounding, but for tokens whose decision between latents is within rounding."""
    wrong = (np.abs(found - expected) > TOLERANCE * max(1, np.abs(expected).max())).any(axis=1)
    assert found.shape == expected.shape
    assert wrong.sum() <= 2


@pytest.mark.parametrize("normalization", ["none", "fixed_scale", "token_norm", "layer_norm"])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("apply_b_dec", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saelens_computes_the_same_from_our_folder(
    architecture: Any,
    apply_b_dec: bool,
    rescale: bool,
    normalization: Any,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    sae = suture.SAE(
        **weights(architecture, rng),
        architecture=architecture,
        k=K if architecture == "topk" else None,
        apply_b_dec_to_input=apply_b_dec,
        rescale_by_decoder_norm=rescale,
        normalization=normalization,
        scale=0.37 if normalization == "fixed_scale" else None,
        metadata={"model_name": "m", "hook_name": "blocks.3.hook_resid_pre", "own": [1, None]},
    )
    sae.save(tmp_path / "ours")
    x = tokens(rng)
    dense, output = sae.encode(x).to_dense(), sae(x)
    theirs = read_by_saelens(tmp_path / "ours")
    same(dense, computed(theirs, x)[0])
    same(output, computed(theirs, x)[1])
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_pre"

    back = suture.SAE.load(tmp_path / "ours")
    assert (back.architecture, back.k) == (sae.architecture, sae.k)
    assert dict(back.metadata) == dict(sae.metadata)
    same(back.encode(x).to_dense(), dense)

    theirs.save_model(tmp_path / "theirs")
    same(suture.SAE.load(tmp_path / "theirs")(x), output)


def randomise(sae: Any, rng: np.random.Generator) -> None:
    with torch.no_grad():
        for name, value in sae.state_dict().items():
            numbers = rng.normal(size=tuple(value.shape)) * 0.3
            value.copy_(torch.tensor(np.abs(numbers) if "threshold" in name else numbers))


THEIRS = {
    "standard": (lens.StandardSAE, lens.StandardSAEConfig, {}),
    "topk": (lens.TopKSAE, lens.TopKSAEConfig, {"k": K}),
    "topk rescaled": (
        lens.TopKSAE,
        lens.TopKSAEConfig,
        {"k": K, "rescale_acts_by_decoder_norm": True},
    ),
    "jumprelu": (lens.JumpReLUSAE, lens.JumpReLUSAEConfig, {}),
    "gated": (lens.GatedSAE, lens.GatedSAEConfig, {}),
}


@pytest.mark.parametrize(
    ("dtype", "normalization", "apply_b_dec"),
    [
        *itertools.product(["float32"], NORMALIZATIONS, [False, True]),
        ("float16", "none", True),
        ("bfloat16", "none", False),
    ],
)
@pytest.mark.parametrize("kind", THEIRS)
def test_we_compute_the_same_from_saelens_folder(
    kind: str,
    dtype: str,
    normalization: str,
    apply_b_dec: bool,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    maker, config, settings = THEIRS[kind]
    theirs: Any = maker(
        config(
            d_in=D_IN,
            d_sae=D_SAE,
            dtype=dtype,
            normalize_activations=normalization,
            apply_b_dec_to_input=apply_b_dec,
            **settings,
        )
    )
    randomise(theirs, rng)
    theirs.save_model(tmp_path)
    # Its own weights, rounded to dtype, computed with in float32 as we do.
    theirs = read_by_saelens(tmp_path)
    x = tokens(rng)
    ours = suture.SAE.load(tmp_path)
    same(ours.encode(x).to_dense(), computed(theirs, x)[0])
    same(ours(x), computed(theirs, x)[1])
    assert ours.metadata["sae_lens_version"] == sae_lens.__version__


TRAINED = {
    "standard": (lens.StandardTrainingSAE, lens.StandardTrainingSAEConfig, {}, "relu"),
    "topk": (lens.TopKTrainingSAE, lens.TopKTrainingSAEConfig, {"k": K}, "topk"),
    "batchtopk": (
        lens.BatchTopKTrainingSAE,
        lens.BatchTopKTrainingSAEConfig,
        {"k": float(K)},
        "batchtopk",
    ),
    "batchtopk not rescaled": (
        lens.BatchTopKTrainingSAE,
        lens.BatchTopKTrainingSAEConfig,
        {"k": float(K), "rescale_acts_by_decoder_norm": False},
        "batchtopk",
    ),
    "jumprelu": (lens.JumpReLUTrainingSAE, lens.JumpReLUTrainingSAEConfig, {}, "jumprelu"),
    "gated": (lens.GatedTrainingSAE, lens.GatedTrainingSAEConfig, {}, "gated"),
}


@pytest.mark.parametrize("kind", TRAINED)
def test_training_checkpoints_compute_what_their_export_does(
    kind: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    maker, config, settings, architecture = TRAINED[kind]
    theirs: Any = maker(config(d_in=D_IN, d_sae=D_SAE, **settings))
    randomise(theirs, rng)
    theirs.save_model(tmp_path / "checkpoint")
    theirs.save_inference_model(tmp_path / "export")
    x = tokens(rng)
    dense, output = computed(read_by_saelens(tmp_path / "export"), x)
    ours = suture.SAE.load(tmp_path / "checkpoint")
    assert ours.architecture == architecture
    same(ours.encode(x).to_dense(), dense)
    same(ours(x), output)
    same(suture.SAE.load(tmp_path / "export")(x), output)


def test_configurations_from_before_version_6(rng: np.random.Generator, tmp_path: Path) -> None:
    arrays = {name: value.astype(np.float32) for name, value in weights("topk", rng).items()}
    save_file(arrays, tmp_path / "sae_weights.safetensors")
    config = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "device": "cpu",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 5},
        "hook_point": "blocks.2.hook_resid_pre",
        "model_name": "gpt2",
        "normalize_activations": False,
    }
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    x = tokens(rng)
    dense, output = computed(read_by_saelens(tmp_path), x)
    ours = suture.SAE.load(tmp_path)
    assert ours.k == 5
    assert ours.metadata["hook_name"] == "blocks.2.hook_resid_pre"
    same(ours.encode(x).to_dense(), dense)
    same(ours(x), output)


@pytest.mark.parametrize(
    ("architecture", "name", "shape"),
    [
        ("relu", "threshold", (D_SAE,)),
        ("relu", "W_skip", (D_IN, D_IN)),
        ("topk", "b_dec_out", (D_IN,)),
        ("jumprelu", "b_gate", (D_SAE,)),
        ("gated", "b_enc", (D_SAE,)),
    ],
)
def test_tensors_of_something_else_are_refused(
    architecture: str, name: str, shape: tuple[int, ...], rng: np.random.Generator, tmp_path: Path
) -> None:
    """They would change what it computes, and used to be dropped."""
    arrays = {
        key: value.astype(np.float32) if isinstance(value, np.ndarray) else value
        for key, value in weights(architecture, rng).items()
    }
    k = K if architecture == "topk" else None
    kind: Any = architecture
    suture.SAE(**arrays, architecture=kind, k=k).save(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    save_file(load_file(path) | {name: np.full(shape, 2.5, np.float32)}, path)
    with pytest.raises(suture.UnsupportedError, match=f"has the tensor {name}, expected W_enc"):
        suture.SAE.load(tmp_path)

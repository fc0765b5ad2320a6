# SPDX-License-Identifier: Apache-2.0
"""What each kernel path makes of real activations: the same codes, the same training.

Candidates come from another product on each (bfloat16 tiles, AVX-512, AVX2, plain C), which must
not be seen in the result: it is scored again in float32.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import suture
import suture.models
from suture.models.loading import load

PAIR = Path(__file__).resolve().parents[2] / "examples" / "models" / "pair"
PATHS = ("portable", "avx2", "avx512", "avx512bf16", "amx")

CHILD = """
import sys
import numpy as np
import suture
acts = np.load(sys.argv[1])
sae = suture.SAE.init(acts.shape[1], 2048, k=32, seed=3)
run = suture.train(sae, acts, tokens=len(acts), batch_size=2048, lr=1e-3, progress=False)
codes = sae.encode(acts[:4096], progress=False)
trained = run.sae.encode(acts[:4096], progress=False)
np.savez(
    sys.argv[2], kernels=suture.cpu_info().kernels, indices=codes.indices, values=codes.values,
    trained=trained.indices, loss=run.history[-1]["loss"], W_enc=run.sae.W_enc,
)
"""


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30,000 rows of the small model of the pair, before its third layer."""
    path = tmp_path_factory.mktemp("kernels") / "acts.npy"
    model, tokenizer = load(PAIR / "small")
    texts = suture.read_texts(PAIR / "text" / "heldout.jsonl.gz")
    found = suture.models.extract(
        model, tokenizer, texts, layers=[2], max_tokens=30_000, context=128, progress=False
    )
    np.save(path, found[2])
    return path


@pytest.fixture(scope="module")
def results(
    acts: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    folder = tmp_path_factory.mktemp("paths")
    for path in PATHS:
        subprocess.run(
            [sys.executable, "-c", CHILD, str(acts), str(folder / f"{path}.npz")],
            check=True,
            env=os.environ | {"SUTURE_KERNELS": path},
        )
        with np.load(folder / f"{path}.npz") as arrays:
            found[path] = dict(arrays)
    return found


def test_a_path_can_be_forced(results: dict[str, dict[str, np.ndarray]]) -> None:
    assert str(results["portable"]["kernels"]) == "portable"
    # A path that the CPU lacks gives the best it has.
    assert str(results["amx"]["kernels"]) == suture.cpu_info().kernels


def test_every_path_chooses_as_float32_does(
    acts: Path, results: dict[str, dict[str, np.ndarray]]
) -> None:
    rows = np.load(acts)[:4096]
    sae = suture.SAE.init(rows.shape[1], 2048, k=32, seed=3)
    pre = torch.from_numpy(rows) @ torch.from_numpy(np.array(sae.W_enc))
    values, indices = torch.topk(torch.relu(pre + torch.from_numpy(np.array(sae.b_enc))), 32)
    wanted = np.sort(indices.numpy(), axis=1)
    for path, found in results.items():
        same = (np.sort(found["indices"], axis=1) == wanted).all(axis=1)
        # Latents whose float32 scores differ by rounding only may change places.
        assert same.mean() >= 0.999, path
        largest = float(values.max())
        np.testing.assert_allclose(
            found["values"][same],
            values.numpy()[same],
            rtol=1e-5,
            atol=1e-6 * largest,
            err_msg=path,
        )


def test_every_path_trains_the_same(results: dict[str, dict[str, np.ndarray]]) -> None:
    reference = results["portable"]
    for path, found in results.items():
        # Exact scores have the same bits everywhere: so has training, unless a candidate is missed.
        assert abs(found["loss"] / reference["loss"] - 1) < 1e-3, path
        same = (np.sort(found["trained"], axis=1) == np.sort(reference["trained"], axis=1)).all(1)
        assert same.mean() >= 0.999, path
        np.testing.assert_array_equal(found["values"], reference["values"], err_msg=path)
        np.testing.assert_array_equal(found["W_enc"], reference["W_enc"], err_msg=path)

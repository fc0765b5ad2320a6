# SPDX-License-Identifier: Apache-2.0
"""How well probes tell classes apart on one model, on the other, and carried across: the
curves of arXiv 2506.06609, Fig. 3a and 9, over the number of features, and one by pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import suture
from suture.paper.tasks import Task

Floats = npt.NDArray[np.float32]
Codes = Any
"""A scipy CSR array or `SparseCodes`, one row a sample. A sample has many times the latents of a
token, and samples differ: CSR takes rows of one in a moment."""

#: The curves; the last three do not depend on the number of features.
CURVES = (
    "ground truth",
    "transferred, refitted",
    "transferred, as it is",
    "random features",
    "dense on B",
    "dense, transferred",
    "dense, carried by pairs",
)


@dataclass(frozen=True)
class Pooled:
    """Means over the tokens of each sample.

    Attributes:
        codes_a: activations of A's SAE on A.
        codes_moved: of the same SAE, transferred, on B.
        codes_b: of B's own SAE on B.
        dense_a, dense_b: the residual streams, (samples, d).
    """

    codes_a: Codes
    codes_moved: Codes
    codes_b: Codes
    dense_a: Floats
    dense_b: Floats


def pooled(
    model: Any,
    tokenizer: Any,
    layer: int,
    texts: Sequence[str],
    saes: Sequence[suture.SAE],
    *,
    context: int | None = None,
    chunk: int = 2048,
    progress: bool = True,
) -> tuple[Floats, list[Codes]]:
    """Residual stream and SAE activations of texts, each the mean over a text's tokens; special
    tokens are left out.

    Args:
        model: a transformers model.
        tokenizer: its tokenizer.
        layer: the residual stream before this block.
        texts: one a sample; what is beyond `context` tokens is dropped.
        saes: of this model and layer.
        context: most tokens of a sample; None: what the model takes, at most 512.
        chunk: texts at a time: their tokens' activations are in memory.
        progress: show a bar on standard error.

    Returns:
        (texts, d) float32, and for each SAE a CSR array (texts, d_sae).
    """
    from scipy.sparse import vstack

    from suture.models import extract
    from suture.models._progress import progress_bar

    dense: list[Floats] = []
    codes: list[list[Any]] = [[] for _ in saes]
    with progress_bar(len(texts), "samples", None if progress else False) as bar:
        for start in range(0, len(texts), chunk):
            part = list(texts[start : start + chunk])
            acts = extract(
                model,
                tokenizer,
                part,
                [layer],
                context=context,
                chunking="truncate",
                progress=False,
            )
            owner, rows = acts.text, acts[layer]
            dense.append(suture.pool(rows, owner, samples=len(part), progress=False))
            for sae, into in zip(saes, codes, strict=True):
                found = sae.encode(rows, progress=False)
                means = suture.pool(found, owner, samples=len(part), progress=False)
                into.append(means.to_scipy())
            bar.update(len(part))
    return np.concatenate(dense), [vstack(parts, format="csr") for parts in codes]


def curves(
    features: Pooled,
    task: Task,
    stitch: suture.Stitch,
    ks: Sequence[int],
    *,
    C: float = 1.0,
    draws: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy on the test samples: a list over `ks` for sparse curves, a number for dense ones.

    - "ground truth": features chosen and probe fitted on B's own SAE.
    - "transferred, refitted": features chosen on A, the probe fitted anew to them on B.
    - "transferred, as it is": features chosen and probe fitted on A, used on B ("no retrain").
    - "random features": as many latents of B's SAE that fire here, drawn; mean of `draws`.
    - "dense on B": a probe of B's residual stream.
    - "dense, transferred": a probe of A's, carried to B by the stitch.
    - "dense, carried by pairs": the same by `suture.carry` in place of the stitch, with the samples
      that are not tested as pairs; their labels are not used. Not of the paper.
    - "on A": that of the third on A itself, for comparison; "dense on A" likewise.

    Args:
        features: of all samples that the task's places refer to.
        task: see :mod:`suture.paper.tasks`.
        stitch: between the two streams.
        ks: numbers of features.
        C: of the logistic regression.
        draws: of random features.
        seed: of these.
    """
    y, truth = task.y_train, task.y_test
    largest = max(ks)
    rng = np.random.default_rng([seed, *task.name.encode()])

    def parts(codes: Codes) -> tuple[Codes, Codes]:
        return codes[task.train], codes[task.test]

    def sparse(train: Codes, test: Codes, chosen: Any = None) -> list[float]:
        probes = suture.Probe.fit_sparse(train, y, ks, features=chosen, C=C, progress=False)
        return [probes[k].accuracy(test, truth, progress=False) for k in ks]

    train_a, test_a = parts(features.codes_a)
    train_moved, test_moved = parts(features.codes_moved)
    train_b, test_b = parts(features.codes_b)
    chosen = suture.select_features(train_a, y, largest, progress=False)
    on_a = suture.Probe.fit_sparse(train_a, y, ks, features=chosen, C=C, progress=False)
    firing = np.unique(train_b.indices[train_b.indices >= 0])
    drawn = [
        sparse(train_b, test_b, rng.choice(firing, min(largest, len(firing)), replace=False))
        for _ in range(draws)
        if len(firing) >= largest
    ]
    dense_a, dense_b = (
        suture.Probe.fit(rows[task.train], y, C=C, standardize=True, progress=False)
        for rows in (features.dense_a, features.dense_b)
    )
    moved = stitch.transfer(dense_a)
    pairs = np.setdiff1d(np.arange(len(features.dense_a)), task.test)
    carried, _ = suture.carry(
        dense_a, features.dense_a[pairs], features.dense_b[pairs], progress=False
    )
    return {
        "ground truth": sparse(train_b, test_b),
        "transferred, refitted": sparse(train_moved, test_moved, chosen),
        "transferred, as it is": [on_a[k].accuracy(test_moved, truth, progress=False) for k in ks],
        "random features": np.mean(drawn, axis=0).tolist() if drawn else None,
        "dense on B": dense_b.accuracy(features.dense_b[task.test], truth, progress=False),
        "dense, transferred": moved.accuracy(features.dense_b[task.test], truth, progress=False),
        "dense, carried by pairs": carried.accuracy(
            features.dense_b[task.test], truth, progress=False
        ),
        "on A": [on_a[k].accuracy(test_a, truth, progress=False) for k in ks],
        "dense on A": dense_a.accuracy(features.dense_a[task.test], truth, progress=False),
    }

# SPDX-License-Identifier: Apache-2.0
"""What several experiments of section 5 measure of every feature, each a step that is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from suture.paper import moved

if TYPE_CHECKING:
    from suture.paper.ground import Ground, Name
    from suture.sae import SAE

#: Share of the singular values of an unembedding that make its effective null space.
NULL_SPACE = 0.02

SIDES: tuple[Name, Name] = ("a", "b")

Floats = npt.NDArray[np.float64]
Kind = Literal["trained", "random"]

Size = tuple[int, int]
"""Latents of a SAE, and how many of them are active at a token."""


def common_size(ground: Ground) -> Size:
    """Of the SAE that all experiments share."""
    return ground.settings.d_sae, ground.settings.k


def original(ground: Ground, kind: Kind, size: Size | None = None) -> tuple[SAE, dict[str, Any]]:
    """A TopK SAE on A, and what it depends on.

    Args:
        ground: the pair.
        kind: "trained", or "random" for one that was never trained.
        size: None is that of the SAE which all experiments share; one of another size is trained
            as that one.
    """
    import suture

    common = ground.settings
    if size is None or size == common_size(ground):
        name = "a" if kind == "trained" else "random_a"
        return ground.sae(name), dict(ground.key(name))
    d_sae, k = size

    def start(seed: int) -> SAE:
        return suture.SAE.init(ground.width("a"), d_sae, architecture="topk", k=k, seed=seed)

    if kind == "random":
        depends = ground.key("models") | {"random": [d_sae, k, common.seed + 1]}
        return start(common.seed + 1), depends

    def compute(folder: Path) -> dict[str, Any]:
        run = suture.train(
            start(common.seed),
            ground.rows("fit", "a"),
            tokens=common.sae_tokens,
            batch_size=common.batch_size,
            lr=common.lr,
            seed=common.seed,
            progress=ground.progress,
        )
        run.sae.save(folder / "sae")
        return {"held_out": dict(run.sae.evaluate(ground.rows("held_out", "a"), progress=False))}

    training = [common.sae_tokens, common.batch_size, common.lr]
    step = ground.steps.run(
        f"sae-{d_sae}-{k}",
        f"Training a sparse autoencoder of {d_sae:,} latents, {k} active",
        ground.key("fit", "held_out") | {"sae": [d_sae, k, common.seed], "training": training},
        compute,
    )
    return suture.SAE.load(step.folder / "sae"), {"sae": step.key}


def attribution(
    ground: Ground,
    kind: Kind = "trained",
    size: Size | None = None,
    method: moved.Method = "stitch",
) -> dict[str, Floats]:
    """Attribution correlation (eq. 10) of every feature of a SAE on A with its transfer to B, on
    the held-out tokens.

    Args:
        ground: the pair.
        kind, size: of the SAE, as for :func:`original`.
        method: what moves it; others than the stitch move the SAE that all experiments share.

    Returns:
        "correlation" (d_sae,), NaN where a side never varies; "activations" (d_sae,), the same of
        the activations alone; "active_a" and "active_b" (d_sae,), the tokens each is active on.

    Raises:
        suture.UnsupportedError: the models have different tokens.
    """
    ground.needs_one_tokenizer("attribution correlations")
    sae, depends = original(ground, kind, size)
    if method != "stitch":
        other, extra = moved.moved(ground, method)
        depends |= {"moved": extra}

    def compute(folder: Path) -> dict[str, Any]:
        from suture import analysis

        following = analysis.next_tokens(ground.activations("held_out", "a"))
        carried = ground.stitch().transfer(sae) if method == "stitch" else other
        heads = [ground.unembedding(side) for side in SIDES]
        codes_a, codes_b = (
            one.encode(ground.rows("held_out", side), progress=ground.progress)
            for one, side in zip((sae, carried), SIDES, strict=True)
        )
        found = analysis.AttributionCorrelation(sae, heads[0], carried, heads[1])
        found.update(codes_a, codes_b, following, progress=ground.progress)
        # With logit weights of 1, attributions are activations.
        ones, head = np.ones((sae.d_sae, 1)), np.ones((1, heads[0].shape[1]))
        alone = analysis.AttributionCorrelation(ones, head, ones, head)
        alone.update(codes_a, codes_b, following)
        np.savez(
            folder / "features.npz",
            correlation=found.correlation,
            activations=alone.correlation,
            active_a=found.active_a.astype(np.float64),
            active_b=found.active_b.astype(np.float64),
        )
        return {"tokens": found.tokens}

    name = f"attribution-{kind}"
    title = f"Correlating attributions of {kind} features"
    if size is not None and size != common_size(ground):
        name += f"-{size[0]}-{size[1]}"
        title += f" ({size[0]:,} latents, {size[1]} active)"
    if method != "stitch":
        name += f"-{method}"
        title += f", moved by {moved.METHODS[method]}"
    depends |= ground.key("models", "held_out", "stitch")
    return _arrays(ground.steps.run(name, title, depends, compute).folder)


def features(ground: Ground, which: str) -> dict[str, Floats]:
    """How often and how strongly each feature fires on the held-out tokens, and how much of its
    decoder row lies in the null space of its model's unembedding.

    Args:
        ground: the pair.
        which: "a" or "random_a", or "transferred" or "random_transferred", their transfers to B.

    Returns:
        "frequency", "mean", "maximum" and "null_space_fraction", (d_sae,) each; "singular_values"
        of the unembedding, (d,), ascending.
    """

    def compute(folder: Path) -> dict[str, Any]:
        from suture import analysis

        sae, side = _sae(ground, which)
        statistics = analysis.feature_statistics(
            sae, ground.rows("held_out", side), 0, progress=ground.progress
        )
        head = ground.unembedding(side)
        np.savez(
            folder / "features.npz",
            frequency=statistics.frequency,
            mean=statistics.mean,
            maximum=statistics.maximum.astype(np.float64),
            null_space_fraction=analysis.null_space_fraction(
                sae, head, NULL_SPACE, progress=ground.progress
            ),
            singular_values=np.sqrt(np.maximum(np.linalg.eigvalsh(_gram(head)), 0)),
        )
        return {"tokens": statistics.tokens}

    original = "random_a" if which.startswith("random") else "a"
    depends = ground.key("models", "held_out", "stitch", original)
    title = f"Measuring features ({which.replace('_', ' ')})"
    return _arrays(ground.steps.run(f"features-{which}", title, depends, compute).folder)


def _sae(ground: Ground, which: str) -> tuple[SAE, Name]:
    if which in ("a", "random_a"):
        return ground.sae(which), "a"
    if which == "transferred":
        return ground.sae(which), "b"
    return ground.stitch().transfer(ground.sae("random_a")), "b"


def _gram(head: npt.NDArray[np.float32]) -> Floats:
    """W_U W_Uᵀ in float64, a part of the vocabulary at a time."""
    width, vocabulary = head.shape
    total = np.zeros((width, width))
    for start in range(0, vocabulary, 4096):
        part = head[:, start : start + 4096].astype(np.float64)
        total += part @ part.T
    return total


def _arrays(folder: Path) -> dict[str, Floats]:
    with np.load(folder / "features.npz", allow_pickle=False) as stored:
        return dict(stored)


def ranks(values: Floats) -> Floats:
    """Ranks from 1, equal values sharing their mean rank.

    >>> ranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    result: Floats = (last - (count - 1) / 2)[place]
    return result


def rank_correlation(x: Floats, y: Floats) -> float:
    """Spearman's rank correlation; NaN where a side is constant or has fewer than two values.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0]))
    0.5
    """
    a, b = ranks(x), ranks(y)
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return round(float(np.corrcoef(a, b)[0, 1]), 12)

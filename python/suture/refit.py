# SPDX-License-Identifier: Apache-2.0
"""Decoders solved anew by least squares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ._arguments import instance, integer, real
from ._counted import counted_rows, warn_of_few, whole_rows
from ._inputs import Acts, Stream
from ._progress import Meter, Progress
from .norms import CountedRows
from .rows import as_rows
from .sae import SAE

__all__ = ["RefitReport", "refit_decoder"]


@dataclass(frozen=True)
class RefitReport:
    """What a decoder refit did.

    Attributes:
        tokens: tokens of the last solution.
        silent: latents that fired on none of them; it left their decoder rows as they were.
        explained_variance_before: of the SAE as it was, over the tokens of the first solution.
        explained_variance_after: of the new one, over those of the last. What it is worth,
            `SAE.evaluate` tells on others.
        solver: "cholesky" (d_sae up to 4096) or "conjugate_gradients".
        iterations, residual: of the last conjugate gradients; 0 for Cholesky.
        converged: whether their tolerance was reached.
        flops_executed: products and sums carried out in all: the dense encoder product (2 d_in
            d_sae a token), and what the active latents and the solver need.
        seconds: time it took.
        rows: which rows counted (`CountedRows`).
    """

    tokens: int
    silent: int
    explained_variance_before: float
    explained_variance_after: float
    solver: Literal["cholesky", "conjugate_gradients"]
    iterations: int
    residual: float
    converged: bool
    flops_executed: float
    seconds: float
    rows: CountedRows | None = None


def refit_decoder(
    sae: SAE,
    acts: Acts,
    *,
    tokens: int | None = None,
    rows: Any = None,
    tied_rounds: int = 0,
    ridge: float = 30.0,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
    progress: Progress = True,
) -> tuple[SAE, RefitReport]:
    """Solve `W_dec` and `b_dec` by ridge least squares for the codes that `sae` has now; the
    encoder stays. `Stitch.transfer(sae, refit=acts)` does both in one.

    After a transfer, decoder rows lie in the image of the stitch, a part of the new model's space
    only; the refit lets them leave it, for about the price of a few training steps. With
    `tied_rounds` the encoder follows, and more is explained than after hundreds of steps: the best
    start for training. Without, activations stay those of the features as they were.

    Args:
        sae: of any architecture, not normalising each token; decoder norms, a fixed scale and the
            subtraction of b_dec are folded in first. It stays as it is.
        acts: (N, d_in) activations of its model: arrays, paths, or a list of them.
        tokens: at most so many of them for each solution, taken evenly; None: all. 10 to 50 for
            each latent do.
        rows: which rows count, a `suture.Rows` or a mask (N,); by default rows of enormous norm do
            not.
        tied_rounds: so many times, for topk: decoder norms move into the encoder, each encoder
            column w becomes (w · d) d, where d is its decoder row, its bias such that the mean
            token gives 0, and the decoder is solved for the new codes. 0 to 1000; 4 to 8 do.
        ridge: pull towards the present rows, above 0, in tokens: the row of a latent that fires on
            n tokens goes about n / (n + ridge) of its way; those that never fire stay.
        tolerance, max_iterations: of conjugate gradients, for d_sae above 4096.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Raises:
        UnsupportedError: `sae` normalises each token; `tied_rounds` of another than topk.

    >>> import numpy as np, suture
    >>> x = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    >>> refitted, report = suture.refit_decoder(suture.SAE.init(8, 32, k=4), x)
    >>> report.explained_variance_after > report.explained_variance_before
    True
    >>> report.solver, report.tokens
    ('cholesky', 2000)
    """
    instance("sae", sae, SAE, "suture.SAE")
    pull = real("ridge", ridge, above=True, most=1e12)
    enough = real("tolerance", tolerance, above=True, most=1e12)
    iterations = integer("max_iterations", max_iterations, 1, 2**31 - 1)
    return _refit(sae, acts, tokens, "", rows, tied_rounds, pull, enough, iterations, progress)


def refit_after_transfer(
    sae: SAE,
    refit: Acts,
    refit_tokens: int | None,
    rows: Any,
    tied_rounds: int,
    progress: Progress,
) -> tuple[SAE, RefitReport]:
    """`refit_decoder` with its defaults and with the argument names of `Stitch.transfer`."""
    return _refit(sae, refit, refit_tokens, "refit_", rows, tied_rounds, 30.0, 1e-3, 200, progress)


def _refit(
    sae: SAE,
    acts: Acts,
    tokens: int | None,
    prefix: str,
    rows: Any,
    tied_rounds: int,
    ridge: float,
    tolerance: float,
    max_iterations: int,
    progress: Progress,
) -> tuple[SAE, RefitReport]:
    name = prefix.removesuffix("_") or "acts"
    most = 0 if tokens is None else integer(f"{prefix}tokens", tokens, 1, 2**62)
    rounds = integer("tied_rounds", tied_rounds, 0, 1000)
    stream = Stream(acts, name, (sae.d_in, "d_in"))
    shards, starts, counted = counted_rows(acts, stream, as_rows(rows))
    if not as_rows(rows).selects:
        warn_of_few("refit_decoder", stream, counted.norm_bound)
    sae._metadata.tell_core()
    size = sum(shard.rows for shard in shards)
    with Meter(progress, "refit", size) as meter, whole_rows(name, shards, starts):
        core, values = sae._core.refit_decoder(
            shards, ridge, tolerance, most, max_iterations, rounds, meter.part(0, size)
        )
    return SAE._wrap(core), RefitReport(**values, rows=counted)

# SPDX-License-Identifier: Apache-2.0
"""What is known of each latent of a carried SAE, and SAEs of those that one trusts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import whole_numbers
from ._counted import counted_rows, whole_rows
from ._inputs import Acts, Stream
from ._progress import Meter, Progress
from .rows import as_rows

if TYPE_CHECKING:
    from .sae import SAE

__all__ = ["LatentEvidence"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

COUNTS = ("source_latent", "firings", "active_a", "active_b", "active_both")
NUMBERS = ("r_squared", "correlation")
"""Columns as the core has them."""


@dataclass(frozen=True)
class LatentEvidence:
    """How far each latent of a carried SAE still is that latent of the SAE it comes from.

    It goes with the SAE as long as its encoder stays: into its folder, through `fold`,
    `refit_decoder` and `select`. Training on leaves it behind, since latents then change.

    Attributes:
        rows: pairs of rows that the carrying rests on.
        held_out_rows: pairs that it did not see, on which latents were compared.
        source_latent: (d_sae,) which latent of the source SAE each is: its label is there.
        firings: (d_sae,) how often that one fired, of `rows`.
        r_squared: (d_sae,) share of its variance that the rows of the target predict linearly, by
            generalised cross-validation; NaN where it does not vary.
        correlation: (d_sae,) Pearson's, of activations in source and target on the held-out pairs;
            NaN where either never varies.
        active_a, active_b, active_both: (d_sae,) held-out pairs on which it fires in the source, in
            the target, and in both.

    >>> import numpy as np, suture
    >>> x = np.random.default_rng(0).normal(size=(4000, 6))
    >>> carried, _ = suture.carry(suture.SAE.init(6, 24, k=3), x, x + 0.1 * x**2)
    >>> trusted = carried.evidence.correlation > 0.9
    >>> carried.select(trusted, x + 0.1 * x**2).evidence.source_latent.size == trusted.sum()
    np.True_
    """

    rows: int
    held_out_rows: int
    source_latent: Int64
    firings: Int64
    r_squared: Float64
    correlation: Float64
    active_a: Int64
    active_b: Int64
    active_both: Int64

    @property
    def f1(self) -> Float64:
        """(d_sae,) F1 of firing in the target, firing in the source taken as the truth; NaN where
        neither fires.

        >>> import numpy as np, suture
        >>> x = np.random.default_rng(0).normal(size=(4000, 6))
        >>> carried, _ = suture.carry(suture.SAE.init(6, 24, k=3), x, x)
        >>> carried.evidence.f1.shape
        (24,)
        """
        with np.errstate(invalid="ignore"):
            share: Float64 = 2.0 * self.active_both / (self.active_a + self.active_b)
        return share

    def __repr__(self) -> str:
        known = self.correlation[~np.isnan(self.correlation)]
        middle = f"{np.median(known):.2f}" if known.size else "none"
        return (
            f"LatentEvidence({self.correlation.size} latents, median correlation {middle} on "
            f"{self.held_out_rows} held-out rows)"
        )

    @classmethod
    def _of(cls, core: _core.SAE, d_sae: int) -> LatentEvidence | None:
        """What a SAE of the core's knows."""
        columns: dict[str, Any] = {name: np.empty(d_sae, np.int64) for name in COUNTS}
        columns |= {name: np.empty(d_sae, np.float64) for name in NUMBERS}
        found = core.evidence_into(d_sae, *columns.values())
        if found is None:
            return None
        for array in columns.values():
            array.setflags(write=False)
        rows, held_out_rows = found
        return cls(rows=rows, held_out_rows=held_out_rows, **columns)

    def _attach(self, core: _core.SAE) -> None:
        """Gives it to a copy of its SAE."""
        arrays = [np.array(getattr(self, name)) for name in COUNTS + NUMBERS]
        core.set_evidence(self.rows, self.held_out_rows, self.correlation.size, *arrays)


def selected(sae: SAE, latents: Any, acts: Acts | None, rows: Any, progress: Progress) -> _core.SAE:
    """`SAE.select`."""
    chosen = _numbers(latents, sae.d_sae)
    if sae.architecture != "topk" or chosen.size == sae.d_sae:
        if acts is not None:
            raise TypeError(
                f"acts is given, expected None: {chosen.size} of the {sae.d_sae} latents of a "
                f"{sae.architecture} SAE need no other thresholds"
            )
        return sae._core.select(chosen, [], None)
    if acts is None:
        raise TypeError(
            "acts is None, expected activations of the SAE's model: latents of a topk SAE are "
            "chosen against one another, and without those left out each needs a threshold of its "
            "own"
        )
    stream = Stream(acts, "acts", (sae.d_in, "d_in"))
    shards, starts, _ = counted_rows(acts, stream, as_rows(rows))
    size = sum(shard.rows for shard in shards)
    with Meter(progress, "select", size) as meter, whole_rows("acts", shards, starts):
        return sae._core.select(chosen, shards, meter.part(0, size))


def _numbers(latents: Any, d_sae: int) -> Int64:
    """Numbers of latents, from numbers or a mask."""
    mask = np.asarray(latents.detach().cpu() if hasattr(latents, "detach") else latents)
    if mask.dtype == np.bool_:
        if mask.shape != (d_sae,):
            raise ValueError(f"latents has shape {mask.shape}, expected a mask ({d_sae},)")
        if not mask.any():
            raise ValueError("latents selects none, expected at least one")
        return np.flatnonzero(mask).astype(np.int64)
    chosen = whole_numbers("latents", latents)
    if not chosen.size:
        raise ValueError("latents is empty, expected at least one")
    if chosen.size > d_sae:
        raise ValueError(f"latents has {chosen.size} elements, expected at most d_sae = {d_sae}")
    return chosen

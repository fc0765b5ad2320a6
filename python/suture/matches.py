# SPDX-License-Identifier: Apache-2.0
"""How alike two SAEs are at best: for each latent of one the most alike latent of the other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer, named
from ._coded import coded_pairs
from ._inputs import Acts, Stream
from ._pairs import Pairs, paired_blocks
from ._progress import Meter, Progress
from .correspondence import Float64, Quartiles, UInt64
from .moments import check_tokens
from .sae import SAE

__all__ = ["BestMatches", "BestMatchesSummary", "best_matches"]


@dataclass(frozen=True)
class BestMatchesSummary:
    """All latents in a few numbers.

    Attributes:
        rows: pairs of rows; every other block of 64 chose, the rest judged.
        judged: latents that fire at least `min_count` times in A.
        rare: latents that fire in A, but more rarely: too rare to judge.
        unmatched: judged latents with which none of B correlates above 0; they count as 0.
        mutual: judged latents that are their match's match.
        correlation: over judged latents, Pearson's correlation of activations with the match's, on
            the rows that judge.
        chosen: the same on the rows that chose, which flatters.
        control: correlations with the match's activations on other rows.
        share_active: share of A's active latents, over the rows that judge, whose match is active
            too; of all latents.

    >>> import numpy as np, suture
    >>> sae, x = suture.SAE.init(4, 16, k=3), np.random.default_rng(0).normal(size=(512, 4))
    >>> print(suture.best_matches(sae, x, sae, x).summary())
    correlation 1.00 (1.00, 1.00), 100 % mutual, 100 % of active latents shared; ...
    """

    rows: int
    judged: int
    rare: int
    unmatched: int
    mutual: int
    correlation: Quartiles
    chosen: Quartiles
    control: Quartiles
    share_active: float

    def __str__(self) -> str:
        mutual = self.mutual / self.judged if self.judged else np.nan
        return (
            f"correlation {self.correlation}, {mutual:.0%} mutual, {self.share_active:.0%} of "
            f"active latents shared; {self.judged} latents judged on half of {self.rows} rows "
            f"({self.unmatched} without a match, {self.rare} too rare); on the half that chose "
            f"{self.chosen}, with other rows {self.control}"
        ).replace("%", " %")


@dataclass(frozen=True, eq=False)
class BestMatches:
    """For each latent of one SAE the latent of another that is most like it.

    Attributes:
        match: (d_sae_a,) for each latent of A that of B; -1 where none correlates above 0.
        correlation: (d_sae_a,) Pearson's on the rows that judge; NaN where there is no match, or a
            side does not vary there.
        chosen: (d_sae_a,) the same on the rows that chose: flattering.
        control: (d_sae_a,) on the rows that judge, with the match's activations on other rows.
        active: (d_sae_a,) rows on which each latent of A fires.
        match_b: (d_sae_b,) for each latent of B that of A; -1 where none correlates above 0.
        min_count: latents that fire so often in A are judged in the summary.

    >>> import numpy as np, suture
    >>> sae, x = suture.SAE.init(4, 16, k=3), np.random.default_rng(0).normal(size=(512, 4))
    >>> suture.best_matches(sae, x, sae, x).match[:4]
    array([0, 1, 2, 3])
    """

    match: npt.NDArray[np.int64]
    correlation: Float64
    chosen: Float64
    control: Float64
    active: UInt64
    match_b: npt.NDArray[np.int64]
    min_count: int
    _summary: BestMatchesSummary = field(repr=False)

    @property
    def mutual(self) -> npt.NDArray[np.bool_]:
        """(d_sae_a,) whether each latent of A is its match's match."""
        found: npt.NDArray[np.bool_] = self.match >= 0
        found[found] = self.match_b[self.match[found]] == np.flatnonzero(found)
        return found

    def summary(self) -> BestMatchesSummary:
        """All latents in a few numbers."""
        return self._summary

    def __str__(self) -> str:
        return str(self._summary)

    def __repr__(self) -> str:
        return (
            f"BestMatches({self._summary.rows} rows, d_sae_a={len(self.match)}, "
            f"d_sae_b={len(self.match_b)})"
        )


def best_matches(
    sae_a: SAE,
    acts_a: Acts,
    sae_b: SAE,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    min_count: int = 10,
    progress: Progress = True,
) -> BestMatches:
    """For each latent of `sae_a` the latent of `sae_b` whose activations correlate most with its.

    What `suture.fidelity` finds of a carried SAE needs a scale: how alike are latents of two SAEs
    that were trained on the same rows, or on each model, if each may choose its partner? The SAEs
    may be of different widths and architectures, and of one model or of two.

    The largest of thousands of correlations flatters. So blocks of 64 rows take turns: one half of
    the rows chooses the matches, the other judges them.

    Memory: codes of all rows are kept, 8 bytes a slot of both sides, and 16 bytes more for each
    time that a latent of A fires; with k = 32 on both sides 1 kB a row, so that 100,000 held-out
    rows take 100 MB, for any number of latents. There is no table of all pairs of latents. The same
    rows give the same bits for any number of threads.

    Args:
        sae_a: a SAE on A.
        acts_a: (N, d_a) activations of A, best held-out ones; at least 128 rows.
        sae_b: a SAE on B, of any width.
        acts_b: (N, d_b) activations of B on the same tokens.
        pairs: (rows_a, rows_b) as from `suture.align`: which rows belong together; None: row i of
            both.
        min_count: latents that fire so often in A, on all rows, are judged; one without a match
            counts as 0.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Returns:
        BestMatches: matches, correlations and counts of each latent, and their `summary()`.

    Raises:
        ValueError: rows are not paired or too few, or a value is not finite; the message names it.

    >>> import numpy as np, suture
    >>> acts = np.random.default_rng(0).normal(size=(2000, 8))
    >>> one, two = (suture.SAE.init(8, width, k=3, seed=1) for width in (32, 64))
    >>> found = suture.best_matches(one, acts, two, acts)
    >>> found.summary().correlation.median < 0.9
    True
    >>> order = np.random.default_rng(1).permutation(32)
    >>> other = suture.SAE(
    ...     W_enc=one.W_enc[:, order], b_enc=one.b_enc[order], W_dec=one.W_dec[order],
    ...     b_dec=one.b_dec, k=3,
    ... )
    >>> bool((suture.best_matches(other, acts, one, acts).match == order).all())
    True
    """
    instance("sae_a", sae_a, SAE, "suture.SAE")
    instance("sae_b", sae_b, SAE, "suture.SAE")
    least = integer("min_count", min_count, 1, 2**62)
    a = Stream(acts_a, "acts_a", (sae_a.d_in, "d_in"))
    b = Stream(acts_b, "acts_b", (sae_b.d_in, "d_in"))
    check_tokens(acts_a, acts_b, pairs)
    core = _core.matches_create(sae_a.d_sae, sae_b.d_sae)
    d_a, d_b = sae_a.d_sae, sae_b.d_sae
    match, match_b = np.empty(d_a, np.int64), np.empty(d_b, np.int64)
    correlation, chosen, control = (np.empty(d_a) for _ in range(3))
    active = np.empty(d_a, np.uint64)
    rows = 0
    total, blocks = paired_blocks(a, b, pairs)
    with Meter(progress, "best matches", total) as meter:
        for part in coded_pairs((sae_a, sae_b), ("acts_a", "acts_b"), blocks, meter):
            core.update(part.codes_a, part.codes_b)
            rows += len(part.rows_a)
        with named(matches="acts_a"):
            found = core.find(
                d_a, d_b, least, match, correlation, chosen, control, active, match_b,
                meter.part(rows, 0),
            )  # fmt: skip
    quartiles = {name: Quartiles(*found[name]) for name in ("correlation", "chosen", "control")}
    summary = BestMatchesSummary(**found | quartiles)
    return BestMatches(match, correlation, chosen, control, active, match_b, least, summary)

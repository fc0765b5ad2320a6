# SPDX-License-Identifier: Apache-2.0
"""Whether a feature that was carried to another model still is the same feature there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer
from ._coded import coded_pairs
from ._inputs import Acts, Stream
from ._pairs import Pairs, paired_blocks
from ._progress import Meter, Progress
from .codes import SparseCodes
from .moments import check_tokens
from .sae import SAE

__all__ = ["Fidelity", "FidelitySummary", "Quartiles", "fidelity"]

Float64 = npt.NDArray[np.float64]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Quartiles:
    """Quartiles of a number over latents; NaN where there are none.

    >>> Quartiles(0.2, 0.5, 0.7)
    Quartiles(lower=0.2, median=0.5, upper=0.7)
    """

    lower: float
    median: float
    upper: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower:.2f}, {self.upper:.2f})"


@dataclass(frozen=True)
class FidelitySummary:
    """All latents in a few numbers.

    Attributes:
        rows: pairs of rows.
        judged: latents that fire at least `min_count` times in A.
        rare: latents that fire in A, but more rarely: too rare to judge.
        silent: judged latents that never fire in B; their correlation and F1 count as 0, so that
            dropping latents never helps.
        correlation: over judged latents, Pearson's correlation of activations, row by row.
        f1: F1 of firing in B, firing in A taken as the truth.
        control: correlations with the activations on other rows.
        share_active: share of A's active latents, over rows, that are active in B too; of all
            latents.

    >>> import numpy as np, suture
    >>> sae, x = suture.SAE.init(4, 16, k=3), np.random.default_rng(0).normal(size=(500, 4))
    >>> print(suture.fidelity(sae, x, sae, x).summary())
    correlation 1.00 (1.00, 1.00), F1 1.00 (1.00, 1.00), 100 % of active latents shared; ...
    """

    rows: int
    judged: int
    rare: int
    silent: int
    correlation: Quartiles
    f1: Quartiles
    control: Quartiles
    share_active: float

    def __str__(self) -> str:
        return (
            f"correlation {self.correlation}, F1 {self.f1}, {self.share_active:.0%} of active "
            f"latents shared; {self.judged} latents judged on {self.rows} rows "
            f"({self.silent} silent in B, {self.rare} too rare); with other rows {self.control}"
        ).replace("%", " %")


class Fidelity:
    """How the latents of one SAE agree with those of another, latent i with latent i: update with
    as many codes of paired rows as there are, look at any time.

    Explained variance says how well a carried SAE reconstructs; this says whether latent 1,234
    still fires where latent 1,234 of the original fires, which is what its label, its probe and
    its circuit need. Memory: 240 bytes a latent.

    Args:
        d_sae: latents of either SAE.

    >>> import numpy as np, suture
    >>> sae = suture.SAE.init(4, 16, k=3)
    >>> codes = sae.encode(np.random.default_rng(0).normal(size=(50, 4)))
    >>> suture.Fidelity(16).update(codes, codes).f1.max()
    np.float64(1.0)
    """

    def __init__(self, d_sae: int) -> None:
        self.d_sae: int = integer("d_sae", d_sae, 1, 2**31 - 1)
        """Number of latents."""
        self._core = _core.fidelity_create(self.d_sae)
        self.rows: int = 0
        """Pairs of rows so far."""

    @classmethod
    def _of(cls, core: _core.Fidelity, d_sae: int, rows: int) -> Fidelity:
        """What the core has made."""
        self = cls.__new__(cls)
        self.d_sae, self._core, self.rows = d_sae, core, rows
        return self

    def update(
        self, codes_a: SparseCodes, codes_b: SparseCodes, *, progress: Progress = False
    ) -> Self:
        """Add paired rows; returns this object. If it raises, nothing has been added.

        As a control, each row of A also goes with another row of B, half of the rows further on.

        Args:
            codes_a, codes_b: codes of N rows of A and of the N rows of B that belong to them.

        >>> import numpy as np, suture
        >>> codes = suture.SAE.init(4, 16, k=3).encode(np.ones((2, 4)))
        >>> suture.Fidelity(16).update(codes, codes).rows
        2
        """
        for name, codes in (("codes_a", codes_a), ("codes_b", codes_b)):
            instance(name, codes, SparseCodes, "suture.SparseCodes")
        with Meter(progress, "fidelity", len(codes_a)) as meter:
            self._core.update(codes_a._core, codes_b._core, meter.part(0, len(codes_a)))
        self.rows += len(codes_a)
        return self

    def merge(self, other: Fidelity) -> Self:
        """Add the rows that `other` has seen; returns this object.

        >>> import numpy as np, suture
        >>> codes = suture.SAE.init(4, 16, k=3).encode(np.ones((2, 4)))
        >>> one = suture.Fidelity(16).update(codes, codes)
        >>> one.merge(suture.Fidelity(16).update(codes, codes)).rows
        4
        """
        instance("other", other, Fidelity, "suture.Fidelity")
        rows = other.rows
        self._core.merge(other._core)
        self.rows += rows
        return self

    def _read(self, index: int, dtype: type[Any]) -> Any:
        out = np.empty(self.d_sae, dtype)
        targets: list[Any] = [None] * 6
        targets[index] = out
        self._core.read_into(self.d_sae, *targets)
        return out

    @property
    def correlation(self) -> Float64:
        """(d_sae,) Pearson's correlation of activations; NaN where a side never varies."""
        found: Float64 = self._read(0, np.float64)
        return found

    @property
    def standard_error(self) -> Float64:
        """(d_sae,) of the correlation, by the delta method, rows taken as independent."""
        found: Float64 = self._read(1, np.float64)
        return found

    @property
    def control(self) -> Float64:
        """(d_sae,) correlations with the activations on other rows."""
        found: Float64 = self._read(2, np.float64)
        return found

    @property
    def active_a(self) -> UInt64:
        """(d_sae,) rows on which each latent fires in A."""
        found: UInt64 = self._read(3, np.uint64)
        return found

    @property
    def active_b(self) -> UInt64:
        """(d_sae,) the same in B."""
        found: UInt64 = self._read(4, np.uint64)
        return found

    @property
    def active_both(self) -> UInt64:
        """(d_sae,) rows on which each latent fires in both."""
        found: UInt64 = self._read(5, np.uint64)
        return found

    @property
    def f1(self) -> Float64:
        """(d_sae,) F1 of firing: 2 both / (A + B); NaN for latents that fire on neither side."""
        total = (self.active_a + self.active_b).astype(np.float64)
        with np.errstate(invalid="ignore"):
            f1: Float64 = 2 * self.active_both / total
        return f1

    def summary(self, min_count: int = 10) -> FidelitySummary:
        """All latents in a few numbers; one rule for all tables.

        Args:
            min_count: latents that fire so often in A are judged.

        >>> import numpy as np, suture
        >>> sae, x = suture.SAE.init(4, 16, k=3), np.random.default_rng(0).normal(size=(500, 4))
        >>> suture.fidelity(sae, x, sae, x).summary().correlation.median
        1.0
        """
        found = self._core.summarize(integer("min_count", min_count, 1, 2**62))
        quartiles = {name: Quartiles(*found[name]) for name in ("correlation", "f1", "control")}
        return FidelitySummary(**found | quartiles)

    def __repr__(self) -> str:
        return f"Fidelity({self.rows} rows, d_sae={self.d_sae})"


def fidelity(
    sae_a: SAE,
    acts_a: Acts,
    sae_b: SAE,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    progress: Progress = True,
) -> Fidelity:
    """Whether latent i of `sae_b` is latent i of `sae_a`: how they agree on paired rows.

    Args:
        sae_a: a SAE on A.
        acts_a: (N, d_a) activations of A, best held-out ones.
        sae_b: what was carried of it to B, with as many latents.
        acts_b: (N, d_b) activations of B on the same tokens.
        pairs: (rows_a, rows_b) as from `suture.align`: which rows belong together; None: row i of
            both.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Returns:
        Fidelity: correlations, F1 and counts of each latent, and their `summary()`.

    Raises:
        ValueError: the SAEs have not as many latents, rows are not paired, or a value is not
            finite; the message names it.

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> acts_a = rng.normal(size=(2000, 4))
    >>> acts_b = acts_a @ rng.normal(size=(4, 6)) + 0.01 * rng.normal(size=(2000, 6))
    >>> stitch = suture.Stitch.fit(acts_a, acts_b, alpha=0)
    >>> sae = suture.SAE.init(4, 16, k=3)
    >>> found = suture.fidelity(sae, acts_a, stitch.transfer(sae), acts_b)
    >>> found.summary().correlation.median > 0.9
    True
    """
    instance("sae_a", sae_a, SAE, "suture.SAE")
    instance("sae_b", sae_b, SAE, "suture.SAE")
    if sae_a.d_sae != sae_b.d_sae:
        raise ValueError(
            f"sae_b has d_sae = {sae_b.d_sae}, expected {sae_a.d_sae} as sae_a: latent i of one is "
            "compared with latent i of the other"
        )
    a = Stream(acts_a, "acts_a", (sae_a.d_in, "d_in"))
    b = Stream(acts_b, "acts_b", (sae_b.d_in, "d_in"))
    check_tokens(acts_a, acts_b, pairs)
    result = Fidelity(sae_a.d_sae)
    total, blocks = paired_blocks(a, b, pairs)
    with Meter(progress, "fidelity", total) as meter:
        for part in coded_pairs((sae_a, sae_b), ("acts_a", "acts_b"), blocks, meter):
            result._core.update(part.codes_a, part.codes_b, part.report)
            result.rows += len(part.rows_a)
    return result

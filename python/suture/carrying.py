# SPDX-License-Identifier: Apache-2.0
"""Carrying a SAE, a probe or a vector to another model by paired rows, so that it stays itself."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer, named, real
from ._carry_linear import ProbeCarryReport, carry_probe, carry_vector
from ._coded import paired_parts
from ._counting import common_pairs
from ._inputs import Acts, Stream
from ._pairs import Pairs, paired_blocks
from ._progress import Meter, Progress
from ._sae_settings import flag
from .correspondence import Fidelity
from .moments import check_tokens
from .probe import Probe
from .refit import RefitReport, refit_decoder
from .reports import FitReport, SutureWarning
from .rows import Rows, as_rows
from .sae import SAE
from .site import Site, named_site
from .steering import SteeringVector

__all__ = ["CarryReport", "ProbeCarryReport", "carry"]


@dataclass(frozen=True)
class CarryReport:
    """What carrying by pairs found.

    Attributes:
        rows: pairs of rows that the regression rests on.
        held_out_rows: pairs that it did not see, one block of 64 in 16.
        silent: latents that never fired in A, and so never fire in B.
        unpredicted: other latents that B's rows predict no better than chance does; they never
            fire in B either.
        ridge: of the regression, relative to the mean variance of B's coordinates.
        firings: (d_sae,) how often each latent fired in A, of `rows`.
        r_squared: (d_sae,) share of each latent's variance in A that B's rows predict linearly, by
            generalised cross-validation; NaN for a latent that does not vary.
        fidelity: how latents of A and B agree on the pairs held out (`suture.Fidelity`).
        refit: what was done to the decoder, None if it is that of A's codes.
        seconds: time it took, the decoder included.
    """

    rows: int
    held_out_rows: int
    silent: int
    unpredicted: int
    ridge: float
    firings: npt.NDArray[np.uint64]
    r_squared: npt.NDArray[np.float64]
    fidelity: Fidelity
    refit: RefitReport | None
    seconds: float

    def __str__(self) -> str:
        left = f"; {self.silent} latents silent, {self.unpredicted} unpredicted"
        return f"{self.rows} pairs, ridge {self.ridge:.2g}{left}; {self.fidelity.summary()}"


@overload
def carry(
    sae: SAE,
    acts_a: Acts,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    rows: Any = None,
    site: Site | str | None = None,
    rounds: int = 2,
    ridge: float | None = None,
    sample: int = 65_536,
    refit: bool = True,
    progress: Progress = True,
) -> tuple[SAE, CarryReport]: ...
@overload
def carry(
    sae: Probe,
    acts_a: Acts,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    rows: Any = None,
    site: Site | str | None = None,
    ridge: float | None = None,
    progress: Progress = True,
) -> tuple[Probe, ProbeCarryReport]: ...
@overload
def carry(
    sae: SteeringVector,
    acts_a: Acts,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    rows: Any = None,
    site: Site | str | None = None,
    ridge: float | None = None,
    progress: Progress = True,
) -> tuple[SteeringVector, FitReport]: ...
def carry(
    sae: SAE | Probe | SteeringVector,
    acts_a: Acts,
    acts_b: Acts,
    *,
    pairs: Pairs = None,
    rows: Any = None,
    site: Site | str | None = None,
    rounds: int = 2,
    ridge: float | None = None,
    sample: int = 65_536,
    refit: bool = True,
    progress: Progress = True,
) -> tuple[SAE | Probe | SteeringVector, CarryReport | ProbeCarryReport | FitReport]:
    """Carry a SAE, a probe or a steering vector to another model by pairs of rows, such that its
    latents, classes or direction stay what they are.

    A stitch composes (`Stitch.transfer`, arXiv 2506.06609, eq. 6), and what it loses of a row all
    latents lose. Here the codes of A are regressed on the rows of B, latent by latent, and each
    predictor gets a gain and a threshold such that it fires as often as in A. No stitch is needed;
    any two models whose rows can be paired will do, or two layers of one.

    Of a probe, its logits on A's rows are regressed on B's, from moments alone, with the mean of
    the logits as it is. This is what `Stitch.transfer` (eq. 7) makes of it by the stitch of
    `Stitch.fit(method="ridge")` on the same pairs, but for the ridge, which is chosen for the
    logits. The joint stitch is another map, and its probe another probe. No labels are needed. A
    regression is no more certain than B's rows allow: logits are nearer to their mean than in A.

    A steering vector is a difference of rows, and goes through the ridge regression of B's rows on
    A's: it is what `Stitch.transfer` makes of it by that stitch, `z_mean` from the mapped mean.

    Args:
        sae: a SAE of the model of `acts_a`, of any architecture and normalisation, or a
            `suture.Probe` or `suture.SteeringVector` of it. A normalisation of each token stays
            behind: the result has none.
        acts_a: (N, d_in) rows of its model.
        acts_b: (N, d_b) rows of the other model on the same text.
        pairs: (rows_a, rows_b) as from `suture.align`: which rows belong together; None: row i of
            both.
        rows: which rows count, a `suture.Rows` or a mask (N,), with `pairs` (P,); by default pairs
            with a row of enormous norm do not.
        site: where `acts_b` come from, a `suture.Site` or the name of a stream, for the metadata.
        rounds: of a SAE: so many times, 0 to 100, the regression is repeated on what B's codes
            still lack of A's: correlations rise by a tenth; more than two or three fit the sample.
        ridge: of the regression, above 0, relative to the mean variance of B's coordinates; None:
            by generalised cross-validation.
        sample: of a SAE: so many pairs, taken evenly, are kept for calibration and rounds; 4 d_b
            bytes each.
        refit: of a SAE: whether the decoder is fitted to the codes that it has in B, on `acts_b`
            (`suture.refit_decoder`); otherwise it is the regression of B's rows on A's codes.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Returns:
        (SAE, CarryReport): the SAE for B and what is known of each latent; (Probe,
        ProbeCarryReport); or (SteeringVector, FitReport), of the regression. `sae` stays as it is.

    Raises:
        ValueError: rows are not paired, have another width, or are not finite.
        NumericalError: the rows of B do not vary, or the logits.

    Warns:
        SutureWarning: there are fewer pairs than B has coordinates.

    >>> import numpy as np, suture
    >>> rng = np.random.default_rng(0)
    >>> acts_a = rng.normal(size=(4000, 6))
    >>> acts_b = acts_a @ rng.normal(size=(6, 8)) + 0.01 * rng.normal(size=(4000, 8))
    >>> sae = suture.SAE.init(6, 24, k=3)
    >>> carried, report = suture.carry(sae, acts_a, acts_b)
    >>> carried
    SAE(topk, d_in=8, d_sae=24, k=3)
    >>> report.fidelity.summary().correlation.median > 0.8
    True
    >>> probe = suture.Probe.fit(acts_a, acts_a[:, 0] > 0)
    >>> carried, report = suture.carry(probe, acts_a, acts_b)
    >>> carried, bool(report.agreement > 0.95)
    (Probe(d_in=8, classes=[False, True]), True)
    """
    instance(
        "sae",
        sae,
        (SAE, Probe, SteeringVector),
        "suture.SAE, suture.Probe or suture.SteeringVector",
    )
    if not isinstance(sae, SAE):
        kind = "a probe" if isinstance(sae, Probe) else "a steering vector"
        for name, value, none in (("rounds", rounds, 2), ("sample", sample, 65_536)):
            if value != none:
                raise TypeError(f"{name} is {value!r} with {kind}, expected none: it is for SAEs")
        if refit is not True:
            raise TypeError(f"refit is {refit!r} with {kind}, expected none: it is for SAEs")
        strength = 0.0 if ridge is None else real("ridge", ridge, above=True, most=1e12)
        place = named_site("site", site)
        if isinstance(sae, SteeringVector):
            return carry_vector(sae, acts_a, acts_b, pairs, rows, place, ridge, progress)
        return carry_probe(sae, acts_a, acts_b, pairs, as_rows(rows), place, strength, progress)
    most = integer("rounds", rounds, 0, 100)
    kept = integer("sample", sample, 1, 2**30)
    strength = 0.0 if ridge is None else real("ridge", ridge, above=True, most=1e12)
    flag("refit", refit)
    place = named_site("site", site)
    chosen = as_rows(rows)
    a = Stream(acts_a, "acts_a", (sae.d_in, "d_in"))
    b = Stream(acts_b, "acts_b")
    check_tokens(acts_a, acts_b, pairs)
    if a.total is None or b.total is None:
        name = a.name if a.total is None else b.name
        if refit or chosen.selects or chosen.asked_bound is not None:
            raise TypeError(
                f"{name} is an iterator, which can be read only once, expected arrays, paths or a "
                "list of them, or refit=False and no rows"
            )
    else:
        pairs = common_pairs([("acts_a", acts_a)], [("acts_b", acts_b)], chosen, pairs)
    sae._metadata.tell_core()
    core = _core.carry_create(sae._core, b.cols, strength, kept, most, refit)
    total, blocks = paired_blocks(a, b, pairs)
    count = 0
    with Meter(progress, "carry", total) as meter:
        for part in paired_parts(blocks, meter):
            with named(a=("acts_a", part.rows_a), b=("acts_b", part.rows_b)):
                core.update(part.part_a, part.part_b, part.report)
            count += part.part_a.rows
    if count < b.cols:
        warnings.warn(
            f"carry: {count} pairs of rows for the {b.cols} coordinates of acts_b, expected more "
            "rows than coordinates, at best a hundred times as many",
            SutureWarning,
            stacklevel=2,
        )
    firings = np.empty(sae.d_sae, np.uint64)
    r_squared = np.empty(sae.d_sae, np.float64)
    with Meter(progress, "calibrate", 10, unit="step") as meter:
        made, compared, found = core.finish(
            sae.d_sae,
            None if place is None else place._fields,
            firings,
            r_squared,
            meter.part(0, 10),
        )
    carried = SAE._wrap(made)
    report: RefitReport | None = None
    if refit:
        carried, report = refit_decoder(carried, acts_b, rows=_alone(chosen), progress=progress)
        # Held-out pairs were judged by the encoder, which is the same.
    seconds = found.pop("seconds") + (0.0 if report is None else report.seconds)
    fidelity = Fidelity._of(compared, sae.d_sae, found["held_out_rows"])
    return carried, CarryReport(
        **found, firings=firings, r_squared=r_squared, fidelity=fidelity, refit=report,
        seconds=seconds,
    )  # fmt: skip


def _alone(rows: Rows) -> Rows:
    """What of a choice of pairs is one of B's rows too: a mask of pairs is not."""
    return Rows(norm_bound=rows.norm_bound)

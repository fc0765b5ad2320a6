# SPDX-License-Identifier: Apache-2.0
"""Stitches: affine maps between the residual streams of two models, in both directions."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, Self, overload

from . import _core
from ._arguments import instance, integer, named, real, word
from ._inputs import Acts
from ._maps import AffineMaps
from ._metadata import to_json
from ._pairs import Pairs
from ._progress import Meter, Progress
from .moments import Moments, moments_of, warn_of_few_rows
from .probe import Probe
from .refit import refit_after_transfer
from .reports import Objective, SutureWarning, fit_report
from .rows import as_rows
from .sae import SAE
from .site import Site, named_site, site_of_activations
from .steering import SteeringVector, transferred

__all__ = ["Stitch"]


class Stitch(AffineMaps):
    """An affine map between the residual streams of models A and B, in both directions:
    `up(h_A) = h_A P_up + b_up`, `down(h_B) = h_B P_down + b_down` (arXiv 2506.06609, eq. 1).

    `Stitch.fit` makes one from activations, `Stitch.load` from a file, this constructor from
    arrays.

    Args:
        P_up: (d_a, d_b)
        b_up: (d_b,)
        P_down: (d_b, d_a)
        b_down: (d_a,)
        metadata: what is known about it: model_a, layer_a, model_b, layer_b, tokens, alpha, …

    Attributes:
        report: what the fit did (`FitReport`), or None if it was not fitted here.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> stitch = suture.Stitch(np.eye(2, 3), np.zeros(3), np.eye(3, 2), np.ones(2))
    >>> stitch
    Stitch(d_a=2, d_b=3)
    >>> stitch.up(np.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0, 0.0]]
    """

    @classmethod
    def fit(
        cls,
        acts_a: Acts | Moments = None,
        acts_b: Acts = None,
        *,
        moments: Moments | None = None,
        pairs: Pairs = None,
        rows: Any = None,
        alpha: float = 1.0,
        objective: Literal["scaled", "raw"] = "scaled",
        method: Literal["joint", "ridge", "procrustes"] = "joint",
        ridge: float | None = None,
        tolerance: float = 1e-4,
        max_iterations: int = 1000,
        metadata: dict[str, Any] | None = None,
        progress: Progress = True,
    ) -> Self:
        """Minimise the joint objective (arXiv 2506.06609, eq. 2-3) over both directions, exactly.

        Args:
            acts_a: (N, d_a) activations of A, or `Moments` of both models.
            acts_b: (N, d_b) activations of B on the same tokens, row by row.
            moments: `Moments`, in place of activations.
            pairs: (rows_a, rows_b): row rows_a[i] of A goes with row rows_b[i] of B, as from
                `suture.align`. None: row i of both.
            rows: which rows count: a `suture.Rows`, or a mask (N,), with `pairs` (P,). By default
                rows of enormous norm do not count; `report.rows` has how many.
            alpha: weight of the two inversion terms, at least 0.
            objective: how the joint objective weighs the two streams. "scaled": a stream's squared
                errors are divided by its mean variance per coordinate, so that the four terms are
                shares of unexplained variance, whatever the units; the maps are in the units of the
                activations all the same. "raw": squared errors as they are, the paper's; where one
                stream is much larger than the other, only its errors count (a warning from three
                times on).
            method: "joint": both directions together, the paper's. To compare with, from the same
                moments: "ridge", each direction by itself by least squares with a ridge;
                "procrustes", one orthogonal map for both directions and one factor for each. Then
                alpha only weighs the terms in the report.
            ridge: relative to the mean diagonal of each covariance. None: for the joint method 0,
                or 1e-10 where a covariance has not full rank; for the ridge method that of the
                least generalised cross-validation error, for each direction its own.
            tolerance: stop when the relative decrease of a step and the relative gradient norm fall
                below it; at 1e-4 the objective is mostly within 1e-6 of its end, and within 1e-5
                where little is left unexplained or alpha is 10.
            max_iterations: most steps.
            metadata: model_a, layer_a, model_b, layer_b, …; tokens, alpha and the objective are
                added, and models and layers where `suture.Activations` know them.
            progress: True for a tqdm bar after two seconds, or a function of (done, total).

        Returns:
            The stitch; its `report` has the objective before and after.

        Warns:
            SutureWarning: of a rank-deficient covariance, few tokens, no convergence, a raw
                objective of streams with unlike scales, few rows that carry much of the variance.

        >>> import numpy as np, suture
        >>> rng = np.random.default_rng(0)
        >>> h_a = rng.normal(size=(500, 4))
        >>> h_b = h_a @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(500, 6))
        >>> stitch = suture.Stitch.fit(h_a, h_b, alpha=1.0)
        >>> stitch.report.after.scaled_total <= stitch.report.before.scaled_total
        True
        >>> orthogonal = suture.Stitch.fit(h_a, 100 * h_b, method="procrustes")
        >>> stitch.report.after.up_explained_variance > 0.9
        True
        >>> orthogonal.report.after.up_explained_variance < 0.9
        True
        >>> stitch.up(h_a).shape
        (500, 6)
        """
        if moments is not None:
            if acts_a is not None or acts_b is not None:
                raise TypeError("moments is given beside acts_a or acts_b, expected one of them")
            instance("moments", moments, Moments, "suture.Moments")
            acts_a = moments
        alpha = real("alpha", alpha)
        tolerance = real("tolerance", tolerance, above=True)
        iterations = integer("max_iterations", max_iterations, 1, 2**31 - 1)
        word("objective", objective, ("scaled", "raw"))
        word("method", method, ("joint", "ridge", "procrustes"))
        ridge = None if ridge is None else real("ridge", ridge)
        if ridge is not None and method == "procrustes":
            raise ValueError(f"ridge is {ridge}, expected None: procrustes has none")
        if objective == "raw" and method != "joint":
            raise ValueError(f"objective is 'raw', expected the default for method={method!r}")
        if metadata is not None:
            to_json(metadata)
        found = moments_of(acts_a, acts_b, progress, pairs=pairs, rows=rows)
        names = {"moments": "acts_a" if moments is None else "moments"}
        if not isinstance(acts_a, Moments):
            names |= {"h_a": "acts_a", "h_b": "acts_b"}
        with Meter(progress, "stitch", None, unit="step") as meter, named(0, **names):
            core, report = _core.stitch_fit(
                found._core, alpha, tolerance, iterations, ridge, method, objective, meter.part()
            )
        self = cls._wrap(core, _sides(acts_a, acts_b) | (metadata or {}))
        self.report = fit_report(report, found.rows, names)
        for text in self.report.warnings:
            warnings.warn(f"Stitch.fit: {text}", SutureWarning, stacklevel=2)
        return self

    def evaluate(
        self,
        acts_a: Acts | Moments,
        acts_b: Acts = None,
        *,
        pairs: Pairs = None,
        rows: Any = None,
        alpha: float | None = None,
        progress: Progress = True,
    ) -> Objective:
        """The objective on other rows than the fitted ones.

        Args:
            acts_a: (N, d_a) held-out activations of A, or `Moments` of both models.
            acts_b: (N, d_b) activations of B on the same tokens.
            pairs: as in `fit`.
            rows: which rows count, as in `fit`. The default bounds on the norms are those of the
                fit, where the metadata have them; `rows=suture.Rows.all()` counts every row.
            alpha: weight of the inversion terms in `total`; by default that of the fit, else 1.

        Warns:
            SutureWarning: few of the rows have much of the variance.

        >>> import numpy as np, suture
        >>> stitch = suture.Stitch(np.eye(2), np.zeros(2), np.eye(2), np.zeros(2))
        >>> h = np.random.default_rng(0).normal(size=(10, 2))
        >>> round(stitch.evaluate(h, h + 1).up, 5)
        1.0
        """
        weight_ = self._alpha() if alpha is None else real("alpha", alpha)
        chosen = as_rows(rows)
        own = chosen.norm_bound is not None and chosen.asked_bound is None
        bounds = self._bounds() if own else None
        moments = moments_of(acts_a, acts_b, progress, self._core.info(), pairs, rows, bounds)
        warn_of_few_rows("Stitch.evaluate", moments)
        with named(moments="acts_a"):
            return Objective(**self._core.objective(moments._core, weight_))

    def _bounds(self) -> tuple[float, float, bool] | None:
        """Bounds on the norms of the rows that were fitted, where they are known."""
        names = ("norm_bound_a", "norm_bound_b")
        known = [self._metadata.values.get(name) for name in names]
        if all(value is None for value in known):
            return None
        found = [value if isinstance(value, float) and value > 0 else math.inf for value in known]
        return found[0], found[1], False

    def _alpha(self) -> float:
        known = self._metadata.values.get("alpha")
        return float(known) if isinstance(known, (int, float)) else 1.0

    @overload
    def transfer(
        self,
        sae: SAE,
        direction: Literal["up", "down"] = "up",
        *,
        site: Site | str | None = None,
        refit: Acts = None,
        refit_tokens: int | None = None,
        tied_rounds: int = 0,
        rows: Any = None,
        progress: Progress = True,
    ) -> SAE: ...
    @overload
    def transfer(
        self,
        sae: SteeringVector,
        direction: Literal["up", "down"] = "up",
        *,
        site: Site | str | None = None,
        acts: Acts = None,
        rows: Any = None,
        progress: Progress = True,
    ) -> SteeringVector: ...
    @overload
    def transfer(
        self,
        sae: Probe,
        direction: Literal["up", "down"] = "up",
        *,
        site: Site | str | None = None,
    ) -> Probe: ...
    def transfer(
        self,
        sae: Any,
        direction: Literal["up", "down"] = "up",
        *,
        site: Site | str | None = None,
        acts: Acts = None,
        refit: Acts = None,
        refit_tokens: int | None = None,
        tied_rounds: int = 0,
        rows: Any = None,
        progress: Progress = True,
    ) -> Any:
        """Carry a SAE, a probe or a steering vector of one model to the other (arXiv 2506.06609,
        eq. 4-7 and §4).

        Of a SAE, the result computes `up(sae(down(h_b)))` (direction "up"; "down": the other way
        round); decoder norms and a fixed scale are folded in first. Of a probe, it has the logits
        `probe(down(h_b))`. Of a steering vector v, it is `v P_up` divided by its norm, without a
        bias, and with a z_mean of the new model.

        Where the stitch's metadata say which model and layer it is of, those of `sae` are compared
        (`suture.Site` has the names that are understood): what comes from another model, layer or
        stream is refused, and so is a name that nobody can read.

        Args:
            sae: a `SAE`, a `Probe` or a `SteeringVector`.
            direction: "up" to model B, "down" to model A.
            site: where `sae` comes from, as a `suture.Site` or the name of its stream, in place of
                what its metadata say: the one way to insist. It is compared with the stitch, and
                kept in the metadata under `transferred_from`.
            acts: of a steering vector: the positive activations in the new model, which give mean
                and z_mean exactly. None: they are those of the mapped mean, `<up(mean), v'>`.
            refit: activations of the new model: with these, the decoder is then solved anew by
                `suture.refit_decoder`, which explains more variance and needs less training.
            refit_tokens: at most so many of them; None: all.
            tied_rounds: as for `suture.refit_decoder`: the best start for training, but
                activations are no longer those of `sae`.
            rows: which rows of `refit` or of `acts` count, a `suture.Rows` or a mask (N,). None: of
                `refit` those that are not of enormous norm, of `acts` all.

        Warns:
            SutureWarning: `sae` says that it is of a centred stream (TransformerLens'
                center_writing_weights, as `gpt2-small-res-jb`), which is another than the model's.

        Raises:
            ValueError: `sae` does not fit: its width, model, layer or stream.
            UnsupportedError: `sae` normalises each token, so that the composition is not affine.
            NumericalError: the stitch maps the vector to zero.

        >>> import numpy as np, suture
        >>> rng = np.random.default_rng(0)
        >>> stitch = suture.Stitch(*(rng.normal(size=s) for s in [(4, 6), (6,), (6, 4), (4,)]))
        >>> stitch.transfer(suture.SAE.init(4, 16, k=2))
        SAE(topk, d_in=6, d_sae=16, k=2)
        >>> stitch.transfer(suture.Probe(np.ones(4), 0.0))
        Probe(d_in=6, classes=[0, 1])
        >>> stitch.transfer(suture.SteeringVector(np.ones(4), z_mean=1.0), acts=np.ones((3, 6))).d
        6
        """
        kinds = (SAE, Probe, SteeringVector)
        instance("sae", sae, kinds, "suture.SAE, suture.Probe or suture.SteeringVector")
        word("direction", direction, ("up", "down"))
        given = named_site("site", site)
        place = None if given is None else given._fields
        loading = sae.metadata.get("model_from_pretrained_kwargs")
        if isinstance(loading, dict) and loading.get("center_writing_weights"):
            warnings.warn(
                "Stitch.transfer: sae was made on a model with center_writing_weights, whose "
                "residual stream has its mean over the coordinates taken out; expected a stitch of "
                "such streams",
                SutureWarning,
                stacklevel=2,
            )
        self._metadata.tell_core()
        sae._metadata.tell_core()
        for name, value, none in (
            ("refit_tokens", refit_tokens, None),
            ("tied_rounds", tied_rounds, 0),
        ):
            if refit is None and value != none:
                raise TypeError(f"{name} is {value!r}, expected {none} without refit")
        if isinstance(sae, SteeringVector):
            if refit is not None:
                raise TypeError("refit is given with a steering vector, expected None: see acts")
            if acts is None and rows is not None:
                raise TypeError("rows is given without acts, expected None")
            return transferred(self._core, sae, direction, place, acts, rows, progress)
        if acts is not None:
            kind = "probe" if isinstance(sae, Probe) else "SAE"
            raise TypeError(f"acts is given with a {kind}, expected None: it is for vectors")
        if refit is None and rows is not None:
            raise TypeError("rows is given without refit, expected None")
        if isinstance(sae, Probe):
            if refit is not None:
                raise TypeError("refit is given with a probe, expected None: it is for SAEs")
            return Probe._wrap(self._core.transfer_probe(sae._core, direction, place))
        moved = SAE._wrap(self._core.transfer_sae(sae._core, direction, place))
        if refit is None:
            return moved
        return refit_after_transfer(moved, refit, refit_tokens, rows, tied_rounds, progress)[0]


def _sides(acts_a: Any, acts_b: Any) -> dict[str, Any]:
    """Models and layers of extracted activations, where they are known."""
    found: dict[str, Any] = {}
    for side, acts in (("a", acts_a), ("b", acts_b)):
        site = site_of_activations(acts)
        found |= {f"model_{side}": site.model, f"layer_{side}": site.layer}
        if site.layer is not None:
            found[f"n_layers_{side}"] = acts.metadata.get("n_layers")
    return {key: value for key, value in found.items() if value is not None}

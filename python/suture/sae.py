# SPDX-License-Identifier: Apache-2.0
"""Sparse autoencoders."""

from __future__ import annotations

import os
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import existing, instance, integer, named, path_text, real, word
from ._inputs import Acts, Array, Stream, output, weight
from ._metadata import Metadata
from ._progress import Meter, Progress
from ._rowwise import map_rows
from ._sae_settings import (
    ARCHITECTURES,
    NORMALIZATIONS,
    OWN_WEIGHTS,
    Architecture,
    Normalization,
    fixed_scale,
    flag,
    latents,
    vector,
)
from .codes import SparseCodes
from .latents import LatentEvidence, selected

__all__ = ["SAE"]

Float32 = npt.NDArray[np.float32]


class SAE:
    """A sparse autoencoder: `f = activation(x W_enc + b_enc)`, `x_hat = f W_dec + b_dec`
    (arXiv 2506.06609, eq. 4), with the variations of the field's libraries as options.

    `SAE.init` makes a random one, `SAE.load` reads one, this constructor makes one from arrays.

    Args:
        W_enc: (d_in, d_sae)
        W_dec: (d_sae, d_in)
        b_dec: (d_in,)
        b_enc: (d_sae,), except for gated.
        architecture: "topk" (the k largest pre-activations, then ReLU), "batchtopk" (ReLU, above
            one threshold), "jumprelu" (above one threshold a latent), "relu", or "gated".
        k: active latents a token, 1 to d_sae, for topk; for batchtopk their mean number in
            training, None where it is not known.
        threshold: a number for batchtopk, (d_sae,) for jumprelu.
        b_gate, b_mag, r_mag: (d_sae,), for gated.
        apply_b_dec_to_input: whether `x - b_dec` enters the encoder.
        rescale_by_decoder_norm: whether pre-activations are multiplied by the norm of their decoder
            row before the activation function, and divided by it before decoding.
        normalization: of each input, undone on the output: "none", "fixed_scale" (times `scale`),
            "token_norm" (by the token's norm / sqrt(d_in)), "layer_norm".
        scale: above 0, for fixed_scale.
        metadata: what is known about it, with SAELens' names: model_name, hook_name, …

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> eye = np.eye(3, dtype=np.float32)
    >>> sae = suture.SAE(W_enc=eye, b_enc=np.zeros(3), W_dec=eye, b_dec=np.zeros(3), k=1)
    >>> sae
    SAE(topk, d_in=3, d_sae=3, k=1)
    >>> sae(np.array([[3.0, 1.0, 2.0]])).tolist()
    [[3.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        *,
        W_enc: Array,
        W_dec: Array,
        b_dec: Array,
        b_enc: Array = None,
        architecture: Architecture = "topk",
        k: int | None = None,
        threshold: Array | float | None = None,
        b_gate: Array = None,
        b_mag: Array = None,
        r_mag: Array = None,
        apply_b_dec_to_input: bool = False,
        rescale_by_decoder_norm: bool = False,
        normalization: Normalization = "none",
        scale: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        word("architecture", architecture, ARCHITECTURES)
        word("normalization", normalization, NORMALIZATIONS)
        if isinstance(threshold, (int, float, np.number)):
            number = real("threshold", threshold, least=-3.4e38, most=3.4e38)
            threshold = np.array([number], np.float32)
        own = {
            "b_enc": b_enc, "threshold": threshold, "b_gate": b_gate, "b_mag": b_mag,
            "r_mag": r_mag,
        }  # fmt: skip
        for name, array in own.items():
            if (array is not None) != (name in OWN_WEIGHTS[architecture]):
                expected = "None" if array is not None else "an array"
                found = "given" if array is not None else "None"
                raise TypeError(f"{name} is {found}, expected {expected} for {architecture}")
        core = _core.sae_create(
            architecture,
            latents(architecture, k),
            flag("apply_b_dec_to_input", apply_b_dec_to_input),
            flag("rescale_by_decoder_norm", rescale_by_decoder_norm),
            normalization,
            fixed_scale(normalization, scale),
            weight(W_enc, "W_enc"),
            vector(b_enc, "b_enc"),
            weight(W_dec, "W_dec"),
            vector(b_dec, "b_dec"),
            *(vector(own[name], name) for name in ("threshold", "b_gate", "b_mag", "r_mag")),
        )
        self._set(core, metadata)

    def _set(self, core: _core.SAE, metadata: dict[str, Any] | None = None) -> None:
        self._core = core
        self._metadata = Metadata(core, metadata)
        info = core.info()
        self.d_in: int = info["d_in"]
        """Width of the activations."""
        self.d_sae: int = info["d_sae"]
        """Number of latents."""
        self.architecture: Architecture = info["architecture"]
        """Activation function."""
        self.k: int | None = info["k"] or None
        """Active latents a token; for batchtopk in the mean; None where there is no such number."""
        self.apply_b_dec_to_input: bool = info["apply_b_dec_to_input"]
        self.rescale_by_decoder_norm: bool = info["rescale_by_decoder_norm"]
        self.normalization: Normalization = info["normalization"]
        self.scale: float | None = info["scale"] if self.normalization == "fixed_scale" else None
        """Factor of fixed_scale, else None."""

    @classmethod
    def _wrap(cls, core: _core.SAE, metadata: dict[str, Any] | None = None) -> Self:
        self = cls.__new__(cls)
        self._set(core, metadata)
        return self

    @classmethod
    def init(
        cls,
        d_in: int,
        d_sae: int,
        *,
        architecture: Literal["topk", "batchtopk", "jumprelu", "relu"] = "topk",
        k: int | None = None,
        apply_b_dec_to_input: bool = False,
        rescale_by_decoder_norm: bool = False,
        seed: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> Self:
        """The random start of training (arXiv 2506.06609, §D): decoder rows of unit norm and
        Gaussian direction, `W_enc = W_decᵀ`, zero biases; thresholds 0 for batchtopk, 0.01 for
        jumprelu, as SAELens has them.

        Args:
            d_in: width of the activations.
            d_sae: number of latents.
            architecture: "topk", "batchtopk", "jumprelu" or "relu".
            k: active latents a token, for topk and (in the mean) batchtopk: 1 to d_sae.
            apply_b_dec_to_input, rescale_by_decoder_norm, metadata: as for `SAE`.
            seed: 0 to 2**64 - 1.

        >>> import suture
        >>> suture.SAE.init(8, 64, k=4).W_dec.shape
        (64, 8)
        """
        word("architecture", architecture, ARCHITECTURES)
        core = _core.sae_init(
            integer("d_in", d_in, 1, 2**31 - 1),
            integer("d_sae", d_sae, 1, 2**31 - 1),
            architecture,
            latents(architecture, k),
            flag("apply_b_dec_to_input", apply_b_dec_to_input),
            flag("rescale_by_decoder_norm", rescale_by_decoder_norm),
            integer("seed", seed, 0, 2**64 - 1),
        )
        return cls._wrap(core, metadata)

    def encode(self, x: Acts, *, progress: Progress = True) -> SparseCodes:
        """Which latents are active on each token.

        Args:
            x: (N, d_in) activations; (batch, position, d_in) are taken as their rows.

        >>> import numpy as np, suture
        >>> sae = suture.SAE.init(4, 16, k=3)
        >>> sae.encode(np.ones((2, 4))).indices.shape
        (2, 3)
        """
        stream = Stream(x, "x", (self.d_in, "d_in"))
        parts: list[_core.Codes] = []
        with Meter(progress, "encode", stream.total) as meter:
            for start, block in stream.blocks():
                if block.rows:
                    with named(start, x="x"):
                        parts.append(self._core.encode(block, meter.part(start, block.rows)))
        return SparseCodes._joined(parts)

    def decode(self, codes: SparseCodes, *, progress: Progress = True) -> Float32:
        """(N, d_in) activations that the codes stand for: `f W_dec + b_dec`, never dense.

        Raises:
            UnsupportedError: a SAE that normalises each token cannot undo it without the token.

        >>> import suture
        >>> sae = suture.SAE.init(4, 16, k=3)
        >>> sae.decode(suture.SparseCodes([[5, 2, -1]], [[1.0, 0.5, 0.0]], d_sae=16)).shape
        (1, 4)
        """
        instance("codes", codes, SparseCodes, "suture.SparseCodes")
        if codes.d_sae != self.d_sae:
            raise ValueError(f"codes has d_sae = {codes.d_sae}, expected {self.d_sae}")
        out = np.empty((len(codes), self.d_in), np.float32)
        with Meter(progress, "decode", len(codes)) as meter:
            self._core.decode(codes._core, output(out), meter.part(0, len(codes)))
        return out

    def __call__(self, x: Acts, *, progress: Progress = True) -> Float32:
        """The reconstruction of `x`: float32, (N, d_in) or (batch, position, d_in).

        >>> import numpy as np, suture
        >>> suture.SAE.init(4, 16, k=3)(np.ones((2, 5, 4))).shape
        (2, 5, 4)
        """
        return map_rows(
            x, "x", (self.d_in, "d_in"), self.d_in, self._core.reconstruct, "x", "SAE", progress
        )

    def evaluate(
        self, acts: Acts, *, rows: Any = None, features: bool = False, progress: Progress = True
    ) -> dict[str, Any]:
        """Metrics over all tokens, in one pass that keeps nothing.

        Args:
            acts: (N, d_in) activations.
            rows: which rows are looked at: a `suture.Rows` or a mask (N,). Rows beyond its bound on
                norms are, but they are not ordinary.
            features: also `feature_frequency` and `feature_maximum`, one number a latent.

        Returns:
            tokens; explained_variance: 1 - sum |x - x_hat|² / sum |x - mean|², over all tokens and
            coordinates; fvu = 1 - explained_variance; l0: mean active latents a token;
            dead_fraction: latents that fired on no token; mse over tokens and coordinates; cosine:
            mean over tokens of that between x and x_hat; norm_ratio: mean of |x_hat| / |x|.
            norm_bound; beyond: rows beyond it; share_beyond: their share of the variance; and of
            the other rows, the ordinary ones, tokens_ordinary, explained_variance_ordinary,
            fvu_ordinary, l0_ordinary, mse_ordinary, cosine_ordinary, norm_ratio_ordinary (NaN if
            there are none). With a few rows of enormous norm the metrics of all rows are theirs.

        Warns:
            SutureWarning: few rows have more than a quarter of the variance.

        >>> import numpy as np, suture
        >>> x = np.random.default_rng(0).normal(size=(100, 4))
        >>> metrics = suture.SAE.init(4, 16, k=3).evaluate(x)
        >>> metrics["tokens"], metrics["l0"] <= 3
        (100, True)
        """
        from .evaluation import Evaluation

        evaluation = Evaluation(self).update(acts, rows=rows, progress=progress)
        evaluation._warn_of_few_rows("SAE.evaluate", 3)
        metrics = evaluation.metrics
        if features:
            metrics["feature_frequency"] = evaluation.feature_frequency
            metrics["feature_maximum"] = evaluation.feature_maximum
        return metrics

    def fold(self) -> SAE:
        """The same function with decoder norms, a fixed scale and the subtraction of b_dec folded
        into the weights.

        >>> import numpy as np, suture
        >>> sae = suture.SAE.init(4, 16, k=3, apply_b_dec_to_input=True)
        >>> sae.fold().apply_b_dec_to_input
        False
        """
        self._metadata.tell_core()
        return SAE._wrap(self._core.fold())

    def select(
        self, latents: Any, acts: Acts | None = None, *, rows: Any = None, progress: Progress = True
    ) -> SAE:
        """A SAE of some of the latents, with their activations as they are: for those one trusts.

        Latents of batchtopk, jumprelu, relu and gated do not know of one another, and theirs are
        the same. topk chooses them against one another: without those left out, others would fire
        in their places. It becomes jumprelu, each latent's threshold such that on `acts` it fires
        as often as before. `b_dec` stays, and `evidence` comes along.

        Args:
            latents: their numbers, in the order wanted, each at most once; or a mask (d_sae,).
            acts: (N, d_in) activations of the SAE's model, for topk only.
            rows: which rows of `acts` count, as for `suture.refit_decoder`.

        >>> import numpy as np, suture
        >>> x = np.random.default_rng(0).normal(size=(500, 4))
        >>> suture.SAE.init(4, 16, k=3).select([7, 1], x)
        SAE(jumprelu, d_in=4, d_sae=2)
        """
        self._metadata.tell_core()
        return SAE._wrap(selected(self, latents, acts, rows, progress))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder in SAELens' v6 layout: cfg.json and sae_weights.safetensors, and beside
        them latent_evidence.safetensors where there is `evidence`.

        >>> import suture, tempfile, os
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     suture.SAE.init(4, 16, k=3).save(os.path.join(folder, "sae"))
        ...     suture.SAE.load(os.path.join(folder, "sae"))
        SAE(topk, d_in=4, d_sae=16, k=3)
        """
        self._metadata.tell_core()
        self._core.save(path_text(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a folder in SAELens' v6 layout.

        Raises:
            OSError: it cannot be read (`FileNotFoundError`: it is not there).
            FormatError: it is damaged, cut short or something else.
            UnsupportedError: it is a SAE of a kind that Suture does not know.

        >>> import suture
        >>> suture.SAE.load("no/such/folder")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        text = path_text(path)
        existing("path", text, "a folder in SAELens' layout")
        return cls._wrap(_core.sae_load(text))

    def _weight(self, name: str) -> Float32:
        if name.startswith("W") or name == "b_dec" or name in OWN_WEIGHTS[self.architecture]:
            return np.asarray(self._core.weight(name))
        raise AttributeError(f"a {self.architecture} SAE has no {name}")

    @property
    def W_enc(self) -> Float32:
        """(d_in, d_sae), read-only, shares the memory of the SAE."""
        return self._weight("W_enc")

    @property
    def b_enc(self) -> Float32:
        """(d_sae,), read-only, shares the memory of the SAE; not for gated."""
        return self._weight("b_enc")

    @property
    def W_dec(self) -> Float32:
        """(d_sae, d_in), read-only, shares the memory of the SAE."""
        return self._weight("W_dec")

    @property
    def b_dec(self) -> Float32:
        """(d_in,), read-only, shares the memory of the SAE."""
        return self._weight("b_dec")

    @property
    def threshold(self) -> Float32:
        """(d_sae,) for jumprelu, (1,) for batchtopk; read-only."""
        return self._weight("threshold")

    @property
    def b_gate(self) -> Float32:
        """(d_sae,), for gated; read-only."""
        return self._weight("b_gate")

    @property
    def b_mag(self) -> Float32:
        """(d_sae,), for gated; read-only."""
        return self._weight("b_mag")

    @property
    def r_mag(self) -> Float32:
        """(d_sae,), for gated; read-only."""
        return self._weight("r_mag")

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the SAE; change it as you like, a save or transfer sees it."""
        return self._metadata.values

    @metadata.setter
    def metadata(self, values: dict[str, Any]) -> None:
        self._metadata.replace(values)

    @property
    def evidence(self) -> LatentEvidence | None:
        """What is known of each latent where the SAE was carried by pairs (`suture.carry`), else
        None."""
        return LatentEvidence._of(self._core, self.d_sae)

    def __reduce__(self) -> tuple[object, ...]:
        names = ("W_enc", "W_dec", "b_dec", *OWN_WEIGHTS[self.architecture])
        settings: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "architecture", "k", "apply_b_dec_to_input", "rescale_by_decoder_norm",
                "normalization", "scale", "metadata",
            )
        }  # fmt: skip
        # Copies: the views belong to this process.
        weights = {name: np.array(getattr(self, name)) for name in names}
        return _rebuild, (type(self), weights | settings, self.evidence)

    def __repr__(self) -> str:
        parts = [self.architecture, f"d_in={self.d_in}", f"d_sae={self.d_sae}"]
        if self.k is not None:
            parts.append(f"k={self.k}")
        if self.normalization != "none":
            parts.append(f"normalization={self.normalization!r}")
        for name in ("model_name", "hook_name"):
            if name in self.metadata:
                parts.append(f"{name}={self.metadata[name]!r}")
        return f"SAE({', '.join(parts)})"


def _rebuild(
    cls: type[SAE], arguments: dict[str, Any], evidence: LatentEvidence | None = None
) -> SAE:
    sae = cls(**arguments)
    if evidence is not None:
        evidence._attach(sae._core)
    return sae

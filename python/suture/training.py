# SPDX-License-Identifier: Apache-2.0
"""A SAE in training, step by step."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer, named
from ._inputs import Acts, Array, rows
from ._progress import Progress
from ._train_loop import Callback, Loop, Row, core_state
from ._train_options import DEFAULT_BATCH_SIZE, TrainOptions, core_settings
from ._training_data import Once, TrainingData, training_data
from .codes import SparseCodes
from .rows import as_rows
from .sae import SAE

__all__ = ["Trainer"]

Float32 = npt.NDArray[np.float32]


class Trainer:
    """A SAE in training, with its optimiser (arXiv 2506.06609, §3.1 and §D): Adam on the mean over
    tokens of |x - x_hat|², decoder rows back to norm 1 after each step.

    For batchtopk the k N largest activations of a step's N tokens are active (the SAE must have
    k); the threshold of the trained SAE is a moving average of the smallest of them. jumprelu and
    relu add a sparsity loss, see `TrainOptions`; their memory grows with the active latents a
    token, half of d_sae in a random start. The losses are those of SAELens' training classes.

    `train` is the short way. A trainer stays usable after Ctrl-C and can be run again.

    Args:
        sae: where to begin; it is copied. Unless `decoder_norm` is "free", training goes on at
            decoder rows of norm 1; norms that `sae` has are put aside and given back, so that
            training begins from the function that it has.
        options: settings of training, see `TrainOptions`.

    Raises:
        UnsupportedError: `sae` is gated, normalises its input, or rescales by decoder norms and
            `decoder_norm` is not "free".

    >>> import numpy as np, suture
    >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    >>> trainer = suture.Trainer(suture.SAE.init(8, 32, k=4), batch_size=64, lr=1e-2)
    >>> history = trainer.run(x, tokens=2560)
    >>> history[-1]["loss"] < history[0]["loss"]
    True
    """

    def __init__(self, sae: SAE, **options: Unpack[TrainOptions]) -> None:
        instance("sae", sae, SAE, "suture.SAE")
        settings = core_settings(options)
        self.batch_size: int = settings.setdefault("batch_size", DEFAULT_BATCH_SIZE)
        sae._metadata.tell_core()
        with named(beta1="betas[0]", beta2="betas[1]"):
            self._core = _core.trainer_create(sae._core, **settings)
        self.history: list[Row] = []
        """One dict for each `log_every` steps of all runs; see `TrainRun`."""
        self._d_in, self._d_sae = sae.d_in, sae.d_sae
        self._has_thresholds = sae.architecture == "jumprelu"
        self._pull: float | None = settings.get("pull")

    @classmethod
    def _load(cls, folder: str) -> Trainer:
        """The one of a checkpoint."""
        trainer = cls.__new__(cls)
        trainer._core = _core.trainer_load(folder)
        state = core_state(trainer._core)
        trainer.batch_size = state["options"]["batch_size"]
        trainer.history = []
        trainer._d_in, trainer._d_sae = state["d_in"], state["d_sae"]
        trainer._has_thresholds = state["architecture"] == "jumprelu"
        trainer._pull = state["options"]["pull"]
        return trainer

    def run(
        self,
        acts: Acts,
        tokens: int | None = None,
        *,
        rows: Any = None,
        like: Any = None,
        log_every: int = 10,
        progress: Progress = True,
        callback: Callback | None = None,
    ) -> list[Row]:
        """Train on batches drawn in random order from all rows; each is seen once an epoch.

        A later run on as many rows goes on where this one stopped. An iterator is read once: its
        rows are mixed within a buffer of about 65,536 of them, and those at its end that are too
        few for a batch are left out.

        Args:
            acts: (N, d_in) activations: arrays, paths, a list of them, or an iterator.
            tokens: how many to train on, in whole batches; None: as many as there are rows.
            rows: which rows count, a `suture.Rows` or a mask (N,); others are never drawn. By
                default rows of enormous norm do not, for which arrays are read once beforehand; an
                iterator's bound follows from its first 4096 rows.
            like: with the option `pull`: (SAE, its activations), those of another model on the same
                text, as many rows as `acts`. Rows whose norm is enormous there are not drawn.
            log_every: steps for each row of the history.
            progress: True for a tqdm bar after two seconds, or a function of (done, total).
            callback: called with each row of the history; what it raises ends the run.

        Returns:
            The rows that this run added to `history`.

        Raises:
            SutureWarning: an iterator ended before so many tokens.
        """
        self._wants(like)
        counted, width = as_rows(rows), (self._d_in, "d_in")
        data = training_data(
            acts, width, self.batch_size, counted, function="Trainer.run", like=like
        )
        wanted = wanted_tokens(tokens, data)
        state = core_state(self._core)
        if isinstance(data, Once):
            data.after(state)
        begun = len(self.history)
        target = None if wanted is None else state["tokens"] + wanted
        checked_loop([self], data, target, log_every, progress, callback).run()
        return self.history[begun:]

    def step(self, x: Array, *, like: SparseCodes | None = None) -> Row:
        """One step on exactly these rows.

        Args:
            x: (N, d_in) activations, one array.
            like: with the option `pull`: codes (N, d_sae) of the other model on the same text.

        Returns:
            The metrics of this step, as in `history` (which it does not enter).

        >>> import numpy as np, suture
        >>> trainer = suture.Trainer(suture.SAE.init(4, 16, k=2))
        >>> trainer.step(np.ones((8, 4)))["tokens"]
        8
        """
        batch = self._rows(x)
        return self._core.step(batch, self._codes(like), None)

    def gradients(
        self, x: Array, *, like: SparseCodes | None = None
    ) -> tuple[float, dict[str, Float32]]:
        """Loss on these rows (all its terms) and its gradients by W_enc, b_enc, W_dec, b_dec and,
        for jumprelu, threshold, without a step; `like` as for `step`.

        >>> import numpy as np, suture
        >>> trainer = suture.Trainer(suture.SAE.init(4, 16, k=2))
        >>> loss, gradients = trainer.gradients(np.ones((8, 4)))
        >>> gradients["W_enc"].shape
        (4, 16)
        """
        metrics, flat = self.step_grad(x, like=like)
        d_in, d_sae = self._d_in, self._d_sae
        shapes = {
            "W_enc": (d_in, d_sae),
            "b_enc": (d_sae,),
            "W_dec": (d_sae, d_in),
            "b_dec": (d_in,),
        }
        if self._has_thresholds:
            shapes["threshold"] = (d_sae,)
        out, begin = {}, 0
        for name, shape in shapes.items():
            end = begin + math.prod(shape)
            out[name] = flat[begin:end].reshape(shape)
            begin = end
        terms = ("loss", "sparsity_loss", "aux_loss", "pull_loss")
        return sum(metrics[name] for name in terms), out

    def step_grad(self, x: Array, *, like: SparseCodes | None = None) -> tuple[Row, Float32]:
        """The first half of a step, for gradients that are averaged over processes: what `step(x)`
        would apply, without doing so.

        Args:
            x: (N, d_in) activations, one array.
            like: as for `step`.

        Returns:
            The metrics of the batch, as `step` has them; also firings: (d_sae) tokens on which each
            latent was active. And the gradients by W_enc (d_in, d_sae), b_enc (d_sae), W_dec
            (d_sae, d_in), b_dec (d_in) and, for jumprelu, threshold (d_sae), flat and one after the
            other: of the mean over these tokens, neither clipped nor projected.

        Raises:
            ValueError: also before the first step, where `b_dec_init` or `normalize_activations`
                wants something from the activations.

        >>> import numpy as np, suture
        >>> x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
        >>> trainer, other = (suture.Trainer(suture.SAE.init(4, 16, k=2)) for _ in range(2))
        >>> halves = [trainer.step_grad(rows) for rows in (x[:4], x[4:])]
        >>> flat = (halves[0][1] + halves[1][1]) / 2
        >>> trainer.apply(flat, tokens=8, firings=sum(m["firings"] for m, _ in halves))["steps"]
        1
        >>> other.step(x)["steps"]
        1
        >>> np.allclose(trainer.sae.W_enc, other.sae.W_enc, atol=1e-6)
        True
        """
        batch = self._rows(x)
        flat = np.empty(self._gradient_count, np.float32)
        firings = np.empty(self._d_sae, np.int64)
        metrics = self._core.gradients_into(
            batch, self._codes(like), flat, flat.size, firings, firings.size, None
        )
        return metrics | {"firings": firings}, flat

    def apply(
        self,
        flat: npt.ArrayLike,
        *,
        tokens: int,
        firings: npt.ArrayLike | None = None,
    ) -> Row:
        """The second half of a step: clips and applies gradients that come from `step_grad` and may
        have been averaged since. With those of one `step_grad(x)` the weights are those that
        `step(x)` leaves, bit for bit.

        Args:
            flat: float32 gradients in the order of `step_grad`, of the mean over all tokens of the
                step: where batches are of one size, the mean of theirs.
            tokens: how many these are.
            firings: (d_sae) int64, those of `step_grad` added up, for the count of dead latents;
                None takes for active what has a gradient of b_enc other than 0, which dead ones
                have too where there is an auxiliary loss.

        Returns:
            steps, tokens, dead, lr and seconds, as `step` has them.
        """
        gradients = _flat("flat", flat, np.float32, self._gradient_count)
        counts = None if firings is None else _flat("firings", firings, np.int64, self._d_sae)
        count = integer("tokens", tokens, 1, 2**48)
        with named(gradients="flat"):
            metrics = self._core.apply(gradients, count, counts, None)
        return {name: metrics[name] for name in ("steps", "tokens", "dead", "lr", "seconds")}

    @property
    def _gradient_count(self) -> int:
        thresholds = self._d_sae if self._has_thresholds else 0
        return 2 * self._d_in * self._d_sae + self._d_sae + self._d_in + thresholds

    def _wants(self, like: Any) -> None:
        """Refuses a pull without codes, and codes without a pull."""
        if (like is None) != (self._pull is None):
            given = "None" if like is None else "given"
            raise TypeError(
                f"like is {given} and pull is {self._pull}, expected both or neither: what latents "
                "are pulled towards, and how strongly"
            )
        sae = like[0] if isinstance(like, tuple) and like else None
        if isinstance(sae, SAE) and sae.d_sae != self._d_sae:
            raise ValueError(
                f"like has a SAE of d_sae = {sae.d_sae}, expected {self._d_sae}: latent i is to "
                "stay latent i"
            )

    def _codes(self, like: SparseCodes | None) -> _core.Codes | None:
        self._wants(like)
        if like is None:
            return None
        instance("like", like, SparseCodes, "suture.SparseCodes")
        if like.d_sae != self._d_sae:
            raise ValueError(f"like has d_sae = {like.d_sae}, expected {self._d_sae}")
        return like._core

    def _rows(self, x: Array) -> _core.Rows:
        batch = rows(x, "x")
        if batch.cols != self._d_in:
            raise ValueError(
                f"x has shape {batch.shape}, expected (…, {self._d_in}): d_in = {self._d_in}"
            )
        return batch if batch.direct else batch.block(0, batch.rows)

    @property
    def sae(self) -> SAE:
        """A copy of the SAE as it is now."""
        return SAE._wrap(self._core.sae())

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"steps": 0, "tokens": 0}
        return f"Trainer({last['steps']} steps, {last['tokens']} tokens, d_sae={self._d_sae})"


def wanted_tokens(tokens: int | None, data: TrainingData) -> int | None:
    """Tokens to train on; None: until the data ends."""
    return data.rows if tokens is None else integer("tokens", tokens, 1, 2**62)


def checked_loop(
    trainers: list[Trainer],
    data: TrainingData,
    target: int | None,
    log_every: int,
    progress: Progress,
    callback: Callback | None,
    **settings: Any,
) -> Loop:
    """The loop of a run, its arguments checked."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}, expected a function or None")
    return Loop(
        cores=[trainer._core for trainer in trainers],
        histories=[trainer.history for trainer in trainers],
        data=data,
        target=target,
        log_every=integer("log_every", log_every, 1),
        progress=progress,
        callback=callback,
        **settings,
    )


def _flat(name: str, values: Any, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
    """A flat array of `count` elements of this type."""
    array = np.asarray(values)
    if array.dtype != dtype:
        raise TypeError(f"{name} has elements of {array.dtype}, expected {np.dtype(dtype)}")
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({count},)")
    return np.ascontiguousarray(array)

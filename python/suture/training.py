# SPDX-License-Identifier: Apache-2.0
"""Training of SAEs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import instance, integer, named
from ._inputs import Acts, Array, Stream, rows
from ._progress import Meter, Progress
from ._train_options import DEFAULT_BATCH_SIZE, TrainOptions, core_settings, with_total_steps
from .sae import SAE

__all__ = ["TrainRun", "Trainer", "TrainingInterrupted", "train"]

Float32 = npt.NDArray[np.float32]
Row = dict[str, Any]


@dataclass(frozen=True)
class TrainRun:
    """What came of a training run.

    Attributes:
        sae: the trained SAE.
        history: one dict for each `log_every` steps: steps and tokens so far; loss (mean over
            tokens of |x - x_hat|²), explained_variance and l0, means over these steps; dead:
            latents that have not fired within the last 1,000,000 tokens; lr of the last step;
            seconds of these steps.
        trainer: to go on from here.
    """

    sae: SAE
    history: list[Row]
    trainer: Trainer

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"steps": 0, "tokens": 0}
        return f"TrainRun({last['steps']} steps, {last['tokens']} tokens, {self.sae!r})"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `train`.

    Attributes:
        run: the `TrainRun` so far; `run.trainer.run(…)` goes on.

    >>> import suture
    >>> issubclass(suture.TrainingInterrupted, KeyboardInterrupt)
    True
    """

    def __init__(self, run: TrainRun) -> None:
        super().__init__(
            f"training was interrupted; the exception's `run` has what is there: {run}"
        )
        self.run = run


class Trainer:
    """A TopK SAE in training, with its optimiser (arXiv 2506.06609, §3.1 and §D): Adam on the mean
    over tokens of |x - x_hat|², decoder rows back to norm 1 after each step.

    `train` is the short way. A trainer stays usable after Ctrl-C and can be run again.

    Args:
        sae: where to begin; it is copied. Unless `decoder_norm` is "free", decoder norms go into
            the encoder first.
        options: settings of training, see `TrainOptions`.

    Raises:
        UnsupportedError: `sae` is not topk, normalises its input, or rescales by decoder norms and
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
        self._sae: SAE | None = None

    def run(
        self,
        acts: Acts,
        tokens: int | None = None,
        *,
        log_every: int = 10,
        progress: Progress = True,
        callback: Callable[[Row], object] | None = None,
    ) -> list[Row]:
        """Train on batches drawn in random order from all rows; each is seen once an epoch.

        A later run on as many rows goes on where this one stopped.

        Args:
            acts: (N, d_in) activations: arrays, paths, or a list of them; not an iterator.
            tokens: how many to train on, in whole batches; None: as many as there are rows.
            log_every: steps for each row of the history.
            progress: True for a tqdm bar after two seconds, or a function of (done, total).
            callback: called with each row of the history; what it raises ends the run.

        Returns:
            The rows that this run added to `history`.
        """
        shards = Stream(acts, "acts", (self._d_in, "d_in")).whole()
        return self._run(shards, _wanted(tokens, shards), log_every, progress, callback)

    def _run(
        self,
        shards: list[_core.Rows],
        wanted: int,
        log_every: int,
        progress: Progress,
        callback: Callable[[Row], object] | None,
    ) -> list[Row]:
        every = integer("log_every", log_every, 1)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is {callback!r}, expected a function or None")
        begun = len(self.history)
        done = 0
        with Meter(progress, "train", wanted) as meter:
            while done < wanted:
                size = min(every * self.batch_size, wanted - done)
                self._sae = None
                with _whole_rows("acts", shards):
                    [row] = _core.trainers_run([self._core], shards, size, meter.part(done, size))
                # The core trains on whole batches.
                done += -(-size // self.batch_size) * self.batch_size
                self.history.append(row)
                if callback is not None:
                    callback(row)
        return self.history[begun:]

    def step(self, x: Array) -> Row:
        """One step on exactly these rows.

        Args:
            x: (N, d_in) activations, one array.

        Returns:
            The metrics of this step, as in `history` (which it does not enter).

        >>> import numpy as np, suture
        >>> trainer = suture.Trainer(suture.SAE.init(4, 16, k=2))
        >>> trainer.step(np.ones((8, 4)))["tokens"]
        8
        """
        batch = self._rows(x)
        self._sae = None
        return self._core.step(batch, None)

    def gradients(self, x: Array) -> tuple[float, dict[str, Float32]]:
        """Loss on these rows and its gradients by W_enc, b_enc, W_dec and b_dec, without a step.

        >>> import numpy as np, suture
        >>> trainer = suture.Trainer(suture.SAE.init(4, 16, k=2))
        >>> loss, gradients = trainer.gradients(np.ones((8, 4)))
        >>> gradients["W_enc"].shape
        (4, 16)
        """
        metrics, flat = self.step_grad(x)
        d_in, d_sae = self._d_in, self._d_sae
        shapes = {
            "W_enc": (d_in, d_sae),
            "b_enc": (d_sae,),
            "W_dec": (d_sae, d_in),
            "b_dec": (d_in,),
        }
        out, begin = {}, 0
        for name, shape in shapes.items():
            end = begin + math.prod(shape)
            out[name] = flat[begin:end].reshape(shape)
            begin = end
        return metrics["loss"], out

    def step_grad(self, x: Array) -> tuple[Row, Float32]:
        """The first half of a step, for gradients that are averaged over processes: what `step(x)`
        would apply, without doing so.

        Args:
            x: (N, d_in) activations, one array.

        Returns:
            The metrics of the batch, as `step` has them; also firings: (d_sae) tokens on which each
            latent was active. And the gradients by W_enc (d_in, d_sae), b_enc (d_sae), W_dec
            (d_sae, d_in) and b_dec (d_in), flat and one after the other: of the mean over these
            tokens, neither clipped nor projected.

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
        metrics = self._core.gradients_into(batch, flat, flat.size, firings, firings.size, None)
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
                None takes for active what has a gradient of b_enc other than 0.

        Returns:
            steps, tokens, dead, lr and seconds, as `step` has them.
        """
        gradients = _flat("flat", flat, np.float32, self._gradient_count)
        counts = None if firings is None else _flat("firings", firings, np.int64, self._d_sae)
        count = integer("tokens", tokens, 1, 2**48)
        self._sae = None
        with named(gradients="flat"):
            metrics = self._core.apply(gradients, count, counts, None)
        return {name: metrics[name] for name in ("steps", "tokens", "dead", "lr", "seconds")}

    @property
    def _gradient_count(self) -> int:
        return 2 * self._d_in * self._d_sae + self._d_sae + self._d_in

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
        if self._sae is None:
            self._sae = SAE._wrap(self._core.sae())
        return self._sae

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"steps": 0, "tokens": 0}
        return f"Trainer({last['steps']} steps, {last['tokens']} tokens, d_sae={self._d_sae})"


def train(
    sae: SAE,
    acts: Acts,
    *,
    tokens: int | None = None,
    log_every: int = 10,
    progress: Progress = True,
    callback: Callable[[Row], object] | None = None,
    **options: Unpack[TrainOptions],
) -> TrainRun:
    """Train a TopK SAE, from a random start or a transferred one. `sae` itself stays as it is.

    Args:
        sae: where to begin.
        acts, tokens, log_every, progress, callback: as for `Trainer.run`.
        options: settings of training, see `TrainOptions`.

    Raises:
        TrainingInterrupted: Ctrl-C; a KeyboardInterrupt with the run so far.

    >>> import numpy as np, suture
    >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    >>> run = suture.train(suture.SAE.init(8, 32, k=4), x, tokens=1000, batch_size=100)
    >>> run
    TrainRun(10 steps, 1000 tokens, SAE(topk, d_in=8, d_sae=32, k=4))
    """
    instance("sae", sae, SAE, "suture.SAE")
    shards = Stream(acts, "acts", (sae.d_in, "d_in")).whole()
    wanted = _wanted(tokens, shards)
    trainer = Trainer(sae, **with_total_steps(options, wanted))
    try:
        trainer._run(shards, wanted, log_every, progress, callback)
    except KeyboardInterrupt as error:
        raise TrainingInterrupted(TrainRun(trainer.sae, trainer.history, trainer)) from error
    return TrainRun(trainer.sae, trainer.history, trainer)


def _flat(name: str, values: Any, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
    """A flat array of `count` elements of this type."""
    array = np.asarray(values)
    if array.dtype != dtype:
        raise TypeError(f"{name} has elements of {array.dtype}, expected {np.dtype(dtype)}")
    if array.shape != (count,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({count},)")
    return np.ascontiguousarray(array)


def _wanted(tokens: int | None, shards: list[_core.Rows]) -> int:
    """Tokens to train on."""
    if tokens is None:
        return sum(shard.rows for shard in shards)
    return integer("tokens", tokens, 1, 2**62)


@contextmanager
def _whole_rows(name: str, shards: list[_core.Rows]) -> Iterator[None]:
    """Turns "shards[2][7, 1] is nan" into the row number of the whole input."""
    try:
        yield
    except ValueError as error:
        found = re.match(r"shards\[(\d+)\]\[(\d+), (\d+)\]", str(error))
        if not found:
            raise
        shard, row, column = map(int, found.groups())
        row += sum(before.rows for before in shards[:shard])
        raise type(error)(f"{name}[{row}, {column}]{str(error)[found.end() :]}") from None

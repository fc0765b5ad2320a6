# SPDX-License-Identifier: Apache-2.0
"""Training runs: from a start to an end, with checkpoints, and going on from them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, overload

from ._arguments import instance, integer, path_text, real
from ._history import RunFolder, refuse_files
from ._inputs import Acts
from ._progress import Progress
from ._train_loop import Callback, Loop, Row, Stopped, core_state
from ._train_options import DEFAULT_BATCH_SIZE, TrainOptions, core_settings, with_total_steps
from ._training_data import training_data
from .norms import CountedRows
from .reports import SutureWarning
from .rows import as_rows
from .sae import SAE
from .training import Trainer, checked_loop, wanted_tokens

__all__ = ["TrainRun", "TrainingInterrupted", "resume", "train"]

CHECKPOINT_EVERY = 10_000_000


@dataclass(frozen=True)
class TrainRun:
    """What came of a training run.

    Attributes:
        sae: the trained SAE.
        history: one dict for each `log_every` steps.
            steps, tokens: so far.
            loss: mean over tokens of |x - x_hat|²; sparsity_loss, aux_loss, pull_loss: what else is
            in what training minimises; explained_variance, l0: all of them means over these steps.
            explained_variance_average: the same with exponential moving averages of loss and
            variance over all steps, each of which counts 0.95 times as much as the next.
            dead: latents that have not fired within the last `dead_feature_window` tokens.
            lr: of the last step.
            seconds: of these steps.
            flops: floating-point operations of all steps as a dense implementation takes them, 12
            d_in d_sae a token: torch's flop counter on SAELens' TopK, forward and backward.
            flops_executed: those that were executed, with the latents that fired; see suture.h.
        trainer: to go on from here.
        rows: which rows counted (`CountedRows`); of an iterable, of those that were read.
        stopped: "tokens": the budget is used; "explained_variance": the moving average has reached
            what was wanted; "exhausted": an iterable has ended; "interrupted": Ctrl-C.
    """

    sae: SAE
    history: list[Row]
    trainer: Trainer
    stopped: Stopped = "tokens"
    rows: CountedRows | None = None

    def __repr__(self) -> str:
        last = self.history[-1] if self.history else {"steps": 0, "tokens": 0}
        return f"TrainRun({last['steps']} steps, {last['tokens']} tokens, {self.sae!r})"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `train` or `resume`.

    Attributes:
        run: the `TrainRun` so far (a list of them for several SAEs); `run.trainer.run(…)` goes on.

    >>> import suture
    >>> issubclass(suture.TrainingInterrupted, KeyboardInterrupt)
    True
    """

    def __init__(self, run: TrainRun | list[TrainRun]) -> None:
        super().__init__(
            f"training was interrupted; the exception's `run` has what is there: {run}"
        )
        self.run = run


@overload
def train(
    sae: SAE,
    acts: Acts,
    *,
    tokens: int | None = None,
    rows: Any = None,
    like: Any = None,
    explained_variance: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    log_every: int = 10,
    progress: Progress = True,
    callback: Callback | None = None,
    **options: Unpack[TrainOptions],
) -> TrainRun: ...
@overload
def train(
    sae: Sequence[SAE],
    acts: Acts,
    *,
    tokens: int | None = None,
    rows: Any = None,
    like: Any = None,
    explained_variance: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    log_every: int = 10,
    progress: Progress = True,
    callback: Callback | None = None,
    **options: Unpack[TrainOptions],
) -> list[TrainRun]: ...
def train(
    sae: SAE | Sequence[SAE],
    acts: Acts,
    *,
    tokens: int | None = None,
    rows: Any = None,
    like: Any = None,
    explained_variance: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = CHECKPOINT_EVERY,
    log_every: int = 10,
    progress: Progress = True,
    callback: Callback | None = None,
    **options: Unpack[TrainOptions],
) -> TrainRun | list[TrainRun]:
    """Train a SAE, from a random start or a transferred one. `sae` itself stays as it is.

    Several SAEs of one d_in are trained on one stream: each batch is read once, and each SAE
    becomes what it would by itself.

    Args:
        sae: where to begin, or a list of such.
        acts, tokens, rows, like, log_every, progress: as for `Trainer.run`. run.json keeps the
            bound on norms.
        explained_variance: stop where `explained_variance_average` has reached this in a row of
            the history; of several SAEs, in that of each.
        checkpoint: a new folder for run.json, history.jsonl (the history, a row a line) and the
            last two checkpoints, each a folder that `SAE.load` and SAELens read; for several SAEs,
            a folder 0, 1, … of these for each. `resume` goes on from it. Checkpoints are written
            at the start and the end, every `checkpoint_every` tokens, and on Ctrl-C; whatever ends
            the process, the last one is whole.
        checkpoint_every: tokens from one checkpoint to the next.
        callback: called with each row of the history, for several SAEs with a list of rows; what it
            raises ends the run.
        options: settings of training, see `TrainOptions`.

    Raises:
        TrainingInterrupted: Ctrl-C; a KeyboardInterrupt with the run so far.
        NumericalError: training diverged; the message names the last checkpoint.
        FileExistsError: `checkpoint` has files in it.
        OSError: a checkpoint cannot be written; those before it stay.

    >>> import numpy as np, suture
    >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    >>> run = suture.train(suture.SAE.init(8, 32, k=4), x, tokens=1000, batch_size=100)
    >>> run
    TrainRun(10 steps, 1000 tokens, SAE(topk, d_in=8, d_sae=32, k=4))
    >>> run.stopped
    'tokens'
    """
    several = not isinstance(sae, SAE)
    saes = _saes(sae)
    batch_size = integer("batch_size", options.get("batch_size", DEFAULT_BATCH_SIZE), 1, 2**31 - 1)
    checkpoint_every = integer("checkpoint_every", checkpoint_every, 1, 2**62)
    if explained_variance is not None:
        explained_variance = real("explained_variance", explained_variance, above=True, most=1.0)
    path = None if checkpoint is None else _folder("checkpoint", checkpoint)
    if path is not None:
        refuse_files(path)
    data = training_data(acts, (saes[0].d_in, "d_in"), batch_size, as_rows(rows), like=like)
    wanted = wanted_tokens(tokens, data)
    settings = options if wanted is None else with_total_steps(options, wanted)
    trainers = [Trainer(one, **settings) for one in saes]
    for trainer in trainers:
        trainer._wants(like)
    loop = checked_loop(
        trainers,
        data,
        wanted,
        log_every,
        progress,
        callback,
        explained_variance=explained_variance,
        checkpoint_every=checkpoint_every,
        several=several,
    )
    if path is not None:
        kept = {
            "tokens": wanted,
            "explained_variance": explained_variance,
            "checkpoint_every": checkpoint_every,
            "log_every": loop.log_every,
            "norm_bound": data.bound if math.isfinite(data.bound) else None,
        }
        paths = [path / str(i) for i in range(len(saes))] if several else [path]
        loop.folders = [RunFolder.create(one, kept) for one in paths]
        loop.save()
    runs = _run(loop, trainers)
    return runs if several else runs[0]


def resume(
    folder: str | os.PathLike[str],
    acts: Acts,
    *,
    tokens: int | None = None,
    rows: Any = None,
    like: Any = None,
    progress: Progress = True,
    callback: Callback | None = None,
    **options: Unpack[TrainOptions],
) -> TrainRun | list[TrainRun]:
    """Go on with a run from its last checkpoint: to the same bits, and the same history but for
    seconds, as if it had not been stopped.

    `acts` must be the same rows in the same order, in arrays of any kind; an iterable has to begin
    from its start again. On a processor with other kernels (`suture.cpu_info`) the run goes on with
    a warning, and then differs by rounding.

    Args:
        folder: what `checkpoint` was.
        acts: what it was trained on. The number of rows and some of them, spread over all, are
            compared with what they were.
        tokens: a new budget for the whole run; None: that which it began with.
        rows: what it was for `train`, as far as it is not the bound on norms: the run's goes on.
        like: what it was for `train`.
        progress, callback: as for `train`.
        options: to be sure of: settings that are refused if the run has others.

    Returns:
        The whole run; a list for several SAEs.

    Raises:
        ValueError: other rows, or other settings than the run's; the message names the difference.
        FileNotFoundError: there is no run in the folder.

    >>> import numpy as np, suture, tempfile
    >>> x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    >>> folder = tempfile.mkdtemp()
    >>> start = suture.SAE.init(8, 32, k=4)
    >>> run = suture.train(start, x, tokens=1000, batch_size=100, checkpoint=folder)
    >>> suture.resume(folder, x, tokens=2000).history[-1]["tokens"]
    2000
    """
    path = _folder("folder", folder)
    several = (path / "0" / "run.json").exists()
    if not several and not (path / "run.json").exists():
        raise FileNotFoundError(f"folder is {str(path)!r}, expected one that train wrote a run to")
    paths = sorted((p.parent for p in path.glob("*/run.json")), key=lambda p: p.name)
    paths.sort(key=lambda p: len(p.name))
    folders = [RunFolder(one) for one in (paths if several else [path])]
    settings = folders[0].settings()
    # A kill between the checkpoints of several leaves the last ones of some a step ahead.
    common = set.intersection(*(set(one.checkpoints()) for one in folders))
    if not common:
        raise FileNotFoundError(f"folder is {str(path)!r}, which has no checkpoint")
    name = max(common)
    trainers = [Trainer._load(str(one.path / name)) for one in folders]
    states = [core_state(trainer._core) for trainer in trainers]
    _same_settings(options, states[0]["options"])
    # Runs of before there were bounds have counted all rows.
    bound = settings.get("norm_bound")
    data = training_data(
        acts,
        (states[0]["d_in"], "d_in"),
        trainers[0].batch_size,
        as_rows(rows),
        math.inf if bound is None else float(bound),
        "resume",
        like,
    )
    for trainer in trainers:
        trainer._wants(like)
    wanted = settings["tokens"] if tokens is None else integer("tokens", tokens, 1, 2**62)
    data.go_on(trainers[0]._core, states[0])
    before, now = states[0]["kernels_before"], states[0]["kernels"]
    if before != now:
        warnings.warn(
            f"the run used {before} kernels, here it uses {now}: it differs by rounding from here",
            SutureWarning,
            stacklevel=2,
        )
    for one, trainer, state in zip(folders, trainers, states, strict=True):
        trainer.history.extend(one.history(state["steps"]))
    loop = checked_loop(
        trainers,
        data,
        wanted,
        settings["log_every"],
        progress,
        callback,
        explained_variance=settings["explained_variance"],
        checkpoint_every=settings["checkpoint_every"],
        folders=folders,
        several=several,
    )
    runs = _run(loop, trainers)
    return runs if several else runs[0]


def _run(loop: Loop, trainers: list[Trainer]) -> list[TrainRun]:
    stopped: Stopped = "interrupted"
    try:
        try:
            stopped = loop.run()
        except KeyboardInterrupt as error:
            loop.save()
            runs = _runs(trainers, stopped, loop.data.counted)
            raise TrainingInterrupted(runs if loop.several else runs[0]) from error
        loop.save()
    finally:
        for folder in loop.folders:
            folder.close()
    return _runs(trainers, stopped, loop.data.counted)


def _runs(trainers: list[Trainer], stopped: Stopped, counted: CountedRows) -> list[TrainRun]:
    return [TrainRun(t.sae, t.history, t, stopped, counted) for t in trainers]


def _saes(sae: Any) -> list[SAE]:
    if not isinstance(sae, (list, tuple)):
        instance("sae", sae, SAE, "suture.SAE or a list of them")
        return [sae]
    if not sae:
        raise ValueError("sae is an empty list, expected at least one suture.SAE")
    for index, one in enumerate(sae):
        instance(f"sae[{index}]", one, SAE, "suture.SAE")
        if one.d_in != sae[0].d_in:
            raise ValueError(
                f"sae[{index}] has d_in {one.d_in}, expected {sae[0].d_in} as sae[0]: they are "
                "trained on the same rows"
            )
    return list(sae)


def _folder(name: str, value: Any) -> Path:
    try:
        return Path(path_text(value))
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("path is", f"{name} is", 1)) from None


def _same_settings(options: TrainOptions, present: dict[str, Any]) -> None:
    settings: dict[str, Any] = dict.fromkeys(n for n, v in options.items() if v is None)
    settings |= core_settings(options)
    for name, value in settings.items():
        expected = present.get(name)
        if (str(value) if name == "seed" else value) != expected:
            raise ValueError(
                f"{name} is {value!r}, expected {expected!r} as in the run's checkpoint"
            )

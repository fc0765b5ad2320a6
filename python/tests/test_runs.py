# SPDX-License-Identifier: Apache-2.0
"""Checkpoints and resuming, several SAEs on one stream, iterables, stopping, operations."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import suture

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sae_lens
    from sae_lens.saes.sae import TrainStepInput
    from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

SETTINGS: dict[str, Any] = {
    "batch_size": 32, "lr": 1e-2, "seed": 5, "lr_scheduler": "cosine", "lr_warm_up_steps": 4,
    "normalize_activations": "expected_average_only_in", "b_dec_init": "mean", "progress": False,
}  # fmt: skip


def start(d_sae: int = 24, seed: int = 1) -> suture.SAE:
    return suture.SAE.init(6, d_sae, k=3, seed=seed, metadata={"model_name": "small"})


def data(rng: np.random.Generator, rows: int = 500) -> np.ndarray:
    return (rng.normal(size=(rows, 6)) @ rng.normal(size=(6, 6))).astype(np.float32)


def plain(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def same(a: suture.TrainRun, b: suture.TrainRun) -> None:
    for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
        np.testing.assert_array_equal(getattr(a.sae, name), getattr(b.sae, name))
    assert plain(a.history) == plain(b.history)


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "topk": {"k": 3, "aux_loss_coefficient": 0.5, "dead_feature_window": 64},
    "batchtopk": {"k": 3, "aux_loss_coefficient": 0.5, "dead_feature_window": 64},
    "jumprelu": {"l0_coefficient": 0.1, "sparsity_warm_up_steps": 70},
    "relu": {"l1_coefficient": 0.1, "sparsity_warm_up_steps": 70},
}


class Stop(Exception):
    pass


def stop_after(steps: int) -> Any:
    def stop(row: Any) -> None:
        if (row[0] if isinstance(row, list) else row)["steps"] >= steps:
            raise Stop

    return stop


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_resumed_to_the_bit(
    architecture: Any, rng: np.random.Generator, tmp_path: Path
) -> None:
    options = dict(ARCHITECTURES[architecture])
    sae = suture.SAE.init(6, 24, architecture=architecture, k=options.pop("k", None), seed=1)
    settings: dict[str, Any] = {"tokens": 3200, "log_every": 7} | SETTINGS | options
    x = data(rng)
    whole = suture.train(sae, x, **settings)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        suture.train(
            sae, x, checkpoint=folder, checkpoint_every=320, callback=stop_after(60), **settings
        )
    run = suture.resume(folder, x, progress=False)
    assert isinstance(run, suture.TrainRun)
    same(run, whole)
    if architecture in ("batchtopk", "jumprelu"):
        np.testing.assert_array_equal(run.sae.threshold, whole.sae.threshold)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "memmap", "shards"])
def test_resumed_to_the_bit(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x: Any = data(rng)
    if kind == "bfloat16":
        x = torch.from_numpy(x).to(torch.bfloat16)
    elif kind == "memmap":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif kind == "shards":
        x = [x[:100], x[100:101], x[101:]]
    whole = suture.train(start(), x, tokens=3200, log_every=7, **SETTINGS)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        suture.train(
            start(), x, tokens=3200, log_every=7, checkpoint=folder, checkpoint_every=320,
            callback=stop_after(60), **SETTINGS,
        )  # fmt: skip
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "checkpoint-000000000050", "checkpoint-000000000060", "history.jsonl", "run.json",
    ]  # fmt: skip
    run = suture.resume(folder, x, progress=False, lr=1e-2, betas=(0.9, 0.999))
    assert isinstance(run, suture.TrainRun)
    same(run, whole)
    assert run.sae.metadata["model_name"] == "small"
    assert run.stopped == "tokens"
    # It is finished, and can be made longer.
    again = suture.resume(str(folder), x, progress=False)
    assert isinstance(again, suture.TrainRun)
    same(again, whole)
    longer = suture.resume(folder, x, tokens=3300, progress=False)
    assert isinstance(longer, suture.TrainRun)
    assert longer.history[-1]["tokens"] == 3328
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert lines == longer.history
    np.testing.assert_array_equal(
        suture.SAE.load(folder / "checkpoint-000000000104").W_dec, longer.sae.W_dec
    )


def test_saelens_reads_a_checkpoint(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    run = suture.train(start(), x, checkpoint=tmp_path / "run", **SETTINGS)
    [*_, last] = sorted((tmp_path / "run").glob("checkpoint-*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sae_lens.SAE.load_from_disk(str(last), device="cpu")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x))
    np.testing.assert_allclose(run.sae(x), expected, rtol=1e-4, atol=1e-4)


def test_other_runs_are_refused(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    folder = tmp_path / "run"
    suture.train(start(), x, checkpoint=folder, **SETTINGS)
    with pytest.raises(FileExistsError, match=r"run', which has files in it.*resume"):
        suture.train(start(), x, checkpoint=folder, **SETTINGS)
    with pytest.raises(ValueError, match="acts has 499 rows, expected the 500"):
        suture.resume(folder, x[1:])
    with pytest.raises(ValueError, match="other values than the 500 rows"):
        suture.resume(folder, x + 1)
    with pytest.raises(ValueError, match=r"acts has shape \(500, 5\).*d_in = 6"):
        suture.resume(folder, x[:, :5].copy())
    with pytest.raises(ValueError, match=r"lr is 0.5, expected 0.01"):
        suture.resume(folder, x, lr=0.5)
    with pytest.raises(ValueError, match=r"seed is 6, expected '5'"):
        suture.resume(folder, x, seed=6)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        suture.resume(tmp_path / "nowhere", x)
    assert suture.resume(folder, x, max_grad_norm=None, progress=False)


def test_interrupts_are_kept(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    lengths: dict[str, Any] = {"tokens": 320_000, "log_every": 4000}
    whole = suture.train(start(), x, **lengths, **SETTINGS)
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "run"
    settings = SETTINGS | {"progress": interrupt}
    with pytest.raises(suture.TrainingInterrupted) as caught:
        suture.train(start(), x, checkpoint=folder, **lengths, **settings)
    run = caught.value.run
    assert isinstance(run, suture.TrainRun)
    assert run.stopped == "interrupted"
    assert len(run.history) < len(whole.history)
    resumed = suture.resume(folder, x, progress=False)
    assert isinstance(resumed, suture.TrainRun)
    same(resumed, whole)


class Counted:
    """An iterable that counts what was read from it."""

    def __init__(self, x: np.ndarray):
        self.x, self.read = x, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        buffer = np.empty((50, 6), np.float32)
        for low in range(0, len(self.x), 50):
            part = self.x[low : low + 50]
            self.read += len(part)
            buffer[: len(part)] = part
            # The same memory each time.
            yield buffer[: len(part)]


def test_several_are_as_each_by_itself(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    starts = [start(), start(40, seed=2), start(24, seed=3)]
    settings = SETTINGS | {"tokens": 3200, "log_every": 7}
    alone = [suture.train(one, x, **settings) for one in starts]
    together = suture.train(starts, x, **settings)
    for a, b in zip(together, alone, strict=True):
        same(a, b)
    folder = tmp_path / "run"
    rows: list[list[dict[str, Any]]] = []
    with pytest.raises(Stop):
        suture.train(
            starts, x, checkpoint=folder, checkpoint_every=320, callback=stop_after(60), **settings
        )
    # As a kill between two of the checkpoints leaves it.
    for path in (folder / "1").glob("checkpoint-000000000060/*"):
        path.unlink()
    (folder / "1" / "checkpoint-000000000060").rmdir()
    resumed = suture.resume(folder, x, progress=False, callback=rows.append)
    assert isinstance(resumed, list)
    for a, b in zip(resumed, alone, strict=True):
        same(a, b)
    assert [len(row) for row in rows] == [3] * len(rows)
    counted = Counted(x)
    suture.train(starts, counted, **SETTINGS | {"lr_scheduler": "constant"})
    assert counted.read == len(x)


def test_iterables(rng: np.random.Generator, tmp_path: Path, monkeypatch: Any) -> None:
    # Buffers of four batches.
    monkeypatch.setattr("suture._training_data.BUFFER_ROWS", 130)
    x = data(rng)
    settings = {name: value for name, value in SETTINGS.items() if name != "lr_scheduler"}
    whole = suture.train(start(), iter(Counted(x)), log_every=3, **settings)
    assert whole.stopped == "exhausted"
    # 500 rows have 15 whole batches.
    assert [row["steps"] for row in whole.history] == [3, 6, 9, 12, 15]
    for size in (1, 64, 500):
        parts = (x[low : low + size] for low in range(0, 500, size))
        same(suture.train(start(), parts, log_every=3, **settings), whole)
    for stop in (1, 4, 5, 12):
        folder = tmp_path / str(stop)
        with pytest.raises(Stop):
            suture.train(
                start(), iter(Counted(x)), log_every=3, checkpoint=folder,
                checkpoint_every=32 * stop, callback=stop_after(12), **settings,
            )  # fmt: skip
        if stop < 12:
            with pytest.raises(ValueError, match="acts has other values"):
                suture.resume(folder, iter(Counted(x[::-1])), progress=False)
        resumed = suture.resume(folder, iter(Counted(x)), progress=False)
        assert isinstance(resumed, suture.TrainRun)
        same(resumed, whole)
    with pytest.warns(suture.SutureWarning, match="ended after 480 tokens, before tokens = 1000"):
        assert suture.train(start(), iter([x]), tokens=1000, **settings).stopped == "exhausted"
    with pytest.raises(ValueError, match="acts has 20 rows, expected at least batch_size = 32"):
        suture.train(start(), iter([x[:20]]), **settings)
    x[300, 2] = np.nan
    with pytest.raises(ValueError, match=r"acts\[300, 2\] is nan"):
        suture.train(start(), iter([x[:10], x[10:]]), **settings | {"b_dec_init": "keep"})


def test_rows_of_an_iterable_are_seen_once(monkeypatch: Any) -> None:
    monkeypatch.setattr("suture._training_data.BUFFER_ROWS", 12)
    eye = np.eye(40, dtype=np.float32)
    sae = suture.SAE(
        W_enc=eye,
        b_enc=np.zeros(40),
        W_dec=eye,
        b_dec=np.zeros(40),
        k=1,
        apply_b_dec_to_input=False,
    )
    trainer = suture.Trainer(sae, batch_size=4, lr=1e-6)
    # Stopped within a buffer; another iterable is not taken for its rest.
    trainer.run(iter([eye[:12]]), tokens=4, progress=False)
    seen = trainer.run(iter(eye[12:, None]), log_every=1, progress=False)
    assert [row["dead"] for row in seen] == list(range(32, 4, -4))


def test_stops_at_explained_variance(rng: np.random.Generator) -> None:
    x = data(rng)
    settings = SETTINGS | {"tokens": 32_000, "log_every": 5, "lr_scheduler": "constant"}
    whole = suture.train(start(), x, **settings)
    average = whole.history[20]["explained_variance_average"]
    run = suture.train(start(), x, explained_variance=average, **settings)
    assert run.stopped == "explained_variance"
    first = next(
        i for i, row in enumerate(whole.history) if row["explained_variance_average"] >= average
    )
    assert plain(run.history) == plain(whole.history[: first + 1])


def test_moving_average(rng: np.random.Generator) -> None:
    trainer = suture.Trainer(start(), lr=1e-2)
    losses, variances = [], []
    for _ in range(30):
        batch = data(rng, 40)
        row = trainer.step(batch)
        losses.append(row["loss"])
        variances.append(batch.var(axis=0, dtype=np.float64).sum())
        weights = 0.95 ** np.arange(len(losses))[::-1]
        expected = 1 - np.average(losses, weights=weights) / np.average(variances, weights=weights)
        assert row["explained_variance_average"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("subtract", [False, True])
def test_operations_are_those_that_torch_counts(subtract: bool, rng: np.random.Generator) -> None:
    d_in, d_sae, k, tokens = 48, 640, 8, 128
    config = TopKTrainingSAEConfig(
        d_in=d_in, d_sae=d_sae, k=k, apply_b_dec_to_input=subtract, device="cpu"
    )
    theirs = TopKTrainingSAE(config)
    x = rng.normal(size=(tokens, d_in)).astype(np.float32)
    given = TrainStepInput(
        sae_in=torch.from_numpy(x), coefficients={}, dead_neuron_mask=None, n_training_steps=0,
        is_logging_step=False,
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        theirs.training_forward_pass(given).loss.backward()
    sae = suture.SAE.init(d_in, d_sae, k=k, apply_b_dec_to_input=subtract)
    trainer = suture.Trainer(sae)
    row = trainer.step(x)
    assert row["flops"] == pytest.approx(counter.get_total_flops(), rel=0.01)
    # Executed: the encoder product and the sparse ones as torch counts products; beside them what
    # goes over every weight or every input once.
    active = row["l0"] * tokens
    with FlopCounterMode(display=False) as counter:
        _ = torch.ones(tokens, d_in) @ torch.ones(d_in, d_sae)
        for _ in range(5):
            _ = torch.ones(round(active), d_in) @ torch.ones(d_in, 1)
    rest = row["flops_executed"] - counter.get_total_flops()
    weights = 2 * d_in * d_sae + d_in + d_sae
    assert 10 * weights < rest - 7 * d_in * tokens < 20 * weights
    assert trainer.step(x)["flops"] == 2 * row["flops"]


RESUME = """
import sys
import numpy as np
import suture
suture.resume(sys.argv[2], np.load(sys.argv[1]), progress=False)
"""


def test_other_kernels_are_told(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    np.save(tmp_path / "x.npy", x)
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        suture.train(
            start(),
            x,
            tokens=640,
            log_every=2,
            checkpoint=folder,
            callback=stop_after(8),
            **SETTINGS,
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", RESUME, str(tmp_path / "x.npy"), str(folder)],
        env=os.environ | {"SUTURE_KERNELS": "portable"},
        capture_output=True,
        text=True,
        check=True,
    )
    used = suture.cpu_info().kernels
    told = f"the run used {used} kernels, here it uses portable" in done.stderr
    assert told == (used != "portable")


CHILD = """
import sys
import numpy as np
import suture
x = np.load(sys.argv[1])
settings = dict(batch_size=32, lr=1e-2, log_every=3, progress=False)
sae = suture.SAE.init(6, 24, k=3, seed=1)
"""
TRAIN = (
    CHILD
    + """
print("ready", flush=True)
suture.train(sae, x, tokens=10**9, checkpoint=sys.argv[2], checkpoint_every=64, **settings)
"""
)


def test_a_kill_at_any_moment_leaves_a_checkpoint(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    np.save(tmp_path / "x.npy", x)
    chance = random.Random(0)
    for attempt in range(4):
        folder = tmp_path / f"run{attempt}"
        child = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(tmp_path / "x.npy"), str(folder)],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        # Once there is a first checkpoint, the run is nearly always at writing one.
        limit = time.monotonic() + 60
        while not list(folder.glob("checkpoint-*")) and time.monotonic() < limit:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        [*_, last] = sorted(folder.glob("checkpoint-*"))
        suture.SAE.load(last)
        steps = int(last.name.removeprefix("checkpoint-"))
        rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        reached = max([steps] + [row["steps"] for row in rows])
        assert reached - steps <= 2 + 3
        target = (steps + 9) * 32
        resumed = suture.resume(folder, x, tokens=target, progress=False)
        assert isinstance(resumed, suture.TrainRun)
        whole = suture.train(
            suture.SAE.init(6, 24, k=3, seed=1), x, tokens=target, batch_size=32, lr=1e-2,
            log_every=3, progress=False,
        )  # fmt: skip
        same(resumed, whole)


def test_a_full_disk_leaves_the_old_checkpoint(rng: np.random.Generator, tmp_path: Path) -> None:
    x = data(rng)
    folder = tmp_path / "run"
    sizes = {"limit": False}

    def fill(row: dict[str, Any]) -> None:
        # Files of the checkpoint are larger than that: writing fails with EFBIG.
        if row["steps"] >= 8 and not sizes["limit"]:
            sizes["limit"] = True
            resource.setrlimit(resource.RLIMIT_FSIZE, (4500, before[1]))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match=r"cannot write .*trainer.safetensors: File too large"):
            suture.train(
                start(), x, tokens=3200, log_every=2, checkpoint=folder, checkpoint_every=128,
                callback=fill, **SETTINGS,
            )  # fmt: skip
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(folder.glob(".suture-tmp*"))
    resumed = suture.resume(folder, x, progress=False)
    assert isinstance(resumed, suture.TrainRun)
    same(resumed, suture.train(start(), x, tokens=3200, log_every=2, **SETTINGS))


def test_divergence_names_the_last_checkpoint(rng: np.random.Generator, tmp_path: Path) -> None:
    x = 1e4 * data(rng)
    folder = tmp_path / "run"
    with pytest.raises(
        suture.NumericalError, match=r"the last checkpoint is .*checkpoint-0000"
    ) as e:
        suture.train(
            start(), x, tokens=10**6, lr=1e6, batch_size=32, log_every=1, checkpoint=folder,
            checkpoint_every=32, progress=False,
        )  # fmt: skip
    name = str(e.value).rsplit(" ", 1)[1]
    assert suture.SAE.load(name).d_sae == 24

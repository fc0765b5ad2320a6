# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C, in a process of its own: stops within a quarter of a second, leaves all usable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import suture

PRELUDE = """
import sys, time
import numpy as np
import suture
rng = np.random.default_rng(0)
def ready():
    print("ready", flush=True)
def stopped(kind=KeyboardInterrupt):
    print("stopped", time.clock_gettime(time.CLOCK_MONOTONIC), flush=True)
"""

# Each would take many seconds.
CALLS = {
    "update": """
h = [rng.normal(size=(100_000, 256)).astype(np.float32)] * 100
moments = suture.Moments(d_a=256, d_b=256)
ready()
try:
    moments.update(h, h)
except KeyboardInterrupt:
    stopped()
assert moments.tokens == 0
assert moments.update(h[0][:100], h[0][:100]).tokens == 100
""",
    "update of one array": """
h = rng.normal(size=(400_000, 512)).astype(np.float32)
moments = suture.Moments(d_a=512, d_b=512)
ready()
try:
    while True:
        moments.update(h, h)
except KeyboardInterrupt:
    stopped()
before = moments.tokens
assert before % len(h) == 0
assert moments.update(h[:100], h[:100]).tokens == before + 100
""",
    "fit": """
h = rng.normal(size=(3000, 640)).astype(np.float32)
g = (h @ rng.normal(size=(640, 640)) / 25 + rng.normal(size=(3000, 640))).astype(np.float32)
moments = suture.Moments(h, g)
import warnings
warnings.simplefilter("ignore")
ready()
try:
    while True:
        suture.Stitch.fit(moments, alpha=10, tolerance=1e-300, max_iterations=1_000_000)
except KeyboardInterrupt:
    stopped()
assert moments.tokens == 3000
assert suture.Stitch.fit(moments, alpha=0).d_a == 640
""",
    "encode": """
sae = suture.SAE.init(512, 16384, k=32)
x = rng.normal(size=(50_000, 512)).astype(np.float32)
ready()
try:
    while True:
        sae.encode(x)
except KeyboardInterrupt:
    stopped()
assert len(sae.encode(x[:10])) == 10
""",
    "call": """
sae = suture.SAE.init(512, 16384, k=32)
x = rng.normal(size=(50_000, 512)).astype(np.float32)
ready()
try:
    while True:
        sae(x)
except KeyboardInterrupt:
    stopped()
assert len(sae(x[:10])) == 10
""",
    "evaluate": """
sae = suture.SAE.init(512, 16384, k=32)
x = rng.normal(size=(50_000, 512)).astype(np.float32)
evaluation = suture.Evaluation(sae).update(x[:10])
ready()
try:
    while True:
        evaluation.update(x)
except KeyboardInterrupt:
    stopped()
before = evaluation.metrics["tokens"]
assert before % len(x) == 10
assert evaluation.update(x[:10]).metrics["tokens"] == before + 10
""",
    "train": """
sae = suture.SAE.init(256, 8192, k=32)
x = rng.normal(size=(20_000, 256)).astype(np.float32)
try:
    # Before the first step there is no run to leave behind.
    suture.train(sae, x, tokens=10**12, log_every=1,
                 callback=lambda row: row["steps"] == 1 and ready())
except KeyboardInterrupt as error:
    stopped()
    run = error.run
assert isinstance(run, suture.TrainRun) and run.sae.d_sae == 8192
run.trainer.run(x, tokens=4096)
assert run.trainer.history[-1]["tokens"] >= 4096
""",
}


@pytest.mark.parametrize("what", list(CALLS))
def test_interrupt(what: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + CALLS[what]],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(suture.__file__).parents[1])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.4)
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        process.send_signal(signal.SIGINT)
        word, ended = process.stdout.readline().split()
        assert word == "stopped"
        process.communicate(timeout=120)
        assert process.returncode == 0
        # A quarter of a second is promised of a machine that is not otherwise busy.
        spare = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
        assert float(ended) - began < 0.25 * spare
    finally:
        process.kill()


def test_a_callback_stops_by_raising(rng: np.random.Generator) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    sae = suture.SAE.init(256, 4096, k=16)
    x = rng.normal(size=(20_000, 256)).astype(np.float32)
    for call in (
        sae.encode,
        sae,
        sae.evaluate,
        lambda acts, progress: suture.train(sae, acts, progress=progress),
    ):
        with pytest.raises(Enough):
            call(x, progress=stop)
        assert len(sae(x[:3])) == 3

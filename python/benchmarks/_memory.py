# SPDX-License-Identifier: Apache-2.0
"""Peak memory of ours in training, in a process of its own (Linux)."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _activations import Float32, Setting

import suture


def measure(setting: Setting, batch: Float32) -> dict[str, Any]:
    """Bytes that training adds at most to a process that holds the batch and the start already,
    and what it should: parameters, twice as much for Adam, 10 %, and the batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.npy"
        np.save(path, batch)
        done = subprocess.run(
            [sys.executable, __file__, str(path), str(setting.d_sae), str(setting.k)],
            check=True,
            capture_output=True,
            text=True,
        )
    peak = json.loads(done.stdout)
    parameters = 4 * (2 * setting.d_in * setting.d_sae + setting.d_in + setting.d_sae)
    state = 3 * parameters
    allowed = round(1.1 * state) + batch.nbytes
    return {"peak": peak, "state": state, "batch": batch.nbytes, "allowed": allowed}


def describe(found: dict[str, Any]) -> str:
    """In words."""
    return (
        f"  peak {found['peak'] / 1e6:.0f} MB above the start; parameters and Adam "
        f"{found['state'] / 1e6:.0f} MB, with 10 % and the batch {found['allowed'] / 1e6:.0f} MB: "
        f"{found['peak'] / found['allowed']:.2f} of that"
    )


def _now() -> int:
    found = re.search(r"^VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _peak() -> int:
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return 1024 * (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def main(path: str, d_sae: str, k: str) -> None:
    """The child: three steps."""
    batch = np.load(path)
    sae = suture.SAE.init(batch.shape[1], int(d_sae), k=int(k))
    before = _now()
    # Sets the peak back to what is there now.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    trainer = suture.Trainer(sae, batch_size=len(batch))
    for _ in range(3):
        trainer.step(batch)
    print(_peak() - before)


if __name__ == "__main__":
    main(*sys.argv[1:])

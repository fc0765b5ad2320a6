# SPDX-License-Identifier: Apache-2.0
"""What `suture.carry` costs, beside the steps it is made of: moments of B's rows, one encoding of
A's rows, two of B's, and the refit of the decoder. Made-up rows that share some directions.

    python python/benchmarks/carry.py [--sizes small,real] [--tokens 200000]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from _activations import Float32
from _pairs import describe, machine, say

import suture

SIZES = {
    "small": (128, 256, 4096, 32),
    "real": (576, 640, 16384, 32),
    "gemma2": (2304, 3584, 65536, 64),
}


def timed(body: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    body()
    return time.perf_counter() - wall, time.process_time() - cpu


def encode(sae: suture.SAE, rows: Float32) -> None:
    for start in range(0, len(rows), 4096):
        sae.encode(rows[start : start + 4096], progress=False)


def measure(name: str, n: int) -> None:
    d_a, d_b, d_sae, k = SIZES[name]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((n, d_a), dtype=np.float32)
    b = a @ rng.standard_normal((d_a, d_b), dtype=np.float32) / np.float32(np.sqrt(d_a))
    b += np.float32(0.3) * rng.standard_normal((n, d_b), dtype=np.float32)
    sae_a, sae_b = suture.SAE.init(d_a, d_sae, k=k), suture.SAE.init(d_b, d_sae, k=k)
    half = d_b // 2
    parts = {
        "moments of B": timed(lambda: suture.Moments(b[:, :half], b[:, half:], progress=False)),
        "encoding of A": timed(lambda: encode(sae_a, a)),
        "two of B": timed(lambda: [encode(sae_b, b) for _ in range(2)]),
        "refit": timed(lambda: suture.refit_decoder(sae_b, b, progress=False)),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = timed(lambda: suture.carry(sae_a, a, b, progress=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    together = sum(seconds for _, seconds in parts.values())
    say(f"\n{name}: {d_a} -> {d_b}, {d_sae} latents, k {k}, {n} pairs")
    for part, seconds in parts.items():
        say(f"  {part:14} {seconds[0]:8.2f} s wall {seconds[1]:8.2f} s CPU")
    say(f"  {'together':14} {'':15} {together:8.2f} s CPU")
    say(f"  {'carry':14} {wall:8.2f} s wall {cpu:8.2f} s CPU, {cpu / together:.2f} times that")
    say(f"  {n / wall:.0f} pairs/s, at the peak {(peak - before) / 1e6:.2f} GB more than before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="small,real", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--tokens", type=int, default=200_000)
    options = parser.parse_args()
    say(describe(machine()))
    for name in options.sizes.split(","):
        measure(name, options.tokens)


if __name__ == "__main__":
    main()

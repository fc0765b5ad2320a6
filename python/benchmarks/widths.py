# SPDX-License-Identifier: Apache-2.0
"""Moments, stitches and SVCCA at the widths of pretrained pairs, from made-up activations.

    python python/benchmarks/widths.py                       all pairs but the widest
    python python/benchmarks/widths.py --pairs gemma2        the widest: minutes, and 5 GB
    python python/benchmarks/widths.py --base ../old/python  beside another build, in turn

Rows are made up to be like residual streams: signals that both streams share and noise of each,
variances falling as a power of their rank, three directions of massive variance, and streams that
differ in scale. `--base` names the `python` folder of another checkout that is built in place; both
get the same rows, each divided by its stream's scale, so that the paper's raw objective, which
older builds have alone, is the scaled one. CPU time is of all threads: on a machine that others
use, it is what to compare. The peak of memory is that of the fit's process, less what it had before
the fit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAIRS = {
    "real": ("SmolLM2-135M, Gemma-3-270M", 576, 640),
    "pythia": ("Pythia-70m, Pythia-160m", 512, 768),
    "gpt2": ("GPT-2 small, medium", 768, 1024),
    "llama": ("Llama-3.2-1B, 3B", 2048, 3072),
    "gemma2": ("Gemma-2-2b, 9b", 2304, 3584),
}
GRID_ROWS, GRID_LAYERS = 20_000, 5

Float32 = npt.NDArray[np.float32]


def made_up(tokens: int, d_a: int, d_b: int, seed: int = 0) -> tuple[Float32, Float32]:
    """Paired rows of two streams of widths d_a and d_b."""
    rng = np.random.default_rng(seed)
    shared = min(d_a, d_b) * 3 // 4
    spectrum = np.arange(1, max(d_a, d_b) + 1, dtype=np.float32) ** -0.5
    mixes = [rng.standard_normal((shared + d, d), np.float32) for d in (d_a, d_b)]
    for mix in mixes:
        mix[:shared] *= spectrum[:shared, None]
        mix[shared:] *= 0.6 * spectrum[: len(mix) - shared, None]
        mix[:, rng.choice(mix.shape[1], 3, replace=False)] *= 12
    out = [np.empty((tokens, d), np.float32) for d in (d_a, d_b)]
    for start in range(0, tokens, 4096):
        count = min(4096, tokens - start)
        signal = rng.standard_normal((count, shared), np.float32)
        for rows, mix in zip(out, mixes, strict=True):
            own = rng.standard_normal((count, len(mix) - shared), np.float32)
            np.matmul(np.hstack([signal, own]), mix, out=rows[start : start + count])
    out[1] *= 40
    return out[0], out[1]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What `work` returns, its wall time and its CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def peak() -> float:
    """Most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def worker(folder: Path, what: str, alpha: float) -> dict[str, Any]:
    """One measurement with whichever suture is on the path."""
    import suture

    every: dict[str, Any] = {"rows": suture.Rows.all()} if hasattr(suture, "Rows") else {}
    a = np.load(folder / "a.npy", mmap_mode="r")
    b = np.load(folder / "b.npy", mmap_mode="r")
    cpu = suture.cpu_info()
    found: dict[str, Any] = {
        "path": str(Path(suture.__file__).parents[1]),
        "kernels": cpu.kernels,
        "blas": cpu.blas_core,
        "threads": cpu.threads,
    }
    if what == "grid":
        rng = np.random.default_rng(1)

        def noisy(rows: Float32, i: int) -> Float32:
            noise = rng.standard_normal(rows.shape, np.float32)
            mixed: Float32 = rows + np.float32(0.1 * i) * rows.std(0) * noise
            return mixed

        layers = [[noisy(rows[:GRID_ROWS], i) for i in range(GRID_LAYERS)] for rows in (a, b)]
        grid, found["wall"], found["cpu"] = timed(
            lambda: suture.svcca_grid(*layers, progress=False, **every)
        )
        found["value"] = float(grid.mean())
        return found
    # In memory before the clock starts.
    a, b = np.array(a), np.array(b)
    moments, found["moments_wall"], found["moments_cpu"] = timed(
        lambda: suture.Moments(a, b, progress=False, **every)
    )
    before = peak()
    stitch, found["wall"], found["cpu"] = timed(
        lambda: suture.Stitch.fit(moments, alpha=alpha, progress=False)
    )
    report = stitch.report
    assert report is not None
    found["memory"] = peak() - before
    found["value"] = report.after.total
    found["steps"] = report.iterations
    found["gradient"] = report.gradient_norm
    return found


def dgemm_rate(size: int = 2048) -> float:
    """GFLOP/s of NumPy's float64 product on all processors, the best of three."""
    x = np.random.default_rng(0).standard_normal((size, size))
    return max(2e-9 * size**3 / timed(lambda: x @ x)[1] for _ in range(4))


def measure(base: Path | None, folder: Path, what: str, alpha: float) -> dict[str, Any]:
    """`worker` in a process of its own."""
    environment = dict(os.environ)
    if base is not None:
        environment["PYTHONPATH"] = str(base.resolve())
    command = [sys.executable, __file__, "--worker", str(folder), what, str(alpha)]
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def cpu_name() -> str:
    """As the kernel calls it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown CPU"


def say(text: str) -> None:
    """Print at once: the runs take a while."""
    print(text, flush=True)


def main() -> int:
    """Run what is asked for."""
    if sys.argv[1:2] == ["--worker"]:
        print(json.dumps(worker(Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--pairs", default="real,pythia,gpt2", help=f"of {', '.join(PAIRS)} (default %(default)s)"
    )
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=1, help="of each fit, builds in turn")
    parser.add_argument("--base", type=Path, help="python folder of another checkout, built")
    parser.add_argument("--no-grid", action="store_true", help="leave out svcca_grid")
    parser.add_argument("--json", type=Path, help="write the results there")
    arguments = parser.parse_args()
    names = arguments.pairs.split(",")
    for name in names:
        if name not in PAIRS:
            parser.error(f"--pairs has {name!r}, expected some of {', '.join(PAIRS)}")
    say(f"{cpu_name()}, {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}")
    builds: dict[str, Path | None] = {"this": None}
    if arguments.base is not None:
        builds["base"] = arguments.base
    results = []
    for name in names:
        title, d_a, d_b = PAIRS[name]
        tokens = max(GRID_ROWS, 4 * (d_a + d_b))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for side, rows in zip("ab", made_up(tokens, d_a, d_b), strict=True):
                np.save(folder / f"{side}.npy", rows / rows.std(dtype=np.float64))
            say(f"\n{title}: {d_a} and {d_b} dimensions, {tokens} rows, alpha {arguments.alpha:g}")
            rate = dgemm_rate()
            runs: dict[str, list[dict[str, Any]]] = {build: [] for build in builds}
            for _ in range(arguments.repeats):
                for build, path in builds.items():
                    runs[build].append(measure(path, folder, "fit", arguments.alpha))
            for build, found in runs.items():
                one = found[0]
                wall, cpu = (statistics.median(x[key] for x in found) for key in ("wall", "cpu"))
                flops = tokens * (d_a + d_b) ** 2 / 1e9
                seconds = statistics.median(x["moments_wall"] for x in found)
                say(
                    f"  {build}: {one['path']}, kernels {one['kernels']}, OpenBLAS {one['blas']}, "
                    f"{one['threads']} threads\n"
                    f"    moments {seconds:.2f} s, {flops / seconds:.0f} GFLOP/s, "
                    f"{rate * seconds / flops:.2f} times what NumPy's dgemm takes ({rate:.0f})\n"
                    f"    fit {wall:.2f} s, {cpu:.2f} CPU s, {one['steps']} steps, objective "
                    f"{one['value']:.9f}, gradient {one['gradient']:.1e}, "
                    f"{one['memory']:.2f} GB over the moments"
                )
            entry: dict[str, Any] = {"pair": name, "dgemm": rate, "fit": runs}
            if arguments.base is not None:
                ratios = [
                    statistics.median(x[key] for x in runs["base"])
                    / statistics.median(x[key] for x in runs["this"])
                    for key in ("wall", "cpu")
                ]
                gap = runs["this"][0]["value"] / runs["base"][0]["value"] - 1
                say(
                    f"  base / this: {ratios[0]:.1f} in wall time, {ratios[1]:.1f} in CPU time; "
                    f"objectives differ by {gap:+.1e}"
                )
            if not arguments.no_grid:
                grids = {
                    build: measure(path, folder, "grid", 0.0) for build, path in builds.items()
                }
                for build, one in grids.items():
                    say(
                        f"  {build}: svcca_grid of {GRID_LAYERS} x {GRID_LAYERS} layers, "
                        f"{GRID_ROWS} rows: {one['wall']:.2f} s, {one['cpu']:.2f} CPU s, mean "
                        f"{one['value']:.9f}"
                    )
                entry["grid"] = grids
            results.append(entry)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

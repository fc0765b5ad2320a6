# SPDX-License-Identifier: Apache-2.0
"""Probes: `Probe.fit` and a sweep of k-sparse probes against scikit-learn's LogisticRegression.

    python python/benchmarks/probe.py

Both fit the same samples, in turns after a warm-up; a ratio is the median over neighbouring pairs.
scikit-learn runs twice: by default (lbfgs, tolerance 1e-4, on the samples as they are), and
on float64 with its tolerance tightened until its gradient is as small as ours. `off` is how far the
default solution's coefficients are from ours, relative to the largest. Samples are like pooled SAE
activations: not negative, most of them small, some features telling the classes apart.

A sweep is what section 4 of the paper does on each data set: features by the difference of class
means, then a probe for each k, on 4000 samples with 1000 features.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from _pairs import describe, interleave, load, machine, say, set_threads
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

import suture

KS = (1, 2, 5, 10, 20, 50)
# Samples, features, whether they are sparse.
SIZES = (
    (4000, 10, False),
    (4000, 50, False),
    (4000, 200, False),
    (4000, 1000, False),
    (4000, 4096, False),
    (40_000, 256, False),
    (500, 4096, False),
    (4000, 1000, True),
    (4000, 16_384, True),
)


def pooled(n: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples (n, d), float32, and labels: means over 64 tokens of 32 active latents."""
    rng = np.random.default_rng(seed)
    rate = 1 / np.arange(1, d + 1)
    rate = rng.permutation(rate / rate.sum()) * 64 * min(32, d)
    y = np.arange(n) % 2 == 1
    # Latents fire more often in one class, some by much.
    tilt = np.exp(0.3 * rng.standard_t(3, size=d).clip(-6, 6))
    counts = rng.poisson(np.where(y[:, None], rate * tilt, rate).clip(0, 64))
    X = counts * rng.lognormal(0, 0.5, size=(n, d)) / 64
    return X.astype(np.float32), y


def one_fit(n: int, d: int, sparse: bool, pairs: int, budget: float) -> dict[str, Any]:
    """A fit to all features."""
    X, y = pooled(n, d, d)
    samples = sp.csr_array(X) if sparse else X
    exact = samples.astype(np.float64)
    probe = suture.Probe.fit(samples, y, progress=False)
    assert probe.report is not None
    # scikit-learn's tolerance is for the largest slope of the mean loss.
    tight = max(probe.report.gradient_norm, 1e-6) / n

    def ours(i: int) -> object:
        return suture.Probe.fit(samples, y, progress=False)

    def theirs(i: int) -> LogisticRegression:
        return LogisticRegression(C=1, max_iter=1000).fit(samples, y)

    def theirs_exactly(i: int) -> LogisticRegression:
        return LogisticRegression(C=1, max_iter=100_000, tol=tight).fit(exact, y)

    default = interleave(ours, theirs, warm_up=1, pairs=pairs, budget=budget)
    equal = interleave(ours, theirs_exactly, warm_up=0, pairs=max(3, pairs // 3), budget=budget)
    scale = np.abs(probe.weights).max()
    return {
        "n": n, "d": d, "sparse": sparse, "seconds": float(np.median(default.ours)),
        "sklearn_seconds": float(np.median(default.theirs)), "ratio": default.ratio,
        "sklearn_exact_seconds": float(np.median(equal.theirs)), "exact_ratio": equal.ratio,
        "off": float(np.abs(theirs(0).coef_ - probe.weights).max() / scale),
        "exactly_off": float(np.abs(theirs_exactly(0).coef_ - probe.weights).max() / scale),
        "iterations": probe.report.iterations, "load": load(),
    }  # fmt: skip


def sweep(pairs: int, budget: float) -> dict[str, Any]:
    """k-sparse probes for each k, on eight data sets."""
    data = [pooled(4000, 1000, seed) for seed in range(8)]

    def ours(i: int) -> list[dict[int, suture.Probe]]:
        return [suture.Probe.fit_sparse(X, y, k=KS, progress=False) for X, y in data]

    def judged(i: int, **options: Any) -> list[list[LogisticRegression]]:
        found = []
        for X, y in data:
            difference = np.abs(X[y].mean(0) - X[~y].mean(0))
            order = np.argsort(-difference, kind="stable")
            found.append(
                [
                    LogisticRegression(C=1, max_iter=1000, **options).fit(X[:, order[:k]], y)
                    for k in KS
                ]
            )
        return found

    def exactly(i: int) -> object:
        return judged(i, tol=1e-9)

    default = interleave(ours, judged, warm_up=1, pairs=pairs, budget=budget)
    data64 = [(X.astype(np.float64), y) for X, y in data]
    own, other = ours(0), judged(0)
    differences = [
        np.abs(np.sort(probe.weights[probe.weights != 0]) - np.sort(judge.coef_[0])).max()
        for probes, judges in zip(own, other, strict=True)
        for probe, judge in zip(probes.values(), judges, strict=True)
        if np.count_nonzero(probe.weights) == judge.coef_.size
    ]
    data[:] = data64
    equal = interleave(ours, exactly, warm_up=0, pairs=max(3, pairs // 3), budget=budget)
    return {
        "seconds": float(np.median(default.ours)), "ratio": default.ratio,
        "sklearn_seconds": float(np.median(default.theirs)), "exact_ratio": equal.ratio,
        "sklearn_exact_seconds": float(np.median(equal.theirs)),
        "off": float(max(differences)), "load": load(),
    }  # fmt: skip


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=9, help="at most (default 9)")
    parser.add_argument(
        "--budget", type=float, default=20, help="seconds a row may take beyond three pairs"
    )
    parser.add_argument("--quick", action="store_true", help="sizes up to 1000 features, 3 pairs")
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="of both (default: all processors; 1 on a busy one, where OpenBLAS waits for itself)",
    )
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    if options.quick:
        options.pairs = 3
    warnings.simplefilter("ignore")
    set_threads(options.threads)
    # scikit-learn's products are those of NumPy's and SciPy's own OpenBLAS.
    threadpool_limits(suture.cpu_info().threads)
    results: dict[str, Any] = {"machine": machine(), "fits": []}
    say(describe(results["machine"]))
    say("\none fit, milliseconds; ratio: theirs to ours")
    say(
        f"  {'samples':>8}{'features':>9}  {'':6}{'ours':>9}{'sklearn':>10}{'ratio':>7}"
        f"{'exact':>10}{'ratio':>7}{'off':>10}{'exact off':>11}{'load':>6}"
    )
    for n, d, sparse in SIZES:
        if options.quick and d > 1000:
            continue
        row = one_fit(n, d, sparse, options.pairs, options.budget)
        results["fits"].append(row)
        say(
            f"  {n:8}{d:9}  {'sparse' if sparse else 'dense':6}{1e3 * row['seconds']:9.2f}"
            f"{1e3 * row['sklearn_seconds']:10.2f}{row['ratio']:7.2f}"
            f"{1e3 * row['sklearn_exact_seconds']:10.2f}{row['exact_ratio']:7.2f}"
            f"{row['off']:10.1e}{row['exactly_off']:11.1e}{row['load']:6.1f}"
        )
    row = results["sweep"] = sweep(options.pairs, options.budget)
    say(
        f"\nsweep k = {', '.join(map(str, KS))} on 8 data sets of 4000 x 1000, selection included: "
        f"ours {1e3 * row['seconds']:.0f} ms, sklearn {1e3 * row['sklearn_seconds']:.0f} ms "
        f"(ratio {row['ratio']:.1f}), with tol = 1e-9 {1e3 * row['sklearn_exact_seconds']:.0f} ms "
        f"(ratio {row['exact_ratio']:.1f}); coefficients of the default differ by up to "
        f"{row['off']:.1e}; load {row['load']:.1f}"
    )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

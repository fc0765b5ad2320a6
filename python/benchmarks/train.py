# SPDX-License-Identifier: Apache-2.0
"""One training step on cached activations: Suture against SAELens, dictionary_learning, sparsify,
and against the dense encoder product alone.

    python python/benchmarks/train.py                         both settings, all architectures
    python python/benchmarks/train.py --quick                 a first idea, in a minute or two
    python python/benchmarks/train.py --acts acts.npy         (N, d_in) rows of your own
    python python/benchmarks/train.py --setting 1 --threads 1,2 --memory --linear

All get the same float32 batches and batch size, and all processors. What a step of each holds is
said in _peers.py: each goes through its own trainer's interface, with its own optimiser and
defaults; no latent has been dead long enough for anybody's auxiliary loss. Steps are taken in turns
(ours, theirs, ours, …) after a warm-up; the ratio is the median over neighbouring pairs, so that
what else runs on the machine tells on both. JumpReLU starts at thresholds at which k latents a
token are active, with small learning rates, so that they stay about as many; L0 is stated as it is
at the end.

Without --acts the rows are synthetic: sparse sums of random directions with an offset, noise and a
few outlying dimensions (_activations.py). Speed depends on them only through which latents fire.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _memory
from _activations import SETTINGS, SYNTHETIC, Float32, Setting, batches
from _pairs import describe, interleave, load, machine, say, seconds, set_threads
from _peers import PEERS, NotThere, Suture

import suture

ARCHITECTURES = {"topk": "TopK", "batchtopk": "BatchTopK", "jumprelu": "JumpReLU"}
COLUMNS = (
    f"  {'':30}{'ours':>11}{'theirs':>11}{'ratio':>8}{'L0 ours':>9}{'theirs':>8}"
    f"{'pairs':>7}{'load':>6}"
)


def race(
    setting: Setting, data: list[Float32], architecture: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """All peers in one architecture; prints a row as soon as it is there."""
    rows: list[dict[str, Any]] = []
    ours: Suture | None = None
    missing = ""
    try:
        ours = Suture(setting, architecture, data)
    except NotThere as error:
        missing = str(error)
        say(f"  {ARCHITECTURES[architecture]}: not supported by suture: {missing}")
    for name in options.peers:
        try:
            peer = PEERS[name](setting, architecture, data)
        except NotThere as error:
            # What a peer does not have is no news, but what is not installed is.
            if "installed" in str(error):
                say(f"  {label(architecture, name):30}{error}")
            continue
        first = ours.step if ours else lambda i: None
        found = interleave(
            first, peer.step, warm_up=options.warm_up, pairs=options.pairs, budget=options.budget
        )
        own, rate = found.rates(setting.batch)
        row = {
            "architecture": architecture, "peer": name, **asdict(found),
            "tokens_per_second": own if ours else None, "peer_tokens_per_second": rate,
            "ratio": found.ratio if ours else None, "l0": ours.l0() if ours else None,
            "peer_l0": peer.l0(), "load": load(),
        }  # fmt: skip
        if not ours:
            row |= {"ours": None, "not_supported": missing}
        rows.append(row)
        say(line(row))
        del peer
        gc.collect()
    return rows


def label(architecture: str, peer: str) -> str:
    """What a row is about."""
    return f"{ARCHITECTURES[architecture]} {peer}"


def line(row: dict[str, Any]) -> str:
    """A row of the table."""

    def cell(value: float | None, width: int, form: str) -> str:
        return f"{'-' if value is None else format(value, form):>{width}}"

    return (
        f"  {label(row['architecture'], row['peer']):30}"
        + cell(row["tokens_per_second"], 11, ",.0f")
        + cell(row["peer_tokens_per_second"], 11, ",.0f")
        + cell(row["ratio"], 8, ".2f")
        + cell(row["l0"], 9, ".1f")
        + cell(row["peer_l0"], 8, ".1f")
        + cell(len(row["theirs"]), 7, "d")
        + cell(row["load"], 6, ".1f")
    )


def threads(
    setting: Setting, data: list[Float32], counts: list[int], pairs: int
) -> dict[int, float]:
    """Tokens per second of ours with each number of threads, measured in turns."""
    ours = Suture(setting, "topk", data)
    laps: dict[int, list[float]] = {count: [] for count in counts}
    for i in range(pairs + 1):
        for count in counts:
            suture.set_threads(count)
            ours.step(i)
            lap = seconds(ours.step, i)
            if i:
                laps[count].append(lap)
    base = statistics.median(laps[counts[0]])
    for count in counts:
        own = statistics.median(laps[count])
        say(
            f"  {count} thread{'s'[: count - 1]}: {setting.batch / own:,.0f} tokens/s, "
            f"{base / own:.2f} times that of {counts[0]}; load {load():.1f}"
        )
    return {count: setting.batch / statistics.median(laps[count]) for count in counts}


def linear(setting: Setting, data: list[Float32], pairs: int) -> float:
    """Seconds a token over 8 batches to those over 2, by `Trainer.run`."""
    sae = Suture(setting, "topk", data).trainer.sae

    def run(count: int) -> None:
        suture.Trainer(sae, batch_size=setting.batch).run(
            data, tokens=count * setting.batch, progress=False
        )

    found = interleave(
        lambda i: run(2), lambda i: run(8), warm_up=1, pairs=pairs, budget=float("inf")
    )
    ratio = found.ratio / 4
    say(f"  seconds a token, 8 batches to 2: {ratio:.3f}")
    return ratio


def names_of(known: Iterable[str]) -> Callable[[str], list[str]]:
    """A parser of lists such as a,b of known names."""

    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return text.split(",")

    return names


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all", help="sizes")
    parser.add_argument("--acts", type=Path, help="(N, d_in) .npy in place of synthetic rows")
    parser.add_argument(
        "--architectures",
        type=names_of(ARCHITECTURES),
        default=[*ARCHITECTURES],
        help="some of " + ",".join(ARCHITECTURES),
    )
    parser.add_argument(
        "--peers", type=names_of(PEERS), default=[*PEERS], help="some of " + ",".join(PEERS)
    )
    parser.add_argument("--pairs", type=int, default=7, help="of steps, at most (default 7)")
    parser.add_argument("--warm-up", type=int, default=2, help="steps of each before")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds a row may take beyond three pairs"
    )
    parser.add_argument("--quick", action="store_true", help="setting 1, TopK, three pairs")
    parser.add_argument("--threads", help="such as 1,2: ours with each number, in place of peers")
    parser.add_argument("--memory", action="store_true", help="peak of ours, in place of peers")
    parser.add_argument("--linear", action="store_true", help="2 against 8 batches of ours")
    parser.add_argument("--json", type=Path, help="write the results there")
    found = parser.parse_args()
    if found.quick:
        found.architectures, found.pairs, found.warm_up = ["topk"], 3, 1
        found.setting = "1" if found.setting == "all" else found.setting
    return found


def main() -> int:
    """Run what is asked for."""
    options = parse()
    set_threads(0)
    results: dict[str, Any] = {"machine": machine(), "settings": []}
    say(describe(results["machine"]))
    source = SYNTHETIC if options.acts is None else options.acts.name
    for name in [*SETTINGS] if options.setting == "all" else [options.setting]:
        setting, data = batches(SETTINGS[name], options.acts)
        result: dict[str, Any] = {**asdict(setting), "source": source}
        results["settings"].append(result)
        say(f"\n{setting}; {source}")
        if options.threads:
            counts = [int(text) for text in options.threads.split(",")]
            result["threads"] = threads(setting, data, counts, options.pairs)
            set_threads(0)
        if options.memory:
            result["memory"] = _memory.measure(setting, data[0])
            say(_memory.describe(result["memory"]))
        if options.linear:
            result["linear"] = linear(setting, data, options.pairs)
        if not (options.threads or options.memory or options.linear):
            say("  tokens per second; ratio: how many times as fast ours is\n" + COLUMNS)
            result["rows"] = [
                row
                for architecture in options.architectures
                for row in race(setting, data, architecture, options)
            ]
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

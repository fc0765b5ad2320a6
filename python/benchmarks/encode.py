# SPDX-License-Identifier: Apache-2.0
"""Encoding with a TopK SAE: `SAE.encode` against PyTorch's dense product, bias and topk.

    python python/benchmarks/encode.py
    python python/benchmarks/encode.py --acts acts.npy        (N, d_in) rows of your own

Both encode the same float32 batch with the same weights on all processors, in turns after a
warm-up; the ratio is the median over neighbouring pairs. PyTorch runs `addmm` and an unsorted
`topk` in inference mode, into memory that is there already. `same` is the share of tokens for which
both choose the same latents. Rows are synthetic unless --acts is given (_activations.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _activations import SETTINGS, SYNTHETIC, Float32, Setting, batches
from _pairs import describe, interleave, load, machine, say, set_threads

import suture


def race(setting: Setting, data: list[Float32], pairs: int, budget: float) -> dict[str, Any]:
    """One setting."""
    sae = suture.SAE.init(setting.d_in, setting.d_sae, k=setting.k)
    mean = data[0].mean(0)
    bias = -mean @ sae.W_enc
    sae = suture.SAE(W_enc=sae.W_enc, b_enc=bias, W_dec=sae.W_dec, b_dec=mean, k=setting.k)
    tensors = [torch.from_numpy(batch) for batch in data]
    weight, b_enc = torch.tensor(np.asarray(sae.W_enc)), torch.from_numpy(bias)
    scores = torch.empty(setting.batch, setting.d_sae)
    values = torch.empty(setting.batch, setting.k)
    indices = torch.empty(setting.batch, setting.k, dtype=torch.long)

    def ours(i: int) -> suture.SparseCodes:
        return sae.encode(data[i % len(data)], progress=False)

    def theirs(i: int) -> None:
        with torch.inference_mode():
            torch.addmm(b_enc, tensors[i % len(data)], weight, out=scores)
            torch.topk(scores, setting.k, sorted=False, out=(values, indices))

    found = interleave(ours, theirs, warm_up=2, pairs=pairs, budget=budget)
    theirs(0)
    own_choice = np.sort(np.asarray(ours(0).indices).astype(np.int64), axis=1)
    same = float((own_choice == np.sort(indices.numpy(), axis=1)).all(1).mean())
    own, rate = found.rates(setting.batch)
    return {
        **asdict(setting), **asdict(found), "tokens_per_second": own,
        "torch_tokens_per_second": rate, "ratio": found.ratio, "same": same, "load": load(),
    }  # fmt: skip


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--setting", choices=[*SETTINGS, "all"], default="all", help="sizes")
    parser.add_argument("--acts", type=Path, help="(N, d_in) .npy in place of synthetic rows")
    parser.add_argument("--pairs", type=int, default=11, help="at most (default 11)")
    parser.add_argument(
        "--budget", type=float, default=60, help="seconds a setting may take beyond three pairs"
    )
    parser.add_argument("--quick", action="store_true", help="setting 1, three pairs")
    parser.add_argument("--json", type=Path, help="write the results there")
    options = parser.parse_args()
    if options.quick:
        options.pairs = 3
        options.setting = "1" if options.setting == "all" else options.setting
    set_threads(0)
    results: dict[str, Any] = {"machine": machine(), "settings": []}
    say(describe(results["machine"]))
    source = SYNTHETIC if options.acts is None else options.acts.name
    say(f"\ntokens per second; {source}")
    say(f"  {'':44}{'ours':>11}{'torch':>11}{'ratio':>8}{'same':>10}{'pairs':>7}{'load':>6}")
    for name in [*SETTINGS] if options.setting == "all" else [options.setting]:
        setting, data = batches(SETTINGS[name], options.acts)
        row = race(setting, data, options.pairs, options.budget)
        results["settings"].append({"source": source, **row})
        say(
            f"  {setting!s:44}{row['tokens_per_second']:11,.0f}"
            f"{row['torch_tokens_per_second']:11,.0f}{row['ratio']:8.2f}{row['same']:10.2%}"
            f"{len(row['ours']):7}{row['load']:6.1f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

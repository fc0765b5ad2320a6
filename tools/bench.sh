#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every program of python/benchmarks, each on its own, after saying on what.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=.venv/bin/python
sed -n 's/^model name[^:]*: /CPU: /p' /proc/cpuinfo 2>/dev/null | head -n 1 || true
"$python" - <<'PY'
import numpy as np
import suture
import torch

blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
print(suture.cpu_info())
print("numpy", np.__version__, "with", blas["name"], blas["version"])
print("torch", torch.__version__, "with", torch.backends.cpu.get_cpu_capability())
PY
for program in python/benchmarks/*.py; do
    [[ $(basename "$program") != _* ]] || continue
    say "$program"
    "$python" "$program"
done

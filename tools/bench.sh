#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every program of python/benchmarks, each on its own, after saying on what.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=.venv/bin/python
sed -n 's/^model name[^:]*: /CPU: /p' /proc/cpuinfo 2>/dev/null | head -n 1 || true
"$python" - <<'PY'
import json
import suture
print("Suture:", json.dumps(suture.cpu_info()))
import numpy
numpy.show_config()
import torch
print("torch", torch.__version__, "with", torch.get_num_threads(), "threads,", torch.backends.cpu.get_cpu_capability())
PY
for program in python/benchmarks/*.py; do
    [[ $(basename "$program") != _* ]] || continue
    say "$program"
    "$python" "$program"
done

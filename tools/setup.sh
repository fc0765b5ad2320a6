#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, and only that; a second run takes a moment.
#
#   tools/setup.sh packages   compiler, OpenBLAS, Python with venv (Debian packages), Swift found
#   tools/setup.sh package    + .venv with the Python package, built from this checkout
#   tools/setup.sh run        + what the demo needs (torch, transformers)
#   tools/setup.sh real       run + two pretrained models and llama.cpp
#   tools/setup.sh check      packages + formatters and type checker, and what the types come from
#   tools/setup.sh test       run + check + what the tests compare with
#   tools/setup.sh bench      test + the libraries that benchmarks race against
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=.venv/bin/python

# ---- Debian packages and Swift ----

missing_packages() {
    command -v gcc >/dev/null || echo gcc
    command -v g++ >/dev/null || echo g++
    if command -v gcc >/dev/null; then
        printf '#include <cblas.h>\nint main(void) { return 0; }\n' |
            gcc -x c - -o /dev/null -lopenblas $(pkg-config --cflags --libs openblas 2>/dev/null) 2>/dev/null || echo libopenblas-dev
    else
        echo libopenblas-dev
    fi
    command -v pkg-config >/dev/null || echo pkg-config
    if ! command -v python3 >/dev/null; then
        echo python3 python3-venv python3-dev
    else
        python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
        python3 -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo python3-dev
    fi
}

install_packages() {
    local packages
    packages=$(missing_packages | xargs)
    [[ -n $packages ]] || return 0
    command -v apt-get >/dev/null || fail "missing: $packages (names of Debian packages). Install them and try again."
    local line="apt-get update && apt-get install --yes --no-install-recommends $packages"
    local run=()
    if [[ $(id -u) != 0 ]]; then
        if ! command -v sudo >/dev/null; then
            fail "missing Debian packages. As root, run:
    $line"
        fi
        run=(sudo)
    fi
    say "installing Debian packages: $packages"
    # shellcheck disable=SC2086  # a list of words
    "${run[@]}" apt-get -qq update &&
        "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $packages ||
        fail "the Debian packages could not be installed. As root, run:
    $line"
}

# ---- Python ----

make_venv() {
    if ! "$python" -c '' 2>/dev/null; then
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "Python 3.11 or later is needed; python3 is $(python3 --version 2>&1)."
        say "creating .venv"
        rm -rf .venv
        python3 -m venv .venv
    fi
}

pip_install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# Runs a command unless it succeeded before with the same fingerprint: stamped NAME FINGERPRINT COMMAND…
stamped() {
    local stamp=.venv/stamp-$1 fingerprint=$2
    shift 2
    if [[ ! -f $stamp || $(<"$stamp") != "$fingerprint" ]]; then
        rm -f "$stamp"
        "$@"
        printf '%s\n' "$fingerprint" >"$stamp"
    fi
}

requirements() { # NAME, OPTIONS OF PIP…
    local file=tools/requirements-$1.txt
    stamped "$1" "$(sha256sum <"$file")" install_requirements "$1" "$file" "${@:2}"
}

install_requirements() {
    say "installing Python packages: $(grep -oE '^[A-Za-z0-9_-]+' "$2" | xargs)"
    pip_install "${@:3}" --requirement "$2"
}

# The CPU build of torch: some indexes have it under its local version, elsewhere it is on an index
# of its own; the plain one from PyPI works too, but brings gigabytes of CUDA.
torch_version=2.13.0
install_torch() {
    say "installing torch $torch_version for CPUs"
    pip_install "torch==$torch_version+cpu" 2>/dev/null ||
        pip_install "torch==$torch_version" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null ||
        pip_install "torch==$torch_version"
}

install_package() {
    say "building the Python package"
    pip_install ./python
}

package() {
    local sources
    sources=$(find Package.swift Sources Include python -type f \
        -not -path '*/build/*' -not -path '*/__pycache__/*' -not -path '*.egg-info/*' -not -path '*/.*' \
        -not -path 'python/tests/*' -not -path 'python/benchmarks/*' -not -name '*.so' -print0 |
        sort -z | xargs -0 sha256sum | sha256sum)
    stamped package "$sources" install_package
}

steps=${1:-}
case $steps in
    packages | package | run | real | check | test | bench) ;;
    *) fail "usage: tools/setup.sh packages | package | run | real | check | test | bench" ;;
esac
install_packages
swift=$(find_swift)
PATH=$(dirname "$swift"):$PATH
[[ $steps != packages ]] || exit 0
make_venv
if [[ $steps != package ]]; then
    stamped torch "$torch_version" install_torch
    requirements run
fi
if [[ $steps == real ]]; then
    requirements real --no-deps
fi
if [[ $steps == check || $steps == test || $steps == bench ]]; then
    requirements check
fi
if [[ $steps == test || $steps == bench ]]; then
    requirements test
fi
if [[ $steps == bench ]]; then
    requirements bench --no-deps
fi
if [[ $steps != check ]]; then
    package
fi

#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that can be checked without running tests. Goes on after a failure and lists them all.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

swift=$(find_swift)
tool=.venv/bin
failed=()
step() { # NAME COMMAND…
    local name=$1
    shift
    local output
    if output=$("$@" 2>&1); then
        say "ok: $name"
    else
        printf '%s\n' "$output"
        say "FAILED: $name"
        failed+=("$name")
    fi
}

tracked() { git ls-files -z --cached --others --exclude-standard -- "$@"; }

swift_format() {
    tracked '*.swift' | xargs -0 "$swift" format lint --strict
}

licence_lines() {
    local file bad=0
    while IFS= read -r -d '' file; do
        [[ -f $file ]] || continue
        if ! head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0'; then
            echo "$file has no SPDX line within its first three lines"
            bad=1
        fi
    done < <(tracked '*.swift' '*.c' '*.h' '*.h.in' '*.inc' '*.cpp' '*.py' '*.pyi' '*.sh' '*.toml' '*.modulemap' '*.map' Makefile .ci/run)
    return "$bad"
}

# Nothing that a build makes is committed, nothing but the language models is large.
no_generated_files() {
    local bad
    bad=$(git ls-files -- '*.so' '*.o' '*.pyc' '*.whl' '*.egg-info/*' '.build*' '.venv/*' 'out/*' 'Package.resolved' 'python/build/*')
    bad+=$(git ls-files -z -- ':!examples/models' | xargs -0 sh -c 'find "$@" -maxdepth 0 -type f -size +1M' sh)
    [[ -z $bad ]] || {
        echo "generated or large files are tracked: $bad"
        return 1
    }
}

# Paths of one machine have no place in a file that is for everybody.
no_machine_paths() {
    ! git grep -nE '(/root/|/home/[a-z]|/tmp/wt|/work/)' -- ':!tools/check.sh' ':!examples/models/*.json' ':!*.model'
}

shell_syntax() {
    local file
    for file in tools/*.sh .ci/run; do bash -n "$file"; done
}

# PYTHONPATH is not set: ruff and mypy read the sources, not what is installed.
step "Swift format" swift_format
step "ruff" "$tool/ruff" check python tools examples
step "ruff format" "$tool/ruff" format --check python tools examples
[[ ! -d python/suture ]] || step "mypy" env -C python ../"$tool/mypy" --strict suture
step "mypy tools" "$tool/mypy" --strict tools/header.py
step "header and exported symbols" tools/header.py .build-lib/release --check
step "licence lines" licence_lines
step "no generated files" no_generated_files
step "no paths of one machine" no_machine_paths
step "shell syntax" shell_syntax

[[ ${#failed[@]} == 0 ]] || fail "make check: ${#failed[@]} failed: ${failed[*]}"

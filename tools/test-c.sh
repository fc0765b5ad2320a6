#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the C and C++ programs of Tests/C and the examples against Include/suture.h and
# .build-lib/release/libsuture.so, warnings as errors; and checks that every function of the header
# has a row in the tables of bad inputs.
#
#   tools/test-c.sh              RUNNER="valgrind --error-exitcode=9 -q" runs the tests under it
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

library=.build-lib/release
build=.build-c
mkdir -p "$build"
files=$(mktemp -d "${TMPDIR:-/tmp}/suture-test-c.XXXXXX")
trap 'rm -rf "$files"' EXIT
export LD_LIBRARY_PATH="$PWD/$library${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

warnings=(-Wall -Wextra -Werror -pedantic)
# amx_tiles.c includes a source file of the kernels.
includes=(-IInclude -ISources/CSutureKernels/include)
# A program is a source file, or a folder of them.
compile() { # SOURCE OR FOLDER
    local output sources=("$1")
    output=$build/$(tr /. -- <<<"$1")
    [[ ! -d $1 ]] || sources=("$1"/*.c)
    case ${sources[0]} in
        *.cpp) g++ -std=c++17 -O1 -g "${warnings[@]}" "${includes[@]}" "${sources[@]}" -o "$output" -L"$library" -lsuture -pthread ;;
        *) gcc -std=c11 -O1 -g "${warnings[@]}" "${includes[@]}" "${sources[@]}" -o "$output" -L"$library" -lsuture -lm ;;
    esac
    printf '%s\n' "$output"
}

# The header by itself, strictly, with each compiler at hand.
printf '#include "suture.h"\n' | tee "$files/header.c" >"$files/header.cpp"
check_header() { # COMPILER STANDARD SOURCE
    ! command -v "$1" >/dev/null || "$1" "$2" "${warnings[@]}" -IInclude -fsyntax-only "$3"
}
check_header gcc -std=c11 "$files/header.c"
check_header clang -std=c11 "$files/header.c"
check_header g++ -std=c++17 "$files/header.cpp"
check_header clang++ -std=c++17 "$files/header.cpp"

status=0
covered=
for source in Tests/C/*.c Tests/C/*.cpp Tests/C/*/; do
    source=${source%/}
    program=$(compile "$source")
    folder=$files/$(basename "$program")
    mkdir "$folder"
    # shellcheck disable=SC2086  # a command with its arguments
    output=$(${RUNNER:-} "$program" "$folder") || status=1
    grep -v '^covers ' <<<"$output" || true
    covered+=$(sed -n 's/^covers //p' <<<"$output")$'\n'
done

# Functions that take arguments, from the header.
functions=$(tr '\n' ' ' <Include/suture.h | grep -oE 'suture_[a-z_]+\([^()]*\);' | grep -v '(void)' | sed 's/(.*//' | sort -u)
if missing=$(comm -23 <(printf '%s\n' "$functions") <(sort -u <<<"$covered")) && [[ -n $missing ]]; then
    say "no row in the tables of bad inputs for:" $missing
    status=1
fi

for source in examples/c/*.c examples/cpp/*.cpp; do
    program=$(compile "$source")
    "$program" >"$files/output" || { say "$source failed"; status=1; }
done
exit "$status"

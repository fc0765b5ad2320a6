# SPDX-License-Identifier: Apache-2.0
# Sourced by the other scripts: strict mode, the repository as current folder, small helpers.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'suture: %s\n' "$*"; }
fail() {
    printf 'suture: %s\n' "$*" >&2
    exit 1
}

# Prints the path of the Swift driver: $SWIFT, PATH, or where swift.org's images have it.
find_swift() {
    local candidate
    for candidate in "${SWIFT:-}" "$(command -v swift || true)" /opt/swift/usr/bin/swift /usr/libexec/swift/bin/swift; do
        if [[ -n $candidate && -x $candidate ]]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Swift 6.3 or later is needed and was not found on PATH or in /opt/swift/usr/bin." \
        "Install it from https://www.swift.org/install/linux/ and try again (or set SWIFT=/path/to/swift)."
}

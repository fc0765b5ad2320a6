#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Formats Swift and Python sources in place, the way tools/check.sh wants them.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

swift=$(find_swift)
git ls-files -z --cached --others --exclude-standard -- '*.swift' | xargs -0 "$swift" format format --in-place
.venv/bin/ruff check --fix --quiet python tools examples || true
.venv/bin/ruff format --quiet python tools examples

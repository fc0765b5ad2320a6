#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Swift builds; their flags exclude each other, so each has its own folder.
#
#   tools/swift.sh lib          .build-lib/release/libsuture.so: Swift runtime inside, suture_* exported
#   tools/swift.sh test ARGS    all Swift tests (.build-tests); ARGS go to `swift test`
#   tools/swift.sh example      examples/swift, a package that depends on this one
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

swift=$(find_swift)
case ${1:-} in
    lib)
        "$swift" build --configuration release --product suture --scratch-path .build-lib --quiet \
            -Xswiftc -static-stdlib -Xlinker "--version-script=$PWD/Sources/SutureABI/exports.map"
        ;;
    test)
        shift
        # Optimised: the numerics are several times slower without.
        "$swift" test --configuration release -Xswiftc -enable-testing --scratch-path .build-tests "$@"
        ;;
    example)
        "$swift" run --quiet --package-path examples/swift --scratch-path .build-example
        ;;
    *) fail "usage: tools/swift.sh lib | test | example" ;;
esac

// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Added to every seed of the tests' random data, from SUTURE_TEST_SEED; 0 without it.
let testSeedOffset: UInt64 = getenv("SUTURE_TEST_SEED").flatMap { UInt64(String(cString: $0)) } ?? 0

// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc
import SutureNumerics
import Synchronization

/// Added to every seed of the tests' random data, from SUTURE_TEST_SEED; 0 without it.
public let testSeedOffset: UInt64 = getenv("SUTURE_TEST_SEED").flatMap { UInt64(String(cString: $0)) } ?? 0

/// The number of threads belongs to the process: one test at a time sets it.
private let threadSetting = Mutex(())

/// Runs `body` with each number of threads and gives the results.
@discardableResult
public func withThreads<Result: Sendable>(_ counts: [Int], _ body: () throws -> Result) throws -> [Result] {
    try threadSetting.withLock { _ in
        defer { try? Threads.set(0) }
        return try counts.map { count in
            try Threads.set(count)
            return try body()
        }
    }
}

/// The kernel path, likewise.
private let kernelSetting = Mutex(())

/// Runs `body` on a kernel path, unless this CPU lacks it.
public func withKernels(_ path: sk_path, _ body: () throws -> Void) throws {
    try kernelSetting.withLock { _ in
        let before = sk_current_path()
        guard sk_force_path(path) else { return }
        defer { _ = sk_force_path(before) }
        try body()
    }
}

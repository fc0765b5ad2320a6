// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// Zero-filled, 64-byte aligned memory for numbers that change: weights in training, and scratch.
///
/// Who takes `pointer` keeps the object alive (`withExtendedLifetime`) while it is in use.
final class Storage<Element: BitwiseCopyable> {
    let pointer: UnsafeMutablePointer<Element>
    let count: Int

    /// - Throws: `SutureError.outOfMemory`.
    init(_ count: Int) throws {
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        var raw: UnsafeMutableRawPointer?
        guard count >= 0, !overflow, posix_memalign(&raw, 64, max(bytes, 64)) == 0, let raw else {
            throw SutureError.outOfMemory("\(count) numbers of training memory do not fit in memory")
        }
        memset(raw, 0, max(bytes, 64))
        pointer = raw.bindMemory(to: Element.self, capacity: max(count, 1))
        self.count = count
    }

    deinit { free(pointer) }
}

/// Buffers of one size for the threads of a parallel section, kept from call to call: as many as
/// ever were in use at a time, which is at most the number of threads.
final class ScratchPool: Sendable {
    private let size: Int
    private let free = Mutex<[Unchecked<Storage<Float>>]>([])

    init(size: Int) { self.size = size }

    func withBuffer<Result>(_ body: (UnsafeMutablePointer<Float>) throws -> Result) throws -> Result {
        let buffer = try free.withLock { $0.popLast() } ?? Unchecked(Storage<Float>(size))
        defer { free.withLock { $0.append(buffer) } }
        return try body(buffer.value.pointer)
    }
}

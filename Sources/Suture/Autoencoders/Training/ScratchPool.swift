// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

extension Buffer {
    /// Zero-filled. Who takes `pointer` keeps the buffer alive (`withExtendedLifetime`) while it is
    /// in use.
    convenience init(zeros count: Int, for purpose: @autoclosure () -> String = "training") throws {
        try self.init(count: count, for: purpose())
        memset(pointer, 0, count * MemoryLayout<Element>.stride)
    }
}

/// Buffers of one size for the threads of a parallel section, kept from call to call: as many as
/// ever were in use at a time, which is at most the number of threads.
final class ScratchPool: Sendable {
    private let size: Int
    private let free = Mutex<[Buffer<Float>]>([])

    init(size: Int) { self.size = size }

    func withBuffer<Result>(_ body: (UnsafeMutablePointer<Float>) throws -> Result) throws -> Result {
        let buffer = try free.withLock { $0.popLast() } ?? Buffer(count: size, for: "scores")
        defer { free.withLock { $0.append(buffer) } }
        return try body(buffer.pointer)
    }
}

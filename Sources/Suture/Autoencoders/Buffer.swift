// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Uninitialised memory of its own for plain numbers, where an `Array` would end the process if
/// memory ran out, or touch all of it to begin with.
///
/// `@unchecked Sendable`: whoever fills it sees to it that no two threads touch the same part.
final class Buffer<Element: BitwiseCopyable>: @unchecked Sendable {
    let count: Int
    let pointer: UnsafeMutablePointer<Element>

    /// - Throws: `SutureError.outOfMemory`, saying what the memory was for.
    init(count: Int, for purpose: @autoclosure () -> String) throws {
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        var raw: UnsafeMutableRawPointer?
        guard count >= 0, !overflow, posix_memalign(&raw, 64, max(bytes, 64)) == 0, let raw else {
            throw SutureError.outOfMemory("memory for \(count) elements of \(purpose()) could not be obtained")
        }
        self.count = count
        pointer = raw.bindMemory(to: Element.self, capacity: count)
    }

    deinit { free(pointer) }
}

extension Buffer {
    /// Zero-filled. Who takes `pointer` keeps the buffer alive (`withExtendedLifetime`) while it is
    /// in use.
    convenience init(zeros count: Int, for purpose: @autoclosure () -> String = "training") throws {
        try self.init(count: count, for: purpose())
        memset(pointer, 0, count * MemoryLayout<Element>.stride)
    }
}

extension Buffer {
    func copy(for purpose: @autoclosure () -> String) throws -> Buffer {
        let result = try Buffer(count: count, for: purpose())
        memcpy(result.pointer, pointer, count * MemoryLayout<Element>.stride)
        return result
    }
}

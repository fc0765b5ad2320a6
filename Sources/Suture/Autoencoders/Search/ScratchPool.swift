// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Scratch memory for the threads of a parallel section, kept from call to call: as many as ever were
/// in use at a time, which is at most the number of threads.
final class ScratchPool<Scratch: Sendable>: Sendable {
    private let make: @Sendable () throws -> Scratch
    private let free = Mutex<[Scratch]>([])

    init(_ make: @escaping @Sendable () throws -> Scratch) { self.make = make }

    func with<Result>(_ body: (Scratch) throws -> Result) throws -> Result {
        let scratch = try free.withLock { $0.popLast() } ?? make()
        defer { free.withLock { $0.append(scratch) } }
        return try body(scratch)
    }
}

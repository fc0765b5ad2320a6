// SPDX-License-Identifier: Apache-2.0
import Suture
import Synchronization

/// A value behind a handle that calls change, one at a time. Other calls, such as those that a
/// progress callback makes, see it as it was before; a second change meanwhile is refused.
final class Changing<Value: Sendable>: Sendable {
    private let state: Mutex<Value>
    private let busy = Atomic<Bool>(false)
    private let name: String

    /// - Parameter name: the argument, for error messages.
    init(_ value: Value, name: String) {
        state = Mutex(value)
        self.name = name
    }

    var value: Value { state.withLock { $0 } }

    /// Nothing has changed if `body` throws.
    func change(_ body: (inout Value) throws -> Void) throws {
        guard !busy.exchange(true, ordering: .acquiring) else {
            throw SutureError.invalidArgument("\(name) is being changed by another call, expected one at a time")
        }
        defer { busy.store(false, ordering: .releasing) }
        var next = value
        try body(&next)
        state.withLock { $0 = next }
    }
}

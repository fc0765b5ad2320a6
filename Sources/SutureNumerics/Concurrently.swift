// SPDX-License-Identifier: Apache-2.0
import Synchronization

/// Two pieces of work side by side, where there are threads for both.
///
/// - Throws: what `first` throws, else what `second` throws.
public func concurrently<First: Sendable, Second: Sendable>(
    _ first: @escaping @Sendable () throws -> First, _ second: @escaping @Sendable () throws -> Second
) throws -> (First, Second) {
    let results = Mutex<(First?, Second?)>((nil, nil))
    try parallelFor(2) { index in
        if index == 0 {
            let value = try first()
            results.withLock { $0.0 = value }
        } else {
            let value = try second()
            results.withLock { $0.1 = value }
        }
    }
    guard case (let first?, let second?) = results.withLock({ $0 }) else {
        throw SutureError.internal("a piece of work has left no result")
    }
    return (first, second)
}

// SPDX-License-Identifier: Apache-2.0

/// Reports of work done, and the way to stop it.
///
/// Reports come only from the thread that made the call, at least every 50 ms of work, so a
/// callback may be bound to that thread (a Python interpreter is).
public struct Progress {
    /// Gets the work done and the whole work (0 where unknown); false cancels.
    private let callback: ((_ done: UInt64, _ total: UInt64) -> Bool)?

    public init(_ callback: ((_ done: UInt64, _ total: UInt64) -> Bool)? = nil) {
        self.callback = callback
    }

    /// No reports, no cancelling.
    public static var none: Progress { Progress(nil) }

    /// Whether anybody listens.
    public var isObserved: Bool { callback != nil }

    /// - Throws: `SutureError.cancelled` if the callback asks to stop.
    public func report(_ done: Int, of total: Int) throws {
        guard let callback else { return }
        if !callback(UInt64(max(done, 0)), UInt64(max(total, 0))) { throw SutureError.cancelled }
    }

    /// For work that counts blocks of rows: reports rows done of `rows`.
    public func inRows(_ rows: Int, of blockRows: Int) -> Progress {
        guard let callback else { return self }
        return Progress { done, _ in
            let (product, overflow) = done.multipliedReportingOverflow(by: UInt64(blockRows))
            return callback(overflow ? UInt64(rows) : min(product, UInt64(rows)), UInt64(rows))
        }
    }

    /// For work on the side: always reports the same.
    public func fixed(_ done: Int, of total: Int) -> Progress {
        guard let callback else { return self }
        return Progress { _, _ in callback(UInt64(done), UInt64(total)) }
    }
}

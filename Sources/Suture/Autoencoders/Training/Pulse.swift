// SPDX-License-Identifier: Apache-2.0
import Glibc

/// Reports of one training step to the caller's `Progress`, about every 10 ms, from within pieces
/// of work that may run on any thread: only the calling thread reports.
///
/// `@unchecked Sendable`: everything but `caller` is touched on the calling thread only.
final class Pulse: @unchecked Sendable {
    private let progress: Progress
    private let caller = pthread_self()
    private let total: Int
    private var last: UInt64 = 0
    /// How far the step was when last told, so that reports never go back.
    private var latest = 0
    /// Tokens of finished steps.
    var base = 0 { didSet { latest = 0 } }
    /// While the weights change a wish to cancel is kept for later: a step is applied wholly.
    private(set) var defersCancel = false
    private var cancelled = false

    init(_ progress: Progress, total: Int) {
        self.progress = progress
        self.total = total
    }

    /// For the parallel sections of a step: repeats where the step is.
    var repeated: Progress {
        guard progress.isObserved else { return .none }
        return Progress { [self] _, _ in (try? beat(latest)) != nil }
    }

    /// - Parameter done: tokens of the step at work.
    /// - Throws: `SutureError.cancelled`.
    func beat(_ done: Int) throws {
        guard pthread_equal(pthread_self(), caller) != 0 else { return }
        let now = Pulse.nanoseconds()
        guard now &- last >= 10_000_000 else { return }
        last = now
        try report(done)
    }

    private func report(_ done: Int) throws {
        latest = max(latest, done)
        if defersCancel && cancelled { return }
        do {
            try progress.report(min(base + latest, total), of: total)
        } catch {
            guard defersCancel else { throw error }
            cancelled = true
        }
    }

    /// Reports now, and from here on keeps a wish to cancel until `endUpdate`.
    func beginUpdate(_ done: Int) throws {
        try report(done)
        defersCancel = true
    }

    /// - Throws: `SutureError.cancelled` if that was asked for during the update.
    func endUpdate() throws {
        defersCancel = false
        if cancelled { throw SutureError.cancelled }
    }

    static func nanoseconds() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}

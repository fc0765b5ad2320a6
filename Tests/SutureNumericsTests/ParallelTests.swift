// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics
import Synchronization
import Testing

private final class Signals: Sendable {
    let helperStarted = Atomic<Bool>(false)
    let helperMayEnd = Atomic<Bool>(false)

    /// Waits for a signal, at most 5 s.
    static func wait(_ signal: borrowing Atomic<Bool>) {
        for _ in 0..<5000 where !signal.load(ordering: .relaxed) { usleep(1000) }
    }
}

@Suite(.serialized) struct ParallelTests {
    /// One index on the calling thread, and one on a helper that ends only when it may.
    private func runWithSlowHelper(_ signals: Signals, progress: Progress) throws {
        try Threads.set(2)
        defer { try? Threads.set(0) }
        let caller = UInt(pthread_self())
        try parallelFor(2, progress: progress) { _ in
            if UInt(pthread_self()) == caller {
                Signals.wait(signals.helperStarted)
            } else {
                signals.helperStarted.store(true, ordering: .relaxed)
                Signals.wait(signals.helperMayEnd)
            }
        }
    }

    @Test func reportsGoOnWhileOthersFinish() throws {
        let signals = Signals()
        var reports = 0
        let progress = Progress { done, total in
            #expect(done <= total)
            reports += 1
            // One report after the caller's own index; more can only come while it waits.
            if reports == 4 { signals.helperMayEnd.store(true, ordering: .relaxed) }
            return true
        }
        try runWithSlowHelper(signals, progress: progress)
        #expect(reports >= 4)
    }

    @Test func aCancelWhileWaitingIsThrown() throws {
        let signals = Signals()
        var reports = 0
        let progress = Progress { _, _ in
            reports += 1
            if reports == 3 { signals.helperMayEnd.store(true, ordering: .relaxed) }
            return reports < 3
        }
        #expect(throws: SutureError.cancelled) { try runWithSlowHelper(signals, progress: progress) }
        #expect(reports == 3)
    }

    @Test func theLowestFailingIndexIsTold() throws {
        for _ in 0..<20 {
            #expect(throws: SutureError.numerical("3")) {
                try parallelFor(50) { index in
                    if index >= 3 { throw SutureError.numerical("\(index)") }
                }
            }
        }
    }
}

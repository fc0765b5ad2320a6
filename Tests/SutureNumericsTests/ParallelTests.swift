// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics
import SutureTestSupport
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
        try withThreads([2]) {
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

    @Test(arguments: [0, 1, 7, 1000]) func everyIndexRunsOnce(count: Int) throws {
        try withThreads([1, 2, 8]) {
            let runs = Mutex<[Int: Int]>([:])
            try parallelFor(count) { index in runs.withLock { $0[index, default: 0] += 1 } }
            let found = runs.withLock { $0 }
            #expect(found.count == count && found.values.allSatisfy { $0 == 1 })
            #expect(found.keys.allSatisfy { (0..<count).contains($0) })
        }
    }

    @Test func reportsComeFromTheCallingThreadAndNameTheWholeWork() throws {
        try withThreads([4]) {
            let caller = pthread_self()
            var last: UInt64 = 0
            let progress = Progress { done, total in
                #expect(pthread_equal(pthread_self(), caller) != 0)
                #expect(total == 200 && done > 100 && done <= 200 && done >= last)
                last = done
                return true
            }
            try parallelFor(100, progress: progress, base: 100, total: 200) { _ in usleep(100) }
            #expect(last > 100)
        }
    }

    @Test func cancellingLeavesTheRestUndone() throws {
        try withThreads([2]) {
            let runs = Atomic<Int>(0)
            let error = #expect(throws: SutureError.self) {
                try parallelFor(10_000, progress: Progress { _, _ in false }) { _ in
                    runs.add(1, ordering: .relaxed)
                    usleep(100)
                }
            }
            let count = runs.load(ordering: .relaxed)
            #expect(error == .cancelled && count < 10_000)
        }
    }

    @Test func threadsOutOfRangeAreRefused() {
        for count in [-1, Threads.limit + 1, .max, .min] {
            #expect(throws: SutureError.self) { try Threads.set(count) }
        }
        #expect(Threads.count >= 1 && Threads.processors >= 1)
    }

    @Test func aForkedChildCanUseThreadsItsParentHasUsed() throws {
        try withThreads([4]) {
            try parallelFor(16) { _ in usleep(100) }
            let child = forkProcess()
            if child == 0 {
                // A child that hangs is a failure too, not a test without end.
                alarm(20)
                let sum = Atomic<Int>(0)
                let done: Void? = try? parallelFor(16) { index in sum.add(index, ordering: .relaxed) }
                _exit(done != nil && sum.load(ordering: .relaxed) == 120 ? 0 : 1)
            }
            #expect(child > 0)
            var status: Int32 = -1
            waitpid(child, &status, 0)
            #expect(status == 0)
        }
    }

    /// Swift hides fork(), for programs that go on in Swift afterwards must know what they do: the
    /// child here uses the core only.
    private func forkProcess() -> pid_t {
        typealias Fork = @convention(c) () -> pid_t
        guard let symbol = dlsym(nil, "fork") else { return -1 }
        return unsafeBitCast(symbol, to: Fork.self)()
    }
}

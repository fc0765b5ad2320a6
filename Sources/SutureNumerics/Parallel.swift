// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc
import Synchronization

/// How many threads a call may use.
public enum Threads {
    /// Set by `Threads.set`; 0 means not set.
    private static let chosen = Atomic<Int>(0)

    /// Most threads that may be asked for.
    public static let limit = 1024

    /// Processors this process may run on.
    public static var processors: Int { Int(sk_processors()) }

    /// What was set, else `SUTURE_NUM_THREADS`, else the processors.
    public static var count: Int {
        let value = chosen.load(ordering: .relaxed)
        if value > 0 { return value }
        if let text = getenv("SUTURE_NUM_THREADS"), let asked = Int(String(cString: text)), (1...limit).contains(asked)
        {
            return asked
        }
        return min(processors, limit)
    }

    /// Uses `count` threads from the next call on; 0 goes back to the default.
    public static func set(_ count: Int) throws {
        guard (0...limit).contains(count) else {
            throw SutureError.invalidArgument("threads is \(count), expected 0 (the default) to \(limit)")
        }
        chosen.store(count, ordering: .relaxed)
    }
}

/// Carries a raw pointer into a closure that runs on other threads. The one place where the core
/// tells the compiler that it knows who writes where: every parallel body writes only to the part
/// of the memory that belongs to its own index.
public struct Unchecked<Value>: @unchecked Sendable {
    public let value: Value
    public init(_ value: Value) { self.value = value }
}

private final class ParallelJob: Sendable {
    let next = Atomic<Int>(0)
    let failed = Atomic<Bool>(false)
    let finished = Atomic<Int>(0)
    /// Helper threads that have no more to do.
    let ended = Atomic<Int>(0)
    let count: Int
    let body: @Sendable (_ index: Int) throws -> Void
    let firstError = Mutex<(index: Int, error: any Error)?>(nil)

    init(count: Int, body: @escaping @Sendable (Int) throws -> Void) {
        self.count = count
        self.body = body
    }

    /// Takes indices in order until none is left.
    func work(report: (() throws -> Void)?) {
        while !failed.load(ordering: .relaxed) {
            let index = next.add(1, ordering: .relaxed).oldValue
            guard index < count else { return }
            do {
                try body(index)
                finished.add(1, ordering: .relaxed)
                try report?()
            } catch {
                fail(index, error)
            }
        }
    }

    /// The lowest failing index is the one to tell, whichever thread came first.
    private func fail(_ index: Int, _ error: any Error) {
        firstError.withLock { known in
            if known.map({ index < $0.index }) ?? true { known = (index, error) }
        }
        failed.store(true, ordering: .relaxed)
    }

    /// Reports every 10 ms until `helpers` threads have ended or the job has failed: a caller who
    /// has cancelled is not asked again.
    func wait(for helpers: Int, report: () throws -> Void) {
        var (pause, waited): (UInt32, UInt32) = (50, 0)
        while ended.load(ordering: .relaxed) < helpers, !failed.load(ordering: .relaxed) {
            usleep(pause)
            waited += pause
            pause = min(pause * 2, 2000)
            guard waited >= 10_000 else { continue }
            waited = 0
            do { try report() } catch { return fail(count, error) }
        }
    }
}

/// Runs `body(0) … body(count - 1)`, each once, on up to `Threads.count` threads, and returns when
/// all are done. Indices are taken in order, so an index below a failing one has been started; the
/// error of the lowest failing index is thrown.
///
/// Results must not depend on which thread runs which index: that is what makes them the same
/// bits for any number of threads. Threads live for the call only, so that a forked child can call.
///
/// - Parameter progress: reported on the calling thread between its own indices and while it waits
///   for other threads to end theirs, as indices done.
public func parallelFor(
    _ count: Int, progress: Progress = .none, base: Int = 0, total: Int? = nil,
    _ body: @escaping @Sendable (_ index: Int) throws -> Void
) throws {
    guard count > 0 else { return }
    let job = ParallelJob(count: count, body: body)
    var helpers: [pthread_t] = []
    for _ in 1..<max(1, min(Threads.count, count)) {
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(job)
        let status = pthread_create(
            &thread, nil,
            { raw in
                guard let raw else { return nil }
                let job = Unmanaged<ParallelJob>.fromOpaque(raw).takeRetainedValue()
                job.work(report: nil)
                job.ended.add(1, ordering: .relaxed)
                return nil
            }, argument.toOpaque())
        guard status == 0 else {
            // No more threads to be had: those that run do the work.
            argument.release()
            break
        }
        helpers.append(thread)
    }
    let report = { try progress.report(base + job.finished.load(ordering: .relaxed), of: total ?? count) }
    job.work(report: report)
    // The last indices of other threads may take long: reports go on meanwhile.
    if progress.isObserved { job.wait(for: helpers.count, report: report) }
    for thread in helpers { pthread_join(thread, nil) }
    if let failure = job.firstError.withLock({ $0 }) { throw failure.error }
}

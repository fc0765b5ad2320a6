// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

private final class DetachedJob<Value: Sendable>: Sendable {
    let result = Mutex<Result<Value, any Error>?>(nil)
    let cancelled = Atomic<Bool>(false)
    let done = Atomic<Int>(0)
    let total = Atomic<Int>(0)
    let work: @Sendable (_ check: DetachedCheck) throws -> Value

    init(work: @escaping @Sendable (DetachedCheck) throws -> Value) { self.work = work }

    func run() {
        let check = DetachedCheck(
            isCancelled: { self.cancelled.load(ordering: .relaxed) },
            note: { done, total in
                self.done.store(done, ordering: .relaxed)
                self.total.store(total, ordering: .relaxed)
            })
        let outcome = Result { try work(check) }
        result.withLock { $0 = outcome }
    }
}

/// How work on another thread learns that nobody waits for it, and says how far it is.
public struct DetachedCheck: Sendable {
    let isCancelled: @Sendable () -> Bool
    let note: @Sendable (_ done: Int, _ total: Int) -> Void

    /// Call between two pieces of work.
    public func report(_ done: Int, of total: Int) throws {
        note(done, total)
        if isCancelled() { throw SutureError.cancelled }
    }
}

/// Runs `work` on a thread of its own while the calling thread reports progress every 20 ms.
///
/// LAPACK cannot be interrupted: on cancel the caller returns at once and the thread, which owns
/// all that it touches (`work` must capture values only), ends after the routine it is in.
public func runDetached<Value: Sendable>(
    progress: Progress, _ work: @escaping @Sendable (DetachedCheck) throws -> Value
) throws -> Value {
    let job = DetachedJob(work: work)
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(JobBox(run: job.run))
    // Generous stack: eigen solvers of OpenBLAS put buffers there.
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, 16 << 20)
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { pthread_attr_destroy(&attributes) }
    let status = pthread_create(
        &thread, &attributes,
        { raw in
            guard let raw else { return nil }
            Unmanaged<JobBox>.fromOpaque(raw).takeRetainedValue().run()
            return nil
        }, argument.toOpaque())
    guard status == 0 else {
        argument.release()
        throw SutureError.outOfMemory("a thread could not be started (error \(status))")
    }
    var pause: UInt32 = 200
    while true {
        if let outcome = job.result.withLock({ $0 }) { return try outcome.get() }
        do {
            try progress.report(job.done.load(ordering: .relaxed), of: job.total.load(ordering: .relaxed))
        } catch {
            job.cancelled.store(true, ordering: .relaxed)
            throw error
        }
        usleep(pause)
        pause = min(pause * 2, 20_000)
    }
}

private final class JobBox {
    let run: () -> Void
    init(run: @escaping () -> Void) { self.run = run }
}

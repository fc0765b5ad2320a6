// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Suture
import SutureTestSupport

/// Runs over shards: order, threads, element types, cancelling, bad rows.
@Suite(.serialized) struct TrainRunTests {
    private static func trainer(batch: Int, subtracts: Bool = false, seed: UInt64 = 0) throws -> Trainer {
        var options = TrainingOptions()
        options.batchSize = batch
        options.learningRate = 1e-3
        options.seed = seed
        return try Trainer(TrainSupport.sae(dIn: 24, dSAE: 200, k: 6, subtracts: subtracts), options: options)
    }

    private static func weights(_ trainer: Trainer) throws -> [Float] { TrainSupport.parameters(try trainer.sae()) }

    @Test(arguments: [false, true])
    func threadsGiveTheSameBits(subtracts: Bool) throws {
        // Ten blocks of rows and a ragged one; thirteen of latents.
        let x = try TrainSupport.gaussian(3000, 24, seed: 1)
        var results: [[Float]] = []
        var metrics: [TrainingMetrics] = []
        try withThreads([1, 2, 8]) {
            let trainer = try Self.trainer(batch: 2570, subtracts: subtracts)
            var last = try trainer.run([x.view], tokens: 2570 * 3)
            last.seconds = 0
            metrics.append(last)
            results.append(try Self.weights(trainer))
        }
        #expect(results[0] == results[1])
        #expect(results[0] == results[2])
        #expect(metrics[0] == metrics[1])
        #expect(metrics[0] == metrics[2])
    }

    @Test func shardsOfAnyTypeAndStrideAreAsOneMatrix() throws {
        // Multiples of 1/16 below 8 are exact in all four types.
        var random = RandomSource(seed: 4)
        let counts = [37, 1, 8, 50, 29]
        let types: [ElementType] = [.float16, .float64, .float32, .bfloat16, .float32]
        let values = (0..<counts.reduce(0, +)).map { _ in (0..<24).map { _ in Float(random.below(255) - 127) / 16 } }
        let whole = try FloatMatrix(rows: values.count, cols: 24) { target in
            for (i, value) in values.joined().enumerated() { target[i] = value }
        }
        var buffers: [UnsafeMutableRawPointer] = []
        defer { for buffer in buffers { buffer.deallocate() } }
        var shards: [MatrixView] = []
        var next = 0
        for (count, type) in zip(counts, types) {
            let stride = 24 + shards.count
            let buffer = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1) * stride * 8, alignment: 64)
            // Padding between rows must not be read: all ones are a NaN in every type.
            memset(buffer, 0xff, max(count, 1) * stride * 8)
            buffers.append(buffer)
            for row in 0..<count {
                for (col, value) in values[next + row].enumerated() {
                    let index = row * stride + col
                    switch type {
                    case .float32: buffer.storeBytes(of: value, toByteOffset: index * 4, as: Float.self)
                    case .float64: buffer.storeBytes(of: Double(value), toByteOffset: index * 8, as: Double.self)
                    case .float16: buffer.storeBytes(of: Float16(value), toByteOffset: index * 2, as: Float16.self)
                    case .bfloat16:
                        buffer.storeBytes(of: UInt16(value.bitPattern >> 16), toByteOffset: index * 2, as: UInt16.self)
                    }
                }
            }
            shards.append(
                MatrixView(base: UnsafeRawPointer(buffer), rows: count, cols: 24, rowStride: stride, type: type))
            next += count
        }
        let split = try Self.trainer(batch: 32)
        let one = try Self.trainer(batch: 32)
        _ = try split.run(shards, tokens: 320)
        _ = try one.run([whole.view], tokens: 320)
        #expect(try Self.weights(split) == Self.weights(one))
    }

    @Test func aRunGoesOnWhereTheLastOneStopped() throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        let whole = try Self.trainer(batch: 16)
        let parts = try Self.trainer(batch: 16)
        let all = try whole.run([x.view], tokens: 16 * 7)
        // 17 tokens take two batches.
        let first = try parts.run([x.view], tokens: 17)
        let second = try parts.run([x.view.rows(0..<20), x.view.rows(20..<50)], tokens: 16 * 5)
        #expect(try Self.weights(whole) == Self.weights(parts))
        #expect(first.tokens == 32)
        #expect(second.steps == 7)
        #expect(second.tokens == 112)
        #expect(abs(all.loss * 7 - first.loss * 2 - second.loss * 5) < 1e-9 * all.loss)
        let other = try Self.trainer(batch: 16, seed: 1)
        _ = try other.run([x.view], tokens: 16 * 7)
        #expect(try Self.weights(other) != Self.weights(whole))
    }

    @Test func otherRowsBeginANewEpoch() throws {
        // After any number of steps on other data, one epoch sees each new row once: only such a row
        // fires its own latent.
        let identity = try FloatMatrix(rows: 24, cols: 24) { target in for i in 0..<24 { target[i * 25] = 1 } }
        let sae = try SAE(
            encoder: identity, encoderBias: FloatMatrix(rows: 1, cols: 24) { _ in }, decoder: identity,
            decoderBias: FloatMatrix(rows: 1, cols: 24) { _ in }, architecture: .topK(k: 1))
        var options = TrainingOptions()
        options.batchSize = 4
        options.learningRate = 1e-6
        let trainer = try Trainer(sae, options: options)
        _ = try trainer.run([identity.view.rows(0..<5)], tokens: 12)
        #expect(try trainer.run([identity.view.rows(5..<24)], tokens: 16).dead == 3)
        #expect(try trainer.run([identity.view.rows(5..<24)], tokens: 4).dead == 0)
    }

    @Test func aCancelledStepChangesNothing() throws {
        let x = try TrainSupport.gaussian(200, 24, seed: 3)
        let trainer = try Self.trainer(batch: 64)
        _ = try trainer.run([x.view], tokens: 128)
        let before = try Self.weights(trainer)
        // Reports of a step of this size: one at its start, one before the update.
        for allowed in 0..<2 {
            var calls = 0
            let progress = Progress { _, _ in
                calls += 1
                return calls <= allowed
            }
            #expect(throws: SutureError.cancelled) { try trainer.run([x.view], tokens: 640, progress: progress) }
            #expect(calls == allowed + 1)
            #expect(try Self.weights(trainer) == before)
            #expect(trainer.steps == 2)
        }
        // And the order of the tokens goes on as if nothing had been.
        let other = try Self.trainer(batch: 64)
        _ = try other.run([x.view], tokens: 640)
        _ = try trainer.run([x.view], tokens: 512)
        #expect(try Self.weights(trainer) == Self.weights(other))
    }

    @Test func aCancelDuringTheUpdateWaitsForItsEnd() throws {
        var reports: [UInt64] = []
        var goOn = true
        let pulse = Pulse(
            Progress { done, total in
                #expect(total == 100)
                reports.append(done)
                return goOn
            }, total: 100)
        pulse.base = 30
        try pulse.beginUpdate(10)
        goOn = false
        usleep(11_000)
        try pulse.beat(20)
        usleep(11_000)
        try pulse.beat(25)
        #expect(reports == [40, 50])
        #expect(throws: SutureError.cancelled) { try pulse.endUpdate() }
    }

    @Test func progressRisesToTheTotal() throws {
        let x = try TrainSupport.gaussian(200, 24, seed: 3)
        var reports: [UInt64] = []
        let progress = Progress { done, total in
            #expect(total == 320)
            reports.append(done)
            return true
        }
        _ = try Self.trainer(batch: 64).run([x.view], tokens: 300, progress: progress)
        #expect(reports == reports.sorted())
        #expect(reports.last == 320)
    }

    @Test func aBadRowIsNamedAndNothingChanges() throws {
        for (value, text) in [(Float.nan, "nan"), (.infinity, "inf"), (-.infinity, "-inf")] {
            let x = try TrainSupport.gaussian(30, 24, seed: 6)
            let bad = try FloatMatrix(rows: 12, cols: 24) { target in
                target.update(from: x.pointer, count: 12 * 24)
                target[7 * 24 + 5] = value
            }
            let trainer = try Self.trainer(batch: 42)
            let before = try Self.weights(trainer)
            #expect(
                throws: SutureError.invalidArgument("shards[1][7, 5] is \(text) as float32, expected finite numbers")
            ) {
                try trainer.run([x.view, bad.view], tokens: 42)
            }
            #expect(throws: SutureError.invalidArgument("x[7, 5] is \(text) as float32, expected finite numbers")) {
                try trainer.step(bad.view)
            }
            #expect(try Self.weights(trainer) == before)
            #expect(trainer.steps == 0)
            // The failed step has not moved the order of the tokens either.
            let other = try Self.trainer(batch: 42)
            _ = try trainer.run([x.view, x.view.rows(0..<12)], tokens: 84)
            _ = try other.run([x.view, x.view.rows(0..<12)], tokens: 84)
            #expect(try Self.weights(trainer) == Self.weights(other))
        }
    }

    @Test func useFromItsOwnCallbackIsRefused() throws {
        let x = try TrainSupport.gaussian(64, 24, seed: 3)
        let trainer = try Self.trainer(batch: 64)
        var refused = 0
        let progress = Progress { _, _ in
            do { _ = try trainer.step(x.view) } catch { refused += 1 }
            do { _ = try trainer.sae() } catch { refused += 1 }
            return true
        }
        _ = try trainer.step(x.view, progress: progress)
        #expect(refused >= 2)
        #expect(trainer.steps == 1)
        _ = try trainer.step(x.view)
    }
}

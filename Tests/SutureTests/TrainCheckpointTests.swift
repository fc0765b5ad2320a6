// SPDX-License-Identifier: Apache-2.0
import Foundation
import Testing

@testable import Suture

/// Checkpoints, and several trainers on one stream.
@Suite struct TrainCheckpointTests {
    private static func options(seed: UInt64 = 3) -> TrainingOptions {
        var options = TrainingOptions()
        options.batchSize = 16
        options.learningRate = 1e-3
        options.learningRateScheduler = .cosine
        options.learningRateWarmUpSteps = 3
        options.totalSteps = 12
        options.seed = seed
        options.decoderBiasStart = .mean
        options.normalizeActivations = .expectedAverageOnlyIn
        return options
    }

    private static func trainer(dSAE: Int = 60, subtracts: Bool = false, seed: UInt64 = 3) throws -> Trainer {
        try Trainer(TrainSupport.sae(dIn: 24, dSAE: dSAE, k: 6, subtracts: subtracts), options: options(seed: seed))
    }

    private static func inFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("suture-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    private static func weights(_ trainer: Trainer) throws -> [Float] { TrainSupport.parameters(try trainer.sae()) }

    private static func names(_ folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    }

    @Test func savingLeavesLaterCheckpointsAndCopies() throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        try Self.inFolder { folder in
            let name = { (steps: Int) in "checkpoint-00000000000\(steps)" }
            let later = try Self.trainer()
            for _ in 0..<2 {
                _ = try later.run([x.view], tokens: 16 * 4)
                try later.save(to: folder)
            }
            for copy in ["checkpoint-best", "\(name(4))-copy"] {
                try FileManager.default.copyItem(atPath: "\(folder)/\(name(4))", toPath: "\(folder)/\(copy)")
            }
            let trainer = try Self.trainer()
            for _ in 0..<3 {
                _ = try trainer.run([x.view], tokens: 16)
                try trainer.save(to: folder)
            }
            #expect(
                try Self.names(folder)
                    == [name(2), name(3), name(4), "\(name(4))-copy", name(8), "checkpoint-best"])
            #expect(try Trainer(folder: folder).steps == 8)
        }
    }

    @Test(arguments: [false, true])
    func aLoadedTrainerGoesOnToTheBit(subtracts: Bool) throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        try Self.inFolder { folder in
            let whole = try Self.trainer(subtracts: subtracts)
            let part = try Self.trainer(subtracts: subtracts)
            var first = try whole.run([x.view], tokens: 16 * 5)
            _ = try part.run([x.view], tokens: 16 * 5)
            let path = try part.save(to: "\(folder)/a/b")
            #expect(path == "\(folder)/a/b/checkpoint-000000000005")
            #expect(try Self.names(path) == ["cfg.json", "sae_weights.safetensors", "trainer.safetensors"])
            #expect(try TrainSupport.parameters(SAE(folder: path)) == Self.weights(part))
            for place in [path, "\(folder)/a/b"] {
                let loaded = try Trainer(folder: place)
                #expect(loaded.options == Self.options())
                #expect(try Self.weights(loaded) == Self.weights(part))
                try loaded.requireSameData([x.view.rows(0..<7), x.view.rows(7..<50)])
            }
            let loaded = try Trainer(folder: path)
            first = try whole.run([x.view], tokens: 16 * 7)
            var second = try loaded.run([x.view], tokens: 16 * 7)
            (first.seconds, second.seconds) = (0, 0)
            #expect(first == second)
            #expect(second.steps == 12)
            #expect(try Self.weights(whole) == Self.weights(loaded))
        }
    }

    @Test func stepsOfACancelledCallCountOnceLoaded() throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        try Self.inFolder { folder in
            let whole = try Self.trainer()
            var expected = try whole.run([x.view], tokens: 16 * 6)
            let cut = try Self.trainer()
            let progress = Progress { done, _ in done < 16 * 4 }
            #expect(throws: SutureError.cancelled) { try cut.run([x.view], tokens: 16 * 6, progress: progress) }
            #expect(cut.steps >= 1 && cut.steps < 6)
            try cut.save(to: folder)
            let loaded = try Trainer(folder: folder)
            var found = try loaded.run([x.view], tokens: 16 * (6 - loaded.steps))
            (expected.seconds, found.seconds) = (0, 0)
            #expect(found == expected)
        }
    }

    @Test func twoCheckpointsStay() throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        try Self.inFolder { folder in
            let trainer = try Self.trainer()
            for _ in 0..<3 {
                _ = try trainer.run([x.view], tokens: 16)
                try trainer.save(to: folder)
                // As a killed process leaves it.
                try FileManager.default.createDirectory(
                    atPath: "\(folder)/.suture-tmp-folder-1-1", withIntermediateDirectories: false)
            }
            // Again at the same step: in its place.
            try trainer.save(to: folder)
            #expect(try Self.names(folder) == ["checkpoint-000000000002", "checkpoint-000000000003"])
            #expect(try Trainer(folder: folder).steps == 3)
        }
    }

    @Test func damagedCheckpointsAreRefused() throws {
        let x = try TrainSupport.gaussian(50, 24, seed: 2)
        try Self.inFolder { folder in
            let trainer = try Self.trainer()
            _ = try trainer.run([x.view], tokens: 16)
            let file = try trainer.save(to: folder) + "/trainer.safetensors"
            let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
            func refused(_ change: (inout Data) -> Void) throws {
                var damaged = bytes
                change(&damaged)
                try damaged.write(to: URL(fileURLWithPath: file))
                #expect(throws: SutureError.self) { try Trainer(folder: folder) }
            }
            for size in stride(from: 0, to: bytes.count, by: 997) { try refused { $0 = $0.prefix(size) } }
            for (old, new) in [
                ("\\\"steps\\\":1", "\\\"steps\\\":-"), ("\\\"lr\\\"", "\\\"lx\\\""),
                ("\\\"rows\\\":50", "\\\"rows\\\":-5"),
                ("W_enc.first_moment", "W_enc.first_mument"), ("\\\"tokens\\\":16", "\\\"tokens\\\":15"),
                ("\\\"d_in\\\":24", "\\\"d_in\\\":25"), ("\\\"format\\\":1", "\\\"format\\\":9"),
                ("\\\"cosine\\\"", "\\\"cosinx\\\""),
            ] {
                try refused { data in
                    if let range = data.range(of: Data(old.utf8)) {
                        data.replaceSubrange(range, with: Data(new.utf8))
                    } else {
                        Issue.record("\(old) is not there")
                    }
                }
            }
            try bytes.write(to: URL(fileURLWithPath: file))
            #expect(try Trainer(folder: folder).steps == 1)
        }
    }

    @Test func otherDataIsNoticed() throws {
        let x = try TrainSupport.gaussian(500, 24, seed: 2)
        let trainer = try Self.trainer()
        #expect(throws: SutureError.self) { try trainer.requireSameData([x.view]) }
        _ = try trainer.run([x.view], tokens: 16)
        try trainer.requireSameData([x.view])
        #expect(throws: SutureError.invalidArgument("shards have 499 rows, expected the 500 that were trained on")) {
            try trainer.requireSameData([x.view.rows(1..<500)])
        }
        let other = try TrainSupport.gaussian(500, 24, seed: 3)
        #expect(throws: SutureError.self) { try trainer.requireSameData([other.view]) }
    }

    @Test func everySettingIsKept() throws {
        let fields = TrainingOptions.fields.map(\.name)
        #expect(Set(fields).count == fields.count)
        #expect(fields.count == Mirror(reflecting: TrainingOptions()).children.count)
        var options = Self.options(seed: .max)
        #expect(try TrainingOptions(options.json, name: "test") == options)
        options.maxGradientNorm = 0.1
        options.decoderNorm = .unit
        options.decoderBiasStart = .geometricMedian
        options.normalizeActivations = .expectedAverageOnlyIn
        #expect(try TrainingOptions(options.json, name: "test") == options)
    }

    @Test func severalTrainersAreAsEachByItself() throws {
        let x = try TrainSupport.gaussian(70, 24, seed: 2)
        let sizes = [60, 100, 31]
        let together = try sizes.map { try Self.trainer(dSAE: $0, subtracts: $0 == 100) }
        let alone = try sizes.map { try Self.trainer(dSAE: $0, subtracts: $0 == 100) }
        for tokens in [16 * 3, 16 * 4] {
            var found = try Trainer.run(together, [x.view], tokens: tokens)
            var expected = try alone.map { try $0.run([x.view], tokens: tokens) }
            for i in sizes.indices { (found[i].seconds, expected[i].seconds) = (0, 0) }
            #expect(found == expected)
        }
        for (a, b) in zip(together, alone) { #expect(try Self.weights(a) == Self.weights(b)) }
        // Cancelled at any report, all are at the same step.
        for allowed in 0..<8 {
            var calls = 0
            let progress = Progress { _, _ in
                calls += 1
                return calls <= allowed
            }
            #expect(throws: SutureError.cancelled) {
                try Trainer.run(together, [x.view], tokens: 16 * 20, progress: progress)
            }
            #expect(Set(together.map(\.steps)).count == 1)
        }
        #expect(throws: SutureError.invalidArgument("trainers has the same trainer twice, expected different ones")) {
            try Trainer.run([together[0], together[0]], [x.view], tokens: 16)
        }
        let seed = SutureError.invalidArgument("trainers[1] has seed 4, expected 3 as trainers[0]")
        #expect(throws: seed) {
            try Trainer.run([Self.trainer(), Self.trainer(seed: 4)], [x.view], tokens: 16)
        }
        #expect(throws: SutureError.self) { try Trainer.run([together[0], Self.trainer()], [x.view], tokens: 16) }
    }

    @Test func aBadRowIsNamedForSeveral() throws {
        let x = try FloatMatrix(rows: 20, cols: 24) { $0[7 * 24 + 5] = .nan }
        let trainers = try [Self.trainer(), Self.trainer(dSAE: 30)]
        #expect(throws: SutureError.invalidArgument("shards[0][7, 5] is nan as float32, expected finite numbers")) {
            try Trainer.run(trainers, [x.view], tokens: 20)
        }
        #expect(trainers.map(\.steps) == [0, 0])
    }
}

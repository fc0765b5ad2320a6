// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Suture

/// One step of training: gradients, Adam, unit norm, and what a step leaves behind when it fails.
@Suite struct TrainStepTests {
    @Test(arguments: [false, true], [0.3, -1.5])
    func gradientsAgreeWithFiniteDifferences(subtracts: Bool, bias: Double) throws {
        let trainer = try Trainer(TrainSupport.sae(dIn: 6, dSAE: 20, k: 4, subtracts: subtracts, bias: bias))
        let x = try TrainSupport.gaussian(11, 6, seed: 3)
        let batch = TrainSupport.doubles(x)
        let gradients = try trainer.gradients(x.view)
        var reference = try TrainReference(trainer.sae(), k: 4)
        // With the low bias some tokens have fewer than k positive pre-activations.
        let active = batch.map { token in reference.forward(token).activations.count { $0 > 0 } }
        #expect(active.contains { $0 < 4 } == (bias < 0))

        #expect(abs(gradients.loss - reference.loss(batch)) < 1e-5 * gradients.loss)
        let start = reference.parameters
        let h = 1e-5
        let differences = start.indices.map { i in
            var moved = start
            moved[i] = start[i] + h
            reference.parameters = moved
            let above = reference.loss(batch)
            moved[i] = start[i] - h
            reference.parameters = moved
            return (above - reference.loss(batch)) / (2 * h)
        }
        // float32 sums of a few dozen terms: 1e-6; central differences at 1e-5: 1e-9.
        #expect(TrainSupport.worst(TrainSupport.parameters(gradients), differences) < 5e-6)
    }

    @Test(arguments: [false, true])
    func twentyStepsAgreeWithDenseAdam(subtracts: Bool) throws {
        var options = TrainingOptions()
        options.learningRate = 3e-3
        let trainer = try Trainer(TrainSupport.sae(dIn: 10, dSAE: 40, k: 3, subtracts: subtracts), options: options)
        var reference = try TrainReference(trainer.sae(), k: 3)
        let start = reference.parameters
        var adam = TrainReferenceAdam()
        for step in 0..<20 {
            let x = try TrainSupport.gaussian(30, 10, seed: UInt64(100 + step))
            let batch = TrainSupport.doubles(x)
            let loss = reference.loss(batch)
            var parameters = reference.parameters
            adam.step(&parameters, reference.gradients(batch), options)
            reference.parameters = parameters
            reference.normaliseDecoder()
            let metrics = try trainer.step(x.view)
            #expect(abs(metrics.loss - loss) < 1e-5 * loss, "step \(step)")
            #expect(metrics.steps == step + 1)
            #expect(metrics.tokens == 30 * (step + 1))
        }
        // Weights moved by up to 20 * lr = 0.06; agreement is to float32 rounding of gradients.
        let moved = zip(reference.parameters, start).reduce(0) { max($0, abs($1.0 - $1.1)) }
        #expect(moved > 0.03)
        #expect(TrainSupport.worst(TrainSupport.parameters(try trainer.sae()), reference.parameters) < 1e-5)
    }

    @Test func latentsThatDoNotFireMoveByTheirMoments() throws {
        // Latents look at one coordinate each, so a token decides which of them fire.
        let identity = try FloatMatrix(rows: 4, cols: 4) { target in for i in 0..<4 { target[i * 5] = 1 } }
        let zeros = try FloatMatrix(rows: 1, cols: 4) { _ in }
        let biases = try FloatMatrix(rows: 1, cols: 4) { $0.update(repeating: 0.1, count: 4) }
        let sae = try SAE(
            encoder: identity, encoderBias: biases, decoder: identity, decoderBias: zeros, architecture: .topK(k: 1))
        let trainer = try Trainer(sae)
        let first = try FloatMatrix(rows: 1, cols: 4) { $0.update(from: [2, 0.5, 0.25, 0.1], count: 4) }
        let second = try FloatMatrix(rows: 1, cols: 4) { $0.update(from: [0.1, 0.2, 3, 0.3], count: 4) }
        _ = try trainer.step(first.view)
        let between = try trainer.sae()
        let metrics = try trainer.step(second.view)
        let after = try trainer.sae()
        // Latent 0 fired in the first step only and goes on; latent 1 never fired and stays.
        #expect(after.encoder[1, 0] != between.encoder[1, 0])
        #expect(after.decoder[0, 1] != between.decoder[0, 1])
        #expect((0..<4).allSatisfy { after.encoder[$0, 1] == identity[$0, 1] })
        #expect((0..<4).allSatisfy { after.decoder[1, $0] == identity[1, $0] })
        #expect(metrics.dead == 2)
        #expect(metrics.l0 == 1)
    }

    @Test func decoderRowsKeepTheirNorms() throws {
        var options = TrainingOptions()
        options.learningRate = 0.05
        let sae = try TrainSupport.sae(dIn: 12, dSAE: 50, k: 5, unit: false)
        let trainer = try Trainer(sae, options: options)
        for step in 0..<5 { _ = try trainer.step(TrainSupport.gaussian(40, 12, seed: UInt64(step)).view) }
        let norms = try trainer.sae().decoderNorms
        for (after, before) in zip(norms, sae.decoderNorms) { #expect(abs(after / before - 1) < 1e-6) }
        for row in 0..<50 {
            let weights = trainer.decoder.pointer + row * 12
            let square = (0..<12).reduce(0.0) { $0 + Double(weights[$1]) * Double(weights[$1]) }
            #expect(abs(square.squareRoot() - 1) < 3e-7)
        }
    }

    @Test func normsOfTheStartGoIntoTheEncoderAndComeBack() throws {
        let sae = try TrainSupport.sae(dIn: 5, dSAE: 9, k: 2, unit: false)
        let trainer = try Trainer(sae)
        let start = try trainer.sae()
        for (j, norm) in sae.decoderNorms.enumerated() {
            #expect(abs(norm - 1) > 1e-3)
            for i in 0..<5 {
                #expect(abs(Double(trainer.encoder.pointer[j * 5 + i]) - norm * Double(sae.encoder[i, j])) < 1e-6)
                #expect(abs(Double(trainer.decoder.pointer[j * 5 + i]) - Double(sae.decoder[j, i]) / norm) < 1e-6)
                #expect(abs(start.encoder[i, j] - sae.encoder[i, j]) < 1e-6)
                #expect(abs(start.decoder[j, i] - sae.decoder[j, i]) < 1e-6)
            }
        }
        // A SAE with unit rows is left bit for bit.
        let unit = try SAE.random(dIn: 5, dSAE: 9, architecture: .topK(k: 2), seed: 3)
        let left = try Trainer(unit).sae()
        #expect(try TrainSupport.parameters(Trainer(left).sae()) == TrainSupport.parameters(left))
    }

    @Test func metricsAreThoseOfTheBatchBeforeTheUpdate() throws {
        let trainer = try Trainer(TrainSupport.sae(dIn: 7, dSAE: 60, k: 3, bias: -0.8))
        let reference = try TrainReference(trainer.sae(), k: 3)
        // A mean far from zero: the variance must not lose digits to it.
        let x = try TrainSupport.gaussian(25, 7, seed: 5, mean: 30)
        let batch = TrainSupport.doubles(x)
        let metrics = try trainer.step(x.view)
        let mean = (0..<7).map { i in batch.reduce(0) { $0 + $1[i] } / 25 }
        let variance =
            batch.reduce(0) { sum, row in sum + zip(row, mean).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) } } / 25
        let fired = batch.map { row in reference.forward(row).activations.map { $0 > 0 } }
        #expect(abs(metrics.variance - variance) < 1e-9 * variance)
        #expect(abs(metrics.explainedVariance - (1 - metrics.loss / variance)) < 1e-6 * abs(metrics.explainedVariance))
        #expect(metrics.l0 == Double(fired.reduce(0) { $0 + $1.count { $0 } }) / 25)
        #expect(metrics.dead == (0..<60).count { j in !fired.contains { $0[j] } })
        #expect(try trainer.step(x.view.rows(0..<1)).explainedVariance.isNaN)
    }

    @Test func divergenceIsToldBeforeAnythingChanges() throws {
        let trainer = try Trainer(TrainSupport.sae(dIn: 4, dSAE: 12, k: 3))
        let before = try TrainSupport.parameters(trainer.sae())
        for scale in [1e15, 1e25, 3e38] {
            let x = try FloatMatrix(rows: 3, cols: 4) { target in for i in 0..<12 { target[i] = Float(scale) } }
            let error = #expect(throws: SutureError.self) { try trainer.step(x.view) }
            guard case .numerical? = error else {
                Issue.record("\(String(describing: error)) for \(scale)")
                continue
            }
        }
        #expect(try TrainSupport.parameters(trainer.sae()) == before)
        #expect(trainer.steps == 0)
    }

    @Test func whatCannotBeTrainedIsRefusedByName() throws {
        let good = try TrainSupport.sae(dIn: 4, dSAE: 6, k: 2)
        func refusal(
            _ architecture: Architecture, rescales: Bool = false, normalization: Normalization = .none
        ) throws -> SutureError? {
            let sae = try SAE(
                encoder: good.encoder, encoderBias: good.encoderBias, decoder: good.decoder,
                decoderBias: good.decoderBias, architecture: architecture, rescalesByDecoderNorm: rescales,
                normalization: normalization)
            return #expect(throws: SutureError.self) { try Trainer(sae) }
        }
        let row = good.encoderBias
        for (error, word) in [
            (try refusal(.gated(gateBias: row, magnitudeBias: row, magnitudeScale: row)), "gated"),
            (try refusal(.topK(k: 2), rescales: true), "rescale_by_decoder_norm"),
            (try refusal(.topK(k: 2), normalization: .fixedScale(2)), "fixedScale"),
            (try refusal(.topK(k: 2), normalization: .tokenNorm), "tokenNorm"),
            (try refusal(.topK(k: 2), normalization: .layerNorm), "layerNorm"),
        ] {
            guard case .unsupported(let message)? = error else {
                Issue.record("\(word): \(String(describing: error))")
                continue
            }
            #expect(message.contains(word))
        }
    }

    @Test func badWeightsAndSettingsAreRefused() throws {
        let good = try TrainSupport.sae(dIn: 4, dSAE: 6, k: 2, unit: false)
        func message(_ body: () throws -> Void) -> String {
            guard case .invalidArgument(let text)? = #expect(throws: SutureError.self, performing: body) else {
                return ""
            }
            return text
        }
        func decoder(_ element: Int, _ value: Float) throws -> SAE {
            try SAE(
                encoder: good.encoder, encoderBias: good.encoderBias,
                decoder: FloatMatrix(rows: 6, cols: 4) { target in
                    target.update(from: good.decoder.pointer, count: 24)
                    if value == 0 {
                        (target + element).update(repeating: 0, count: 4)
                    } else {
                        target[element] = value
                    }
                }, decoderBias: good.decoderBias, architecture: .topK(k: 2))
        }
        #expect(message { _ = try Trainer(decoder(9, .nan)) }.contains("W_dec[2, 1] is nan"))
        #expect(message { _ = try Trainer(decoder(12, 0)) }.contains("W_dec[3] is zero"))
        #expect(message { _ = try Trainer(decoder(8, 3e38)) }.contains("W_dec[2] has norm"))
        for (name, change) in [
            ("lr_end", { $0.learningRateEnd = -1 }), ("lr_end", { $0.learningRateEnd = .nan }),
            ("lr_warm_up_steps", { $0.learningRateWarmUpSteps = -1 }), ("total_steps", { $0.totalSteps = .max }),
            ("total_steps", { $0.learningRateScheduler = .cosine }),
            ("max_grad_norm", { $0.maxGradientNorm = 0 }), ("max_grad_norm", { $0.maxGradientNorm = .nan }),
            ("lr", { $0.learningRate = 0 }), ("lr", { $0.learningRate = .infinity }), ("beta1", { $0.beta1 = 1 }),
            ("beta2", { $0.beta2 = .nan }), ("epsilon", { $0.epsilon = 0 }), ("batch_size", { $0.batchSize = 0 }),
            ("batch_size", { $0.batchSize = .max }),
        ] as [(String, (inout TrainingOptions) -> Void)] {
            var options = TrainingOptions()
            change(&options)
            #expect(message { _ = try Trainer(good, options: options) }.hasPrefix(name))
        }
        let trainer = try Trainer(good)
        let narrow = try TrainSupport.gaussian(3, 3, seed: 1)
        let empty = try TrainSupport.gaussian(0, 4, seed: 1)
        #expect(message { _ = try trainer.step(narrow.view) }.contains("d_in = 4"))
        #expect(message { _ = try trainer.step(empty.view) }.contains("0 rows"))
        #expect(message { _ = try trainer.gradients(empty.view) }.contains("0 rows"))
        #expect(message { _ = try trainer.run([], tokens: 1) }.contains("0 shards"))
        #expect(
            message { _ = try trainer.run([good.decoder.view, empty.view], tokens: 1) }.hasPrefix("shards[1] has 0"))
        #expect(message { _ = try trainer.run([good.decoder.view, narrow.view], tokens: 1) }.contains("shards[1]"))
        #expect(message { _ = try trainer.run([good.decoder.view], tokens: 0) }.contains("tokens is 0"))
        #expect(message { _ = try trainer.run([good.decoder.view], tokens: .max) }.contains("tokens is"))
        #expect(trainer.steps == 0)
    }
}

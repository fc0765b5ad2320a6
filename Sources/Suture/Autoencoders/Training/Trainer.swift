// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// A TopK SAE in training: its weights and those of its optimiser (arXiv 2506.06609, section 3.1).
///
/// The loss is the mean over tokens of |x - x_hat|², summed over coordinates, and nothing else.
/// Gradients flow through the active latents of each token (value > 0) only. Adam is dense, as
/// torch.optim.Adam: latents that do not fire move by their decaying moments. After every step each
/// decoder row is divided by its norm.
///
/// Nothing of size tokens x d_sae is stored: the encoder product goes by blocks of rows into bounded
/// scratch, and everything after the top-k touches k latents a token. The encoder is held transposed
/// (d_sae, d_in), so that a latent's weights, moments and gradients are rows, and latents can be
/// updated independently: the bits are the same for any number of threads.
///
/// Not for use from several threads at a time; such use, and use from within its own progress
/// callback, is refused.
public final class Trainer {
    /// Most tokens a step.
    static let rowLimit = 1 << 24
    /// Tokens of one piece of parallel work: fixed, so that results do not depend on the threads.
    static let blockRows = 128

    public let options: TrainingOptions
    public let dIn: Int
    public let dSAE: Int
    public let subtractsDecoderBias: Bool
    /// Steps and tokens trained so far.
    public internal(set) var steps = 0
    public internal(set) var tokens = 0
    /// Of the SAE it began with; goes to the trained one.
    public let metadata: Metadata

    let encoder: Buffer<Float>
    let encoderBias: Buffer<Float>
    let decoder: Buffer<Float>
    let decoderBias: Buffer<Float>
    let encoderMoments: AdamMoments
    let encoderBiasMoments: AdamMoments
    let decoderMoments: AdamMoments
    let decoderBiasMoments: AdamMoments
    /// (d_sae): `tokens` after the last step in which the latent fired; 0 if it has not.
    let lastFired: Buffer<Int>
    let activation: any TrainedActivation
    let encoderCopy: EncoderCopy
    /// (d_sae) With `DecoderNorm.free`: the norm of each decoder row, by which pre-activations are
    /// multiplied for the top-k.
    let decoderNorms: Buffer<Float>?
    /// (d_sae) Otherwise, where decoder rows of the SAE that it began with had other norms than 1: their
    /// inverses, by which pre-activations are multiplied for the top-k. They stay.
    private(set) var startScales: Buffer<Float>?
    private var memory: StepMemory?
    /// Where `run` is in the rows it draws from, and what rows they are.
    var order: TokenOrder?
    var data: DataFingerprint?
    var running = RunningMetrics()
    /// Of the checkpoint it was loaded from.
    var kernelsBefore: String?
    private let busy = Atomic<Bool>(false)

    /// What was taken from the activations before the first step.
    var start: TrainerStart

    var weights: TrainerWeights {
        TrainerWeights(
            encoder: encoder.pointer, encoderBias: encoderBias.pointer, decoder: decoder.pointer,
            decoderBias: decoderBias.pointer, subtractsDecoderBias: subtractsDecoderBias,
            inputScale: Float(start.inputScale))
    }

    /// Copies `sae` and, but for `DecoderNorm.free`, brings its decoder rows to unit norm.
    ///
    /// The norm n of a row goes into the encoder: W_enc column and b_enc of that latent times n. Where latents
    /// compete (TopK, BatchTopK) they are ranked by pre-activation / n, now and for all of training, which is what
    /// the SAE ranks by; and the SAE that is given back has the norms n again. So training begins from the
    /// function that the SAE has, whatever its norms, and goes on at rows of unit length. Rows within 1e-6
    /// of unit norm are left as they are, so a SAE that comes from training goes back into it unchanged.
    ///
    /// - Throws: `SutureError.unsupported` for architectures other than TopK, for normalisation and
    ///   for rescaling by the decoder norm (fold the SAE first); `.invalidArgument` for weights that
    ///   are not finite, a decoder row of zeros, or options out of range; `.outOfMemory`.
    public convenience init(_ sae: SAE, options: TrainingOptions = TrainingOptions()) throws {
        try self.init(sae, options: options, inBF16: EncoderPanels.areFaster)
    }

    /// - Parameter inBF16: whether bfloat16 copies of the weights pick the candidates.
    init(_ sae: SAE, options: TrainingOptions, inBF16: Bool) throws {
        try options.validate()
        activation = try sae.architecture.trained(
            dIn: sae.dIn, dSAE: sae.dSAE, options: options, blockRows: Trainer.blockRows)
        guard !sae.rescalesByDecoderNorm || (options.decoderNorm == .free && activation.ranksByNorm) else {
            throw SutureError.unsupported(
                "training of a SAE with rescale_by_decoder_norm with decoder_norm \(options.decoderNorm.name); fold it "
                    + "first, which leaves its function as it is, or use decoder_norm free")
        }
        guard sae.normalization == .none else {
            throw SutureError.unsupported(
                "training of a SAE with normalization \(sae.normalization); only a fixed scale can be folded away first"
            )
        }
        (dIn, dSAE) = (sae.dIn, sae.dSAE)
        guard dIn >= 1 else { throw SutureError.invalidArgument("d_in is \(dIn), expected at least 1") }
        self.options = options
        start = TrainerStart(options)
        subtractsDecoderBias = sae.subtractsDecoderBias
        metadata = sae.metadata
        for (name, matrix) in [
            ("W_enc", sae.encoder), ("b_enc", sae.encoderBias), ("W_dec", sae.decoder), ("b_dec", sae.decoderBias),
        ] {
            if let bad = matrix.view.firstNonFinite() {
                throw SutureError.invalidArgument(
                    "\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
            }
        }
        encoder = try Buffer(zeros: dSAE * dIn)
        encoderBias = try Buffer(zeros: dSAE)
        decoder = try Buffer(zeros: dSAE * dIn)
        decoderBias = try Buffer(zeros: dIn)
        encoderMoments = try AdamMoments(dSAE * dIn)
        encoderBiasMoments = try AdamMoments(dSAE)
        decoderMoments = try AdamMoments(dSAE * dIn)
        decoderBiasMoments = try AdamMoments(dIn)
        lastFired = try Buffer(zeros: dSAE)
        decoderNorms = options.decoderNorm == .free ? try Buffer(zeros: dSAE) : nil
        encoderCopy = try EncoderCopy(dIn: dIn, dSAE: dSAE, inBF16: inBF16)
        transpose(sae.encoder.pointer, rows: dIn, cols: dSAE, into: encoder.pointer)
        encoderBias.pointer.update(from: sae.encoderBias.pointer, count: dSAE)
        decoder.pointer.update(from: sae.decoder.pointer, count: dSAE * dIn)
        decoderBias.pointer.update(from: sae.decoderBias.pointer, count: dIn)
        if options.decoderNorm != .free {
            let norms = sae.decoderNorms
            try makeStartScales(activation.ranksByNorm && norms.contains { abs($0 - 1) > 1e-6 })
            try normaliseDecoder(norms)
        }
        refreshEncoderCopy()
    }

    /// A checkpoint knows whether there are any; its SAE, whose norms are also those of a scale of the
    /// activations, does not tell.
    func makeStartScales(_ areThere: Bool) throws {
        startScales = areThere ? try Buffer(count: dSAE, for: "the norms of decoder rows") : nil
    }

    private func normaliseDecoder(_ norms: [Double]) throws {
        for (latent, norm) in norms.enumerated() {
            let row = decoder.pointer + latent * dIn
            guard norm > 0 else {
                throw SutureError.invalidArgument(
                    "W_dec[\(latent)] is zero, expected a row that can be brought to unit norm")
            }
            let scale = Float(1 / norm)
            guard scale > 0, scale.isFinite else {
                throw SutureError.invalidArgument("W_dec[\(latent)] has norm \(norm), expected 1e-38 to 1e38")
            }
            startScales?.pointer[latent] = abs(norm - 1) > 1e-6 ? scale : 1
            guard abs(norm - 1) > 1e-6 else { continue }
            let column = encoder.pointer + latent * dIn
            var finite = true
            for i in 0..<dIn {
                row[i] = Float(Double(row[i]) / norm)
                column[i] = Float(Double(column[i]) * norm)
                finite = finite && column[i].isFinite
            }
            encoderBias.pointer[latent] = Float(Double(encoderBias.pointer[latent]) * norm)
            activation.thresholds?.scale(latent, by: norm)
            guard finite, encoderBias.pointer[latent].isFinite else {
                throw SutureError.invalidArgument(
                    "W_dec[\(latent)] has norm \(norm), too large to be moved into the encoder in float32")
            }
        }
    }

    /// One step on exactly the rows of `x` (N, d_in), N >= 1, of any element type.
    ///
    /// - Parameter codes: of these rows in the other model, with `TrainingOptions.pull`.
    /// - Throws: `SutureError.invalidArgument` for a wrong shape or an element that is not finite;
    ///   `.numerical` where the loss or a gradient is not; `.cancelled`. The trainer is then as before
    ///   the step; only a cancel that comes while the weights change lets the step be finished, and
    ///   `steps` tells.
    public func step(_ x: MatrixView, like codes: SparseCodes? = nil, progress: Progress = .none) throws
        -> TrainingMetrics
    {
        try exclusively {
            let rows = try batchRows(x)
            let pull = try codePull(codes, rows: rows.count)
            let pulse = Pulse(progress, total: rows.count)
            let metrics = try step(rows, Array(0..<rows.count), pull: pull, pulse: pulse)
            try pulse.endUpdate()
            return metrics
        }
    }

    /// A copy of the SAE as it is now.
    public func sae() throws -> SAE {
        try exclusively {
            // Folded, a scale of the activations leaves a SAE of unscaled ones.
            let scale = start.inputScale
            let sae = try SAE(
                encoder: FloatMatrix(rows: dIn, cols: dSAE) { target in
                    transpose(encoder.pointer, rows: dSAE, cols: dIn, into: target)
                },
                encoderBias: FloatMatrix(rows: 1, cols: dSAE) { $0.update(from: encoderBias.pointer, count: dSAE) },
                decoder: FloatMatrix(rows: dSAE, cols: dIn) { $0.update(from: decoder.pointer, count: dSAE * dIn) },
                decoderBias: FloatMatrix(rows: 1, cols: dIn) { $0.update(from: decoderBias.pointer, count: dIn) },
                architecture: activation.architecture(), subtractsDecoderBias: subtractsDecoderBias,
                normalization: scale == 1 ? .none : .fixedScale(scale), metadata: metadata
            ).folded(subtraction: false).withDecoderNorms(startScales)
            guard options.decoderNorm == .free, activation.ranksByNorm else { return sae }
            return try SAE(
                encoder: sae.encoder, encoderBias: sae.encoderBias, decoder: sae.decoder, decoderBias: sae.decoderBias,
                architecture: sae.architecture, subtractsDecoderBias: subtractsDecoderBias,
                rescalesByDecoderNorm: true, metadata: metadata)
        }
    }

    /// One step, whole or not at all.
    func step(_ rows: TokenRows, _ batch: [Int], pull: CodePull? = nil, pulse: Pulse) throws -> TrainingMetrics {
        let begun = Pulse.nanoseconds()
        try startIfNeeded(rows, pulse: pulse)
        let memory = try memory(for: batch.count)
        let totals = try forward(rows, batch, memory: memory, pull: pull, pulse: pulse)
        try memory.group()
        try finish(memory, decoderBiasGradient: decoderBiasGradient(memory, totals, pulse: pulse), pulse: pulse)
        activation.finish()
        var metrics = metrics
        metrics.take(totals, tokens: batch.count)
        metrics.seconds = Double(Pulse.nanoseconds() - begun) * 1e-9
        metrics.pullLoss = Double(pull?.weight ?? 0) * totals.pullSquares / Double(batch.count)
        var operations = flops(tokens: batch.count, active: totals.active)
        operations.dense += pull?.operations ?? 0
        operations.executed += pull?.operations ?? 0
        running.count(&metrics, flops: operations)
        return metrics
    }

    /// Clips and applies gradients, and counts the step.
    func finish(_ source: some LatentGradients, decoderBiasGradient: [Float], pulse: Pulse) throws {
        let factor = try clippingFactor(source, decoderBiasGradient: decoderBiasGradient, pulse: pulse)
        try pulse.beginUpdate(source.rows)
        try update(source, decoderBiasGradient: decoderBiasGradient, factor: factor, pulse: pulse)
        steps += 1
        tokens += source.rows
    }

    /// What is known without a batch: steps, tokens, dead latents, learning rate, operations.
    var metrics: TrainingMetrics {
        var metrics = TrainingMetrics()
        (metrics.steps, metrics.tokens) = (steps, tokens)
        metrics.learningRate = options.learningRate(after: max(steps - 1, 0))
        for latent in 0..<dSAE {
            let fired = lastFired.pointer[latent]
            if fired == 0 || tokens - fired >= options.deadFeatureWindow { metrics.dead += 1 }
        }
        running.complete(&metrics)
        return metrics
    }

    func flops(tokens: Int, active: Double) -> StepFlops {
        StepFlops(
            tokens: tokens, active: active, dIn: dIn, dSAE: dSAE, subtractsDecoderBias: subtractsDecoderBias,
            options: options)
    }

    /// Memory for a step on `count` tokens, kept from step to step.
    func memory(for count: Int) throws -> StepMemory {
        if let memory, memory.capacity >= count { return memory }
        memory = nil
        let larger = try StepMemory(
            capacity: count, dIn: dIn, dSAE: dSAE, active: min(dSAE, activation.activeAtFirst),
            thresholds: activation.thresholds != nil, blockRows: Trainer.blockRows)
        memory = larger
        return larger
    }

    /// All rows of `x` as one batch, before any memory is taken for them.
    func batchRows(_ x: MatrixView) throws -> TokenRows {
        guard x.rows <= Trainer.rowLimit else {
            throw SutureError.invalidArgument("x has \(x.rows) rows, expected at most \(Trainer.rowLimit) in one step")
        }
        return try TokenRows([x], dIn: dIn) { _ in "x" }
    }

    /// A pull towards `codes`, if the options have one.
    ///
    /// - Throws: `SutureError.invalidArgument` where one is there without the other, or for codes of other
    ///   rows or latents.
    func codePull(_ codes: SparseCodes?, rows: Int, operations: Double = 0) throws -> CodePull? {
        guard let weight = options.pull else {
            guard codes == nil else {
                throw SutureError.invalidArgument(
                    "codes of another model are given, expected none for training without a pull")
            }
            return nil
        }
        guard let codes else {
            throw SutureError.invalidArgument(
                "pull is \(weight), expected codes of another model for each batch to pull towards")
        }
        guard codes.dSAE == dSAE else {
            throw SutureError.invalidArgument("codes has d_sae = \(codes.dSAE), expected \(dSAE)")
        }
        guard codes.rows == rows else {
            throw SutureError.invalidArgument("codes has \(codes.rows) rows, expected \(rows) as the batch")
        }
        return CodePull(
            codes: codes, weight: Float(weight), scales: startScales.map { UnsafePointer($0.pointer) },
            operations: operations)
    }

    func exclusively<Result>(_ body: () throws -> Result) throws -> Result {
        guard !busy.exchange(true, ordering: .acquiring) else {
            throw SutureError.invalidArgument("the trainer is in use by another call, expected one call at a time")
        }
        defer { busy.store(false, ordering: .releasing) }
        return try body()
    }
}

/// target (cols, rows) = source (rows, cols), transposed; in tiles, so that both sides stay in cache.
func transpose(_ source: UnsafePointer<Float>, rows: Int, cols: Int, into target: UnsafeMutablePointer<Float>) {
    for rowTile in stride(from: 0, to: rows, by: 32) {
        for colTile in stride(from: 0, to: cols, by: 32) {
            for row in rowTile..<min(rowTile + 32, rows) {
                for col in colTile..<min(colTile + 32, cols) { target[col * rows + row] = source[row * cols + col] }
            }
        }
    }
}

extension SAE {
    /// The same function with each decoder row divided by its scale, and the encoder times it.
    fileprivate func withDecoderNorms(_ scales: Buffer<Float>?) throws -> SAE {
        guard let scales else { return self }
        let (dIn, dSAE, scale) = (dIn, dSAE, scales.pointer)
        let (encoder, bias, decoder) = (encoder.pointer, encoderBias.pointer, decoder.pointer)
        let result = try SAE(
            encoder: FloatMatrix(rows: dIn, cols: dSAE) { target in
                for i in 0..<dIn {
                    for j in 0..<dSAE { target[i * dSAE + j] = encoder[i * dSAE + j] * scale[j] }
                }
            },
            encoderBias: FloatMatrix(rows: 1, cols: dSAE) { target in
                for j in 0..<dSAE { target[j] = bias[j] * scale[j] }
            },
            decoder: FloatMatrix(rows: dSAE, cols: dIn) { target in
                for j in 0..<dSAE {
                    for i in 0..<dIn { target[j * dIn + i] = decoder[j * dIn + i] / scale[j] }
                }
            },
            decoderBias: decoderBias, architecture: architecture, subtractsDecoderBias: subtractsDecoderBias,
            metadata: metadata)
        withExtendedLifetime((self, scales)) {}
        return result
    }
}

// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Pointers to the weights of a trainer, for parallel bodies.
struct TrainerWeights {
    /// (d_sae, d_in): the encoder, transposed.
    let encoder: UnsafeMutablePointer<Float>
    let encoderBias: UnsafeMutablePointer<Float>
    let decoder: UnsafeMutablePointer<Float>
    let decoderBias: UnsafeMutablePointer<Float>
    let subtractsDecoderBias: Bool
    /// Of all activations.
    let inputScale: Float
}

extension EncoderCopy {
    /// Derives a block of latents anew from a trainer's weights; before that, where they are wanted, the
    /// norms of its decoder rows, by which latents are ranked then.
    ///
    /// - Parameter scales: what they are ranked by otherwise.
    func refresh(
        _ latents: Range<Int>, _ weights: TrainerWeights, _ norms: UnsafeMutablePointer<Float>?,
        scales: UnsafePointer<Float>?, _ activation: any TrainedActivation
    ) {
        if let norms {
            for latent in latents {
                let row = weights.decoder + latent * dIn
                norms[latent] = sk_dot(row, row, dIn).squareRoot()
            }
        }
        refresh(
            latents.lowerBound / EncoderPanels.latents, rows: weights.encoder, bias: weights.encoderBias,
            scales: activation.ranksByNorm ? norms.map { UnsafePointer($0) } ?? scales : nil,
            floors: activation.thresholds.map { UnsafePointer($0.floors.pointer) })
    }
}

extension Trainer {
    /// The forward pass on rows `order` of `tokens`, and the gradient by each active latent.
    ///
    /// In blocks of rows, which `ForwardPass` works on. Changes nothing but `memory`.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the first row in order with a NaN or infinity;
    ///   `SutureError.numerical` where the weights have diverged.
    func forward(
        _ tokens: TokenRows, _ order: [Int], memory: StepMemory, pull: CodePull? = nil, pulse: Pulse
    ) throws -> StepTotals {
        memory.begin(order.count)
        if let pull { try memory.takePull(active: pull.codes.width) }
        activation.begin(rows: order.count, steps: steps)
        let encoder = encoderRows
        let dead = try deadLatents(encoder)
        memory.auxiliaryWeight = dead?.weight ?? 0
        if let dead { _ = try memory.takeAuxiliary(k: dead.k) }
        let norms = decoderNorms.map { UnsafePointer($0.pointer) }
        memory.normPull = norms.map {
            NormPull(coefficient: activation.normCoefficient, rows: UnsafePointer(weights.decoder), norms: $0)
        }
        let pass = ForwardPass(
            memory: memory, tokens: tokens, order: order, weights: weights, encoder: encoder, norms: norms,
            largest: encoderCopy.largestPreActivation(), activation: activation, dead: dead, codePull: pull,
            pulse: pulse)
        let shared = Unchecked(pass)
        func forBlocks(_ body: @escaping @Sendable (_ pass: ForwardPass, _ block: Int) throws -> Void) throws {
            try parallelFor(memory.blocks, progress: pulse.repeated) { try body(shared.value, $0) }
        }
        try BLAS.singleThreaded {
            if activation.choosesAcrossTokens {
                try forBlocks { try $0.gather($1) }
                try activation.prepare(memory, encoder)
                repeat {
                    try forBlocks { try $0.search($1) }
                } while !activation.choose(memory)
                try forBlocks { try $0.decode($1) }
            } else {
                try forBlocks { pass, block in
                    try pass.gather(block)
                    try pass.search(block)
                    try pass.decode(block)
                }
            }
        }
        let totals = StepTotals(memory)
        try check(totals, rows: memory.rows)
        return totals
    }

    /// To be called whenever anything but an update has changed the weights.
    func refreshEncoderCopy() {
        for block in 0..<encoderCopy.count {
            let first = block * EncoderPanels.latents
            encoderCopy.refresh(
                first..<min(first + EncoderPanels.latents, dSAE), weights, decoderNorms?.pointer,
                scales: startScales.map { UnsafePointer($0.pointer) }, activation)
        }
    }

    private var encoderRows: EncoderRows {
        EncoderRows(
            rows: weights.encoder, bias: weights.encoderBias,
            scales: activation.ranksByNorm ? (decoderNorms ?? startScales).map { UnsafePointer($0.pointer) } : nil,
            floors: activation.thresholds.map { UnsafePointer($0.floors.pointer) }, panels: encoderCopy.panels)
    }

    /// Refuses a step whose gradients could overflow, before anything has changed.
    private func check(_ totals: StepTotals, rows: Int) throws {
        let scale = 2 / Double(rows)
        // Cauchy-Schwarz bounds on every element of the gradients (and of their partial sums);
        // their squares enter Adam.
        let decoderBound = scale * (totals.valueSquares * totals.errorSquares).squareRoot()
        let encoderBound = (totals.slopeSquares * max(totals.inputSquares, Double(rows))).squareRoot()
        let biasBound = scale * (totals.errorSquares * Double(rows)).squareRoot()
        let deadBound =
            scale * totals.auxiliaryWeight * (totals.auxiliaryValueSquares * totals.auxiliarySquares).squareRoot()
        guard [decoderBound, encoderBound, biasBound, deadBound].allSatisfy({ $0 < gradientLimit }) else {
            throw SutureError.numerical(
                "the loss is \(totals.errorSquares / Double(rows)) at step \(steps + 1): training diverged; "
                    + "a smaller lr or a smaller scale of the activations may help")
        }
    }
}

/// Largest element of a gradient: its square is well within float32.
let gradientLimit = 1e18

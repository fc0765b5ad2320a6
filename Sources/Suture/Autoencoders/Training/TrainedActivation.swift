// SPDX-License-Identifier: Apache-2.0

/// An activation function in training: how the active latents of a batch are found, and what the loss has
/// beside the squared error. One a trainer; what differs between architectures is behind it.
///
/// `begin`, `prepare`, `choose` and `finish` are called by one thread at a time, and not while others are
/// in `search` or `penalise`.
protocol TrainedActivation: AnyObject, Sendable {
    /// Of the architecture, as users write it.
    var name: String { get }
    /// Active latents a token that there is room for to begin with.
    var activeAtFirst: Int { get }
    /// Whether latents are ranked by pre-activation times the norm of their decoder row, where that is not 1
    /// (`DecoderNorm.free`).
    var ranksByNorm: Bool { get }
    /// What becomes of it at inference.
    func architecture() throws -> Architecture
    /// Thresholds that are trained along with the weights.
    var thresholds: TrainedThresholds? { get }

    /// Called before each forward pass with the tokens of the step and the steps before it.
    func begin(rows: Int, steps: Int)

    /// Whether it depends on other tokens what a token's active latents are: then all are searched, the
    /// choice is made by `choose`, and only then tokens are decoded.
    var choosesAcrossTokens: Bool { get }
    /// Called before the search of such a batch, whose inputs `memory` has.
    func prepare(_ memory: StepMemory, _ encoder: EncoderRows) throws
    /// Leaves the active latents in the codes. False if it must be searched again.
    func choose(_ memory: StepMemory) -> Bool

    /// Finds the latents of `count` tokens, input (count, d_in), that are or may be active, and adds them
    /// to `codes`, in an order that depends on nothing else.
    func search(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, codes: BlockCodes, beat: () throws -> Void
    ) throws

    /// Completes the gradients by a token's activations, which are those of the squared error's mean, by
    /// what else is in the loss.
    ///
    /// - Parameter norms: (d_sae), of the decoder rows; nil where all are 1.
    /// - Returns: the token's part of that loss.
    func penalise(_ entries: CodeEntries, norms: UnsafePointer<Float>?) -> Double
    /// What the loss has for each activation times the norm of its decoder row, mean over tokens.
    var normCoefficient: Float { get }

    /// Called after each step.
    func finish()
    /// Numbers that it goes on from, for checkpoints.
    var state: [(name: String, value: Double)] { get }
    func restore(_ value: (_ name: String) throws -> Double) throws
}

extension TrainedActivation {
    var ranksByNorm: Bool { false }
    var thresholds: TrainedThresholds? { nil }
    func begin(rows: Int, steps: Int) {}
    var choosesAcrossTokens: Bool { false }
    func prepare(_ memory: StepMemory, _ encoder: EncoderRows) throws {}
    func choose(_ memory: StepMemory) -> Bool { true }
    func penalise(_ entries: CodeEntries, norms: UnsafePointer<Float>?) -> Double { 0 }
    var normCoefficient: Float { 0 }
    func finish() {}
    var state: [(name: String, value: Double)] { [] }
    func restore(_ value: (_ name: String) throws -> Double) throws {}
}

extension Architecture {
    /// Its activation function in training.
    ///
    /// - Throws: `SutureError.unsupported` where it cannot be trained, `.invalidArgument` for options that
    ///   it has no use for.
    func trained(dIn: Int, dSAE: Int, options: TrainingOptions, blockRows: Int) throws
        -> any TrainedActivation
    {
        try options.requireUse(for: self)
        func thresholdSearch() -> ThresholdSearch {
            ThresholdSearch(dIn: dIn, dSAE: dSAE, blockRows: blockRows)
        }
        switch self {
        case .topK(let k):
            return TopKActivation(TopKSearch(dIn: dIn, dSAE: dSAE, k: k, blockRows: blockRows))
        case .batchTopK(let threshold, let k):
            guard let k else {
                throw SutureError.invalidArgument(
                    "the BatchTopK SAE has no k, expected one with the mean number of active latents to be trained")
            }
            return BatchTopKActivation(thresholdSearch(), k: k, dIn: dIn, dSAE: dSAE, threshold: threshold)
        case .jumpReLU(let threshold):
            let thresholds = try TrainedThresholds(threshold, bandwidth: Float(options.bandwidth ?? 0.05))
            return JumpReLUActivation(
                thresholdSearch(), thresholds,
                SparsityPenalty(
                    coefficient: options.l0Coefficient ?? 1, warmUpSteps: options.sparsityWarmUpSteps))
        case .relu:
            return ReLUActivation(
                thresholdSearch(),
                SparsityPenalty(coefficient: options.l1Coefficient ?? 1, warmUpSteps: options.sparsityWarmUpSteps))
        case .gated:
            throw SutureError.unsupported(
                "training of a \(name) SAE; topk, batchtopk, jumprelu and relu can be trained")
        }
    }
}

/// The k largest pre-activations of each token, then ReLU.
final class TopKActivation: TrainedActivation {
    private let searcher: TopKSearch

    init(_ search: TopKSearch) { searcher = search }

    var name: String { "topk" }
    var activeAtFirst: Int { searcher.k }
    var ranksByNorm: Bool { true }
    func architecture() -> Architecture { .topK(k: searcher.k) }

    func search(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, codes: BlockCodes, beat: () throws -> Void
    ) throws {
        try searcher.forEach(count, input: input, encoder: encoder, beat: beat) { _, indices, values in
            var active = 0
            while active < searcher.k, values[active] > 0 { active += 1 }
            try codes.append(indices, values, count: active)
        }
    }
}

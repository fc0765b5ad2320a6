// SPDX-License-Identifier: Apache-2.0

/// Settings of a training run. Defaults are the paper's (arXiv 2506.06609, section 3.1 and appendix
/// D) where it gives them, else PyTorch's.
public struct TrainingOptions: Sendable, Equatable {
    /// Tokens a step.
    public var batchSize = 4096
    /// Adam's step size, before `learningRateScheduler`.
    public var learningRate = 1e-4
    public var learningRateScheduler = LearningRateScheduler.constant
    /// Steps in which the learning rate rises to `learningRate` in a straight line.
    public var learningRateWarmUpSteps = 0
    /// Where the linear and the cosine scheduler end.
    public var learningRateEnd = 0.0
    /// Steps of the whole training, warm-up included: when the linear and the cosine scheduler end,
    /// which need it.
    public var totalSteps = 0
    /// Decay of the first moments.
    public var beta1 = 0.9
    /// Decay of the second moments.
    public var beta2 = 0.999
    /// Added to the corrected root of the second moment.
    public var epsilon = 1e-8
    /// Largest norm of the gradients, over all weights together: larger ones are scaled down to it
    /// (torch.nn.utils.clip_grad_norm_). nil: they stay as they are.
    public var maxGradientNorm: Double?
    public var decoderNorm = DecoderNorm.unitUnprojected
    /// Where b_dec begins: taken from up to 65,536 of the activations, drawn evenly, before the first
    /// step.
    public var decoderBiasStart = DecoderBiasStart.keep
    /// Scale of the activations in training, from the same sample; losses are those of scaled ones.
    public var normalizeActivations = ActivationNormalization.none
    /// Weight of the number of active latents in JumpReLU's loss; nil: 1.
    public var l0Coefficient: Double?
    /// Weight of the sum of activations in ReLU's loss; nil: 1.
    public var l1Coefficient: Double?
    /// Width of the window around a threshold in which pre-activations count for its gradient, for JumpReLU;
    /// nil: 0.05.
    public var bandwidth: Double?
    /// Steps in which l0Coefficient or l1Coefficient rises from 0 in a straight line.
    public var sparsityWarmUpSteps = 0
    /// Weight of the auxiliary loss, in which dead latents of TopK and BatchTopK reconstruct what the others
    /// leave; nil: without.
    public var auxLossCoefficient: Double?
    /// Dead latents a token in the auxiliary loss; nil: d_in / 2.
    public var auxK: Int?
    /// Latents that have not fired for so many tokens are dead.
    public var deadFeatureWindow = 1_000_000
    /// Weight of the pull towards codes of another model (`CodePull`); nil: without.
    public var pull: Double?
    /// Order of the tokens.
    public var seed: UInt64 = 0

    public init() {}

    /// - Throws: `SutureError.invalidArgument` for a setting outside its range.
    func validate() throws {
        try validateLearningRate()
        for (name, value, valid, range) in [
            ("beta1", beta1, beta1 >= 0 && beta1 < 1, "from 0 to below 1"),
            ("beta2", beta2, beta2 >= 0 && beta2 < 1, "from 0 to below 1"),
            ("epsilon", epsilon, epsilon >= 1e-20 && epsilon <= 1, "from 1e-20 to 1"),
        ] where !valid {
            throw SutureError.invalidArgument("\(name) is \(value), expected a number \(range)")
        }
        if let norm = maxGradientNorm, !(norm >= 1e-20 && norm <= 1e20) {
            throw SutureError.invalidArgument("max_grad_norm is \(norm), expected a number from 1e-20 to 1e20")
        }
        if let pull, !(pull > 0 && pull <= 1e6) {
            throw SutureError.invalidArgument("pull is \(pull), expected a number above 0, to 1e6")
        }
        if pull != nil, normalizeActivations != .none {
            throw SutureError.invalidArgument(
                "pull is given with normalize_activations \(normalizeActivations.name), expected none: codes of another "
                    + "model are not scaled")
        }
        try validateSparsity()
        guard batchSize >= 1, batchSize <= Trainer.rowLimit else {
            throw SutureError.invalidArgument(
                "batch_size is \(batchSize), expected 1 to \(Trainer.rowLimit)")
        }
    }
}

/// One training step, or the mean of several.
public struct TrainingMetrics: Sendable, Equatable {
    /// Steps and tokens since the trainer was made.
    public var steps = 0
    public var tokens = 0
    /// Mean over tokens of |x - x_hat|², summed over coordinates, before the update.
    public var loss = 0.0
    /// What else JumpReLU's or ReLU's loss has: the coefficient times the mean number of active latents, or
    /// times the mean sum of activations.
    public var sparsityLoss = 0.0
    /// The auxiliary loss of dead latents, times its coefficient.
    public var auxLoss = 0.0
    /// The squared distance from the codes of another model, mean over tokens, times the weight of the pull.
    public var pullLoss = 0.0
    /// Mean over tokens of |x - mean of the batch|².
    public var variance = 0.0
    /// Mean active latents a token.
    public var l0 = 0.0
    /// Latents that have not fired within the last `deadFeatureWindow` tokens, or since the start
    /// if that is less.
    public var dead = 0
    /// Of the last step.
    public var learningRate = 0.0
    public var seconds = 0.0
    /// 1 - loss / variance, both as exponential moving averages over the trainer's steps: each step
    /// counts 0.95 times as much as the one after it. NaN where it is in `explainedVariance`.
    public var explainedVarianceAverage = Double.nan
    /// Floating-point operations of all steps, as a dense implementation takes them: 12 d_in d_sae a
    /// token (`StepFlops`).
    public var flops = 0.0
    /// The same as executed: counted with the latents that fired.
    public var flopsExecuted = 0.0

    /// 1 - loss / variance; NaN where all tokens of the batch are the same.
    public var explainedVariance: Double { variance > 0 ? 1 - loss / variance : .nan }

    /// The figures of a batch.
    mutating func take(_ totals: StepTotals, tokens: Int) {
        loss = totals.errorSquares / Double(tokens)
        sparsityLoss = totals.penalty / Double(tokens)
        auxLoss = totals.auxiliaryWeight * totals.auxiliarySquares / Double(tokens)
        variance = totals.variance
        l0 = totals.active / Double(tokens)
    }
}

// SPDX-License-Identifier: Apache-2.0

/// What a trainer keeps of its metrics from step to step.
struct RunningMetrics: Equatable {
    /// What is left of a step's weight in the moving averages after the next step: the average is
    /// mostly about the last 20 steps.
    static let averageDecay = 0.95

    /// Sums over steps that no `TrainingMetrics` has been returned for.
    var pendingSteps = 0
    var loss = 0.0
    var sparsityLoss = 0.0
    var auxLoss = 0.0
    var pullLoss = 0.0
    var variance = 0.0
    var l0 = 0.0
    var seconds = 0.0
    /// Exponential moving sums, whose common factor cancels in the explained variance.
    var averageLoss = 0.0
    var averageVariance = 0.0
    /// Of all steps.
    var flops = 0.0
    var flopsExecuted = 0.0

    /// 1 - moving average of the loss / that of the variance; NaN before there is any variance.
    private var explainedVarianceAverage: Double { averageVariance > 0 ? 1 - averageLoss / averageVariance : .nan }

    /// Counts one step and completes its metrics.
    mutating func count(_ step: inout TrainingMetrics, flops stepFlops: StepFlops) {
        averageLoss = Self.averageDecay * averageLoss + (1 - Self.averageDecay) * step.loss
        averageVariance = Self.averageDecay * averageVariance + (1 - Self.averageDecay) * step.variance
        count(stepFlops)
        complete(&step)
    }

    mutating func count(_ stepFlops: StepFlops) {
        flops += stepFlops.dense
        flopsExecuted += stepFlops.executed
    }

    /// What a step's metrics have of all steps.
    func complete(_ step: inout TrainingMetrics) {
        step.explainedVarianceAverage = explainedVarianceAverage
        (step.flops, step.flopsExecuted) = (flops, flopsExecuted)
    }

    /// Keeps a step's metrics for the next means.
    mutating func keep(_ step: TrainingMetrics) {
        pendingSteps += 1
        loss += step.loss
        sparsityLoss += step.sparsityLoss
        auxLoss += step.auxLoss
        pullLoss += step.pullLoss
        variance += step.variance
        l0 += step.l0
        seconds += step.seconds
    }

    /// Means over the steps kept, beside what `last`, the last of them, has of the trainer itself.
    mutating func take(_ last: TrainingMetrics) -> TrainingMetrics {
        var means = last
        let count = Double(max(pendingSteps, 1))
        (means.loss, means.variance, means.l0) = (loss / count, variance / count, l0 / count)
        (means.sparsityLoss, means.auxLoss) = (sparsityLoss / count, auxLoss / count)
        means.pullLoss = pullLoss / count
        means.seconds = seconds
        pullLoss = 0
        (pendingSteps, loss, sparsityLoss, auxLoss, variance, l0, seconds) = (0, 0, 0, 0, 0, 0, 0)
        return means
    }
}

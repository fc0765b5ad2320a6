// SPDX-License-Identifier: Apache-2.0
import Glibc

/// How the learning rate goes after its warm-up.
public enum LearningRateScheduler: Sendable, CaseIterable {
    case constant
    /// In a straight line to `learningRateEnd` (torch.optim.lr_scheduler.LinearLR).
    case linear
    /// Half a cosine wave to `learningRateEnd` (torch.optim.lr_scheduler.CosineAnnealingLR).
    case cosine

    /// As users write it.
    public var name: String {
        switch self {
        case .constant: return "constant"
        case .linear: return "linear"
        case .cosine: return "cosine"
        }
    }
}

extension TrainingOptions {
    /// The learning rate of a step, which has `steps` before it.
    ///
    /// A warm-up of w steps takes lr 1/w, lr 2/w, … lr, and the scheduler begins after it, at lr, as in
    /// SAELens' sequence of torch schedulers. `totalSteps` counts both; later steps stay at
    /// `learningRateEnd`, where CosineAnnealingLR would rise again.
    public func learningRate(after steps: Int) -> Double {
        guard steps >= learningRateWarmUpSteps else {
            return learningRate * (Double(steps + 1) / Double(learningRateWarmUpSteps))
        }
        let length = totalSteps - learningRateWarmUpSteps
        guard learningRateScheduler != .constant, length > 0 else { return learningRate }
        let part = min(Double(steps - learningRateWarmUpSteps) / Double(length), 1)
        let remaining = learningRateScheduler == .linear ? 1 - part : (1 + cos(Double.pi * part)) / 2
        return learningRateEnd + (learningRate - learningRateEnd) * remaining
    }

    /// - Throws: `SutureError.invalidArgument` for a setting outside its range.
    func validateLearningRate() throws {
        guard learningRate > 0, learningRate <= TrainingOptions.learningRateLimit else {
            throw SutureError.invalidArgument("lr is \(learningRate), expected a number above 0, at most 1e6")
        }
        guard learningRateEnd >= 0, learningRateEnd <= TrainingOptions.learningRateLimit else {
            throw SutureError.invalidArgument("lr_end is \(learningRateEnd), expected a number from 0 to 1e6")
        }
        for (name, steps) in [("lr_warm_up_steps", learningRateWarmUpSteps), ("total_steps", totalSteps)] {
            guard steps >= 0, steps <= TrainingOptions.stepLimit else {
                throw SutureError.invalidArgument("\(name) is \(steps), expected 0 to \(TrainingOptions.stepLimit)")
            }
        }
        guard learningRateScheduler == .constant || totalSteps > learningRateWarmUpSteps else {
            throw SutureError.invalidArgument(
                "total_steps is \(totalSteps), expected more than lr_warm_up_steps = \(learningRateWarmUpSteps) for "
                    + "lr_scheduler \(learningRateScheduler.name)")
        }
    }

    /// Steps of it, and roots of 1e-20, keep every update finite in float32, whatever the data.
    private static var learningRateLimit: Double { 1e6 }
    private static var stepLimit: Int { 1 << 52 }
}

// SPDX-License-Identifier: Apache-2.0

/// A penalty on the codes of tokens, with a coefficient that rises from 0 in a straight line over the first steps.
struct SparsityPenalty {
    private let full: Double
    private let warmUpSteps: Int
    /// In this step.
    private(set) var coefficient: Float = 0
    /// The same, divided by the tokens of the step: what one token's penalty weighs in the mean.
    private(set) var share: Float = 0

    init(coefficient: Double, warmUpSteps: Int) { (full, self.warmUpSteps) = (coefficient, warmUpSteps) }

    /// Makes ready for a step on `rows` tokens, after `steps` others.
    mutating func begin(rows: Int, steps: Int) {
        let now = steps < warmUpSteps ? full * Double(steps) / Double(warmUpSteps) : full
        (coefficient, share) = (Float(now), Float(now / Double(rows)))
    }
}

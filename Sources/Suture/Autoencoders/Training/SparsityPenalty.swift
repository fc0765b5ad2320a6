// SPDX-License-Identifier: Apache-2.0

/// A coefficient in the loss that rises from 0 in a straight line over the first steps.
struct SparsityPenalty {
    let coefficient: Double
    let warmUpSteps: Int

    func coefficient(after steps: Int) -> Double {
        steps < warmUpSteps ? coefficient * Double(steps) / Double(warmUpSteps) : coefficient
    }
}

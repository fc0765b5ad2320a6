// SPDX-License-Identifier: Apache-2.0

/// Sums over one block of tokens, in float64.
struct BlockSums {
    /// Squares of errors, inputs, activations and slopes; active latents; what the activation adds to the
    /// loss; squares of errors and activations in the auxiliary loss; squares of distances from the codes of
    /// another model; then two vectors.
    let pointer: UnsafeMutablePointer<Double>
    let dIn: Int

    static func width(_ dIn: Int) -> Int { 9 + 2 * dIn }

    var input: UnsafeMutablePointer<Double> { pointer + 9 }
    var error: UnsafeMutablePointer<Double> { pointer + 9 + dIn }

    func clear() { pointer.update(repeating: 0, count: Self.width(dIn)) }
}

/// Sums over a whole batch.
struct StepTotals {
    var errorSquares = 0.0
    var inputSquares = 0.0
    var valueSquares = 0.0
    var slopeSquares = 0.0
    var active = 0.0
    /// What the activation adds to the loss.
    var penalty = 0.0
    /// What multiplies the squares of the auxiliary loss.
    let auxiliaryWeight: Double
    var auxiliarySquares = 0.0
    var auxiliaryValueSquares = 0.0
    /// Squares of distances from the codes of another model.
    var pullSquares = 0.0
    /// Mean over tokens of |x - mean|².
    var variance = 0.0
    /// (d_in): x_hat - x, summed over tokens.
    var error: [Double]

    /// Adds up the sums of all blocks, in order: the same bits for any number of threads.
    init(_ memory: StepMemory) {
        auxiliaryWeight = Double(memory.auxiliaryWeight)
        error = [Double](repeating: 0, count: memory.dIn)
        var input = [Double](repeating: 0, count: memory.dIn)
        for block in 0..<memory.blocks {
            let part = memory.blockSums(block)
            errorSquares += part.pointer[0]
            inputSquares += part.pointer[1]
            valueSquares += part.pointer[2]
            slopeSquares += part.pointer[3]
            active += part.pointer[4]
            penalty += part.pointer[5]
            auxiliarySquares += part.pointer[6]
            auxiliaryValueSquares += part.pointer[7]
            pullSquares += part.pointer[8]
            for i in 0..<memory.dIn {
                input[i] += part.input[i]
                error[i] += part.error[i]
            }
        }
        let count = Double(memory.rows)
        let mean = input.reduce(0) { $0 + ($1 / count) * ($1 / count) }
        let square = inputSquares / count
        // Below rounding it is a batch of equal tokens.
        variance = square - mean > 1e-13 * square ? square - mean : 0
    }
}

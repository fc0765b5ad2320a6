// SPDX-License-Identifier: Apache-2.0

/// ReLU with an L1 penalty: the loss is the squared error plus l1_coefficient times the mean over tokens of
/// the sum of activations.
///
/// As in SAELens' StandardTrainingSAE each activation is weighted by the norm of its decoder row. Where rows
/// are kept at norm 1 the weight is 1, and no gradient goes through it; with `DecoderNorm.free` one does.
final class ReLUActivation: TrainedActivation, @unchecked Sendable {
    private let searcher: ThresholdSearch
    private var penalty: SparsityPenalty

    init(_ search: ThresholdSearch, _ penalty: SparsityPenalty) { (searcher, self.penalty) = (search, penalty) }

    var name: String { "relu" }
    var activeAtFirst: Int { 64 }
    func architecture() -> Architecture { .relu }

    func begin(rows: Int, steps: Int) { penalty.begin(rows: rows, steps: steps) }

    func search(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, codes: BlockCodes, beat: () throws -> Void
    ) throws {
        try searcher.forEach(count, input: input, encoder: encoder, bar: 0, beat: beat) { _, found, indices, values in
            try codes.append(indices, values, count: found)
        }
    }

    var normCoefficient: Float { penalty.coefficient }

    func penalise(_ entries: CodeEntries, norms: UnsafePointer<Float>?) -> Double {
        var sum = 0.0
        for slot in 0..<entries.count {
            let norm = norms?[Int(entries.indices[slot])] ?? 1
            sum += Double(entries.values[slot]) * Double(norm)
            entries.slopes[slot] += penalty.share * norm
        }
        return Double(penalty.coefficient) * sum
    }
}

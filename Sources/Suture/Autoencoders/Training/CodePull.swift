// SPDX-License-Identifier: Apache-2.0
import CSutureKernels

/// Training with a pull towards codes of another model: those of the SAE that this one was carried from, on
/// the same tokens, so that latents stay what they are while they learn to reconstruct. The loss gets
///
///     pull mean over tokens of sum_i (f_i - t_i)²
///
/// where t are the other model's activations, and both are what the latent contributes here: activations times
/// the norm that its decoder row began with. Through latents that are active here the gradient goes as through
/// any activation. One that should be active and is not has none; it gets that of its pre-activation, as far as
/// this is below t. Not in the paper.
struct CodePull {
    /// Row i belongs to token i of the batch.
    let codes: SparseCodes
    /// In the loss.
    let weight: Float
    /// (d_sae) What activations of the SAE are divided by to become contributions; nil: by 1.
    let scales: UnsafePointer<Float>?
    /// Operations that the codes took.
    let operations: Double

    /// The latents that should be active on a token, and what they should contribute.
    func forEach(_ row: Int, _ body: (_ latent: Int32, _ wanted: Float) -> Void) {
        let first = row * codes.width
        for slot in first..<first + Int(codes.counts[row]) {
            let latent = codes.indices[slot]
            body(latent, codes.values[slot] / (scales?[Int(latent)] ?? 1))
        }
    }
}

/// What a pull adds to the memory of a step: latents that should be active and are not.
struct PullMemory {
    let codes: [BlockCodes]
    let groups: LatentGroups

    init(capacity: Int, dSAE: Int, active: Int, blockRows: Int) throws {
        let blocks = (capacity + blockRows - 1) / blockRows
        let width = min(capacity, blockRows)
        codes = try (0..<blocks).map { _ in try BlockCodes(tokens: width, slots: width * active) }
        groups = try LatentGroups(dSAE: dSAE, slots: capacity * active, thresholds: false)
    }
}

extension ForwardPass {
    /// The pull on one token whose active latents have their gradients by the errors, and its part of the loss.
    func pull(_ pull: CodePull, _ missing: BlockCodes, _ row: Int, _ entries: CodeEntries, scratch: PullScratch) throws
        -> Double
    {
        let factor = pull.weight * Float(2 / Double(memory.rows))
        let input = memory.input + row * memory.dIn
        var (loss, found) = (0.0, 0)
        scratch.begin(entries.count)
        pull.forEach(row) { latent, wanted in
            if let slot = (0..<entries.count).first(where: { entries.indices[$0] == latent && entries.values[$0] > 0 })
            {
                scratch.wanted[slot] = wanted
                return
            }
            loss += Double(wanted) * Double(wanted)
            let present =
                sk_dot(encoder.rows + Int(latent) * memory.dIn, input, memory.dIn) + encoder.bias[Int(latent)]
            guard present < wanted else { return }
            (scratch.indices[found], scratch.slopes[found]) = (latent, factor * (present - wanted))
            found += 1
        }
        for slot in 0..<entries.count where entries.values[slot] > 0 {
            let difference = entries.values[slot] - scratch.wanted[slot]
            loss += Double(difference) * Double(difference)
            entries.slopes[slot] += factor * difference
        }
        // Their activations are 0: decoder rows have no gradient from them.
        try missing.append(scratch.indices, scratch.zeros, count: found)
        let added = missing.entries(missing.tokens - 1)
        for slot in 0..<found { added.slopes[slot] = scratch.slopes[slot] }
        memory.blockSums(row / memory.blockRows).pointer[3] += (0..<found).reduce(0.0) {
            $0 + Double(scratch.slopes[$1]) * Double(scratch.slopes[$1])
        }
        return loss
    }
}

/// Memory of one block for its tokens, one after the other.
final class PullScratch {
    private let memory: Buffer<Float>
    private let numbers: Buffer<Int32>
    private let room: Int
    private let capacity: Int

    /// - Parameters:
    ///   - width: most latents of a token that should be active.
    ///   - capacity: most latents of a token that are.
    init(width: Int, capacity: Int) throws {
        (room, self.capacity) = (width, capacity)
        memory = try Buffer(zeros: 2 * width + capacity, for: "a pull")
        numbers = try Buffer(count: width, for: "a pull")
    }

    var indices: UnsafeMutablePointer<Int32> { numbers.pointer }
    var slopes: UnsafeMutablePointer<Float> { memory.pointer }
    var zeros: UnsafeMutablePointer<Float> { memory.pointer + room }
    var wanted: UnsafeMutablePointer<Float> { memory.pointer + 2 * room }

    func begin(_ active: Int) { wanted.update(repeating: 0, count: min(active, capacity)) }
}

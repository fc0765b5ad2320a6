// SPDX-License-Identifier: Apache-2.0

/// Thresholds of JumpReLU, trained as weights are.
///
/// `@unchecked Sendable`: a latent's are written by one thread, and not while others read.
final class TrainedThresholds: @unchecked Sendable {
    /// (d_sae), never below 0.
    let values: Buffer<Float>
    let moments: AdamMoments
    /// (d_sae): all that is within half a bandwidth of the threshold is above it.
    let floors: Buffer<Float>
    let bandwidth: Float

    init(_ start: FloatMatrix, bandwidth: Float) throws {
        self.bandwidth = bandwidth
        values = try Buffer(zeros: start.cols)
        moments = try AdamMoments(start.cols)
        floors = try Buffer(zeros: start.cols)
        values.pointer.update(from: start.pointer, count: start.cols)
        project(0..<start.cols)
    }

    /// For a latent whose pre-activations are multiplied by `factor`.
    func scale(_ latent: Int, by factor: Double) {
        values.pointer[latent] = Float(Double(values.pointer[latent]) * factor)
        project(latent..<latent + 1)
    }

    /// To be called whenever thresholds of `latents` have changed: brings them to at least 0, and the
    /// floors after them.
    func project(_ latents: Range<Int>) {
        for latent in latents {
            values.pointer[latent] = max(values.pointer[latent], 0)
            floors.pointer[latent] = (values.pointer[latent] - bandwidth / 2).nextDown
        }
    }
}

/// JumpReLU with an L0 penalty (Rajamanoharan et al. 2024, arXiv 2407.14435, as SAELens'
/// JumpReLUTrainingSAE does it by default): pre where pre > threshold, a threshold a latent; the loss is
/// the squared error plus l0_coefficient times the mean number of active latents.
///
/// Neither has a derivative by the threshold; straight-through estimators with a rectangle of width
/// `bandwidth` stand in for it: with g the gradient by the activation and N tokens, every pre-activation
/// within half a bandwidth of the threshold adds -(threshold g + l0_coefficient / N) / bandwidth. Thresholds
/// themselves are trained, not their logarithms, and kept at 0 or above.
final class JumpReLUActivation: TrainedActivation, @unchecked Sendable {
    private let searcher: ThresholdSearch
    private let trained: TrainedThresholds
    private var penalty: SparsityPenalty

    init(_ search: ThresholdSearch, _ thresholds: TrainedThresholds, _ penalty: SparsityPenalty) {
        (searcher, trained, self.penalty) = (search, thresholds, penalty)
    }

    var name: String { "jumprelu" }
    var activeAtFirst: Int { 64 }
    var thresholds: TrainedThresholds? { trained }

    func architecture() throws -> Architecture {
        .jumpReLU(
            threshold: try FloatMatrix(rows: 1, cols: trained.values.count) {
                $0.update(from: trained.values.pointer, count: trained.values.count)
            })
    }

    func begin(rows: Int, steps: Int) { penalty.begin(rows: rows, steps: steps) }

    func search(
        _ count: Int, input: UnsafePointer<Float>, encoder: EncoderRows, codes: BlockCodes, beat: () throws -> Void
    ) throws {
        let (thresholds, bandwidth) = (trained.values.pointer, trained.bandwidth)
        try searcher.forEach(count, input: input, encoder: encoder, bar: 0, beat: beat) { row, found, indices, values in
            try codes.append(indices, values, count: found)
            let entries = codes.entries(row)
            guard let windows = entries.thresholdSlopes else { return }
            for slot in 0..<found {
                let (threshold, value) = (thresholds[Int(indices[slot])], values[slot])
                windows[slot] = abs((value - threshold) / bandwidth) < 0.5 ? 1 : 0
                entries.values[slot] = value > threshold ? value : 0
            }
        }
    }

    func penalise(_ entries: CodeEntries, norms: UnsafePointer<Float>?) -> Double {
        guard let windows = entries.thresholdSlopes else { return 0 }
        var active = 0
        for slot in 0..<entries.count {
            let threshold = trained.values.pointer[Int(entries.indices[slot])]
            if windows[slot] != 0 {
                windows[slot] = -(threshold * entries.slopes[slot] + penalty.share) / trained.bandwidth
            }
            if entries.values[slot] > 0 { active += 1 } else { entries.slopes[slot] = 0 }
        }
        return Double(penalty.coefficient) * Double(active)
    }
}

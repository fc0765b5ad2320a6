// SPDX-License-Identifier: Apache-2.0

extension SAE {
    /// A SAE of some of the latents, in the order given, with their activations as they are: for those
    /// that one trusts, or needs. b_dec stays.
    ///
    /// Latents of BatchTopK (as it is used), JumpReLU, ReLU and Gated do not know of one another, so
    /// theirs are the same. TopK chooses them against one another: without those left out, others would
    /// fire in their places. From activations of its model a TopK SAE therefore becomes JumpReLU, each
    /// latent's threshold the order statistic of its pre-activations with which it fires as often on them
    /// as before (halfway to the next one). A selection of all latents stays TopK.
    ///
    /// Memory: up to 24 bytes for each positive pre-activation of a block of latents, at most 2²⁴ of them.
    ///
    /// - Parameters:
    ///   - latents: numbers of latents, each at most once.
    ///   - shards: (N, d_in) each, activations of the SAE's model; for TopK only.
    /// - Throws: `SutureError.invalidArgument` for a number that is no latent's or comes twice, no latents,
    ///   no activations where a TopK SAE needs them, other widths, or a value that is not finite;
    ///   `.cancelled`; `.outOfMemory`.
    public func selecting(_ latents: [Int], firingAsOn shards: [MatrixView] = [], progress: Progress = .none) throws
        -> SAE
    {
        try selecting(latents, firingAsOn: shards, entries: 1 << 24, progress: progress)
    }

    /// - Parameter entries: most pre-activations of a block of latents.
    func selecting(_ latents: [Int], firingAsOn shards: [MatrixView], entries: Int, progress: Progress = .none) throws
        -> SAE
    {
        guard !latents.isEmpty else {
            throw SutureError.invalidArgument("latents is empty, expected at least one")
        }
        var taken = [Bool](repeating: false, count: dSAE)
        for (index, latent) in latents.enumerated() {
            guard latent >= 0, latent < dSAE else {
                throw SutureError.invalidArgument("latents[\(index)] is \(latent), expected 0 to \(dSAE - 1)")
            }
            guard !taken[latent] else {
                throw SutureError.invalidArgument(
                    "latents[\(index)] is \(latent), which comes twice, expected each latent at most once")
            }
            taken[latent] = true
        }
        guard case .topK = architecture, latents.count < dSAE else { return try gathered(latents, architecture) }
        guard !shards.isEmpty else {
            throw SutureError.invalidArgument(
                "shards is empty, expected activations of the SAE's model: latents of a topk SAE are chosen against one "
                    + "another, and without those left out each needs a threshold of its own")
        }
        for (index, shard) in shards.enumerated() {
            try checkTokens(shard, "shards[\(index)]")
            if let bad = shard.firstNonFinite(asFloat32: true) {
                throw SutureError.invalidArgument(
                    "shards[\(index)][\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
            }
        }
        let thresholds = try folded().thresholds(latents, shards, entries, progress)
        return try folded().gathered(latents, .jumpReLU(threshold: thresholds))
    }

    /// The weights of some latents; of TopK, only with another architecture or all of them.
    private func gathered(_ latents: [Int], _ architecture: Architecture) throws -> SAE {
        let (n, d, m) = (latents.count, dIn, dSAE)
        func row(_ matrix: FloatMatrix) throws -> FloatMatrix {
            try FloatMatrix(rows: 1, cols: n) { target in
                for (place, latent) in latents.enumerated() { target[place] = matrix.pointer[latent] }
            }
        }
        let made: Architecture
        switch architecture {
        case .jumpReLU(let threshold):
            made = .jumpReLU(threshold: threshold.cols == n ? threshold : try row(threshold))
        case .gated(let gateBias, let magnitudeBias, let magnitudeScale):
            made = .gated(
                gateBias: try row(gateBias), magnitudeBias: try row(magnitudeBias),
                magnitudeScale: try row(magnitudeScale))
        // Their mean number in training says nothing of a part of them.
        case .batchTopK(let threshold, let k): made = .batchTopK(threshold: threshold, k: n == m ? k : nil)
        case .topK, .relu: made = architecture
        }
        var result = try SAE(
            encoder: FloatMatrix(rows: d, cols: n) { target in
                for i in 0..<d {
                    for (place, latent) in latents.enumerated() {
                        target[i * n + place] = encoder.pointer[i * m + latent]
                    }
                }
            },
            encoderBias: row(encoderBias),
            decoder: FloatMatrix(rows: n, cols: d) { target in
                for (place, latent) in latents.enumerated() {
                    (target + place * d).update(from: decoder.pointer + latent * d, count: d)
                }
            },
            decoderBias: decoderBias, architecture: made, subtractsDecoderBias: subtractsDecoderBias,
            rescalesByDecoderNorm: rescalesByDecoderNorm, normalization: normalization, metadata: metadata)
        try result.setEvidence(evidence?.selecting(latents))
        return result
    }

    /// Of each of the latents the threshold with which it alone fires as often as it does now. This SAE is
    /// folded, so that pre-activations are what is ranked.
    private func thresholds(
        _ latents: [Int], _ shards: [MatrixView], _ entries: Int, _ progress: Progress
    ) throws -> FloatMatrix {
        let pieces = shards.flatMap { shard in
            (0..<shard.rows).panels(of: CodeSums.pieceRows).map { shard.rows($0) }
        }
        let tokens = pieces.reduce(0) { $0 + $1.rows }
        let blocks = (0..<latents.count).panels(of: max(1, min(latents.count, entries / tokens)))
        let total = tokens * (1 + blocks.count)
        var done = 0
        func encoded(by sae: SAE) throws -> [SparseCodes] {
            try pieces.map { piece in
                let codes = try sae.encode(piece, progress: progress.fixed(done, of: total))
                done += piece.rows
                return codes
            }
        }
        var firings = [Int](repeating: 0, count: dSAE)
        for piece in pieces {
            let counted = [try encode(piece, progress: progress.fixed(done, of: total))].firings(dSAE: dSAE)
            for latent in 0..<dSAE { firings[latent] += counted[latent] }
            done += piece.rows
        }
        let boundary = try LargestBoundary(size: tokens)
        let values = try Buffer<Float>(count: tokens, for: "scores")
        return try FloatMatrix(rows: 1, cols: latents.count) { target in
            for block in blocks {
                try progress.report(done, of: total)
                let chosen = block.map { latents[$0] }
                // Where an activation is above zero it is the pre-activation, and only there it can matter.
                let positive = try FiringsByLatent(
                    encoded(by: gathered(chosen, .relu)), dSAE: chosen.count)
                for (place, latent) in chosen.enumerated() {
                    let entries = positive.range(place)
                    for (slot, entry) in entries.enumerated() {
                        values.pointer[slot] = Float(positive.values.pointer[entry])
                    }
                    let strongest = (0..<entries.count).reduce(Float(0)) { max($0, values.pointer[$1]) }
                    let wanted = min(firings[latent], entries.count)
                    target[block.lowerBound + place] =
                        wanted == 0
                        ? strongest : max(0, boundary.find(wanted, of: values.pointer, size: entries.count))
                }
            }
        }
    }
}

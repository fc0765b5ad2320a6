// SPDX-License-Identifier: Apache-2.0

/// Where an update gets its gradients from, latent by latent: the step's own forward pass
/// (`StepMemory`), or a buffer that has been reduced outside (`FlatGradients`).
protocol LatentGradients: SendableMetatype {
    /// Tokens the gradients come from.
    var rows: Int { get }
    /// Elements of `LatentScratch.staging` that are used for a block of latents.
    func stagingSize(dIn: Int, latents: Int) -> Int
    /// Called for each block of latents before its first gradient.
    func begin(_ latents: Range<Int>, _ scratch: LatentScratch)
    /// Writes the gradients of the latent's encoder and decoder row (d_in) to the scratch, and returns
    /// that of its bias.
    func gradient(ofLatent latent: Int, _ scratch: LatentScratch) -> Float
    /// The gradient of the latent's threshold, where thresholds are trained.
    func thresholdGradient(ofLatent latent: Int) -> Float
    /// False only where the latent's gradient is known to be 0.
    func mayHaveGradient(_ latent: Int) -> Bool
    /// Whether the latent was active on any token.
    func fired(_ latent: Int) -> Bool
}

/// Memory of one thread for the gradients of one block of latents.
struct LatentScratch {
    /// (d_in)
    let encoder: UnsafeMutablePointer<Float>
    /// (d_in)
    let decoder: UnsafeMutablePointer<Float>
    /// One for each latent of the block.
    let bias: UnsafeMutablePointer<Float>
    let staging: UnsafeMutablePointer<Float>
}

extension StepMemory: LatentGradients {
    func stagingSize(dIn: Int, latents: Int) -> Int { 0 }

    func begin(_ latents: Range<Int>, _ scratch: LatentScratch) {}

    func gradient(ofLatent latent: Int, _ scratch: LatentScratch) -> Float {
        gradient(ofLatent: latent, encoder: scratch.encoder, decoder: scratch.decoder)
    }

    func thresholdGradient(ofLatent latent: Int) -> Float {
        guard let slopes = groupedThresholdSlopes else { return 0 }
        var sum = 0.0
        for entry in groups[latent]..<groups[latent + 1] { sum += Double(slopes[entry]) }
        return Float(sum)
    }

    func mayHaveGradient(_ latent: Int) -> Bool {
        if let starts = auxiliary?.groups.starts, starts[latent + 1] > starts[latent] { return true }
        if let starts = pull?.groups.starts, starts[latent + 1] > starts[latent] { return true }
        return groups[latent + 1] > groups[latent]
    }

    // With thresholds there are entries that are not active.
    func fired(_ latent: Int) -> Bool {
        (groups[latent]..<groups[latent + 1]).contains { groupedValues[$0] > 0 }
    }

    /// Tokens on which the latent was active.
    func firings(_ latent: Int) -> Int {
        (groups[latent]..<groups[latent + 1]).reduce(0) { $0 + (groupedValues[$1] > 0 ? 1 : 0) }
    }
}

// SPDX-License-Identifier: Apache-2.0

extension SAE {
    /// The random start of training (arXiv 2506.06609, §D): decoder rows with independent normal
    /// entries, normalised to 1; `W_enc = W_decᵀ`; biases 0. The same for the same seed, whatever
    /// the number of threads.
    ///
    /// BatchTopK and JumpReLU begin with the thresholds that `architecture` has; SAELens' are 0 and 0.01.
    ///
    /// - Throws: `SutureError.unsupported` for Gated, whose gates have no start of their own here.
    public static func random(
        dIn: Int, dSAE: Int, architecture: Architecture, seed: UInt64, subtractsDecoderBias: Bool = false,
        rescalesByDecoderNorm: Bool = false, normalization: Normalization = .none
    ) throws -> SAE {
        if case .gated = architecture {
            throw SutureError.unsupported(
                "architecture is gated, expected topk, batchtopk, jumprelu or relu: a random start is defined for those"
            )
        }
        guard dIn >= 1, dSAE >= 1, dIn <= SAE.sizeLimit, dSAE <= SAE.sizeLimit else {
            throw SutureError.invalidArgument("d_in is \(dIn) and d_sae is \(dSAE), expected 1 to \(SAE.sizeLimit)")
        }
        // The memory first: sizes beyond it are an error before anything else is made for them.
        let decoder = try FloatMatrix(rows: dSAE, cols: dIn) { memory in
            // A generator a row, so that rows can be made in any order.
            var master = RandomSource(seed: seed)
            let seeds = (0..<dSAE).map { _ in master.next() }
            let target = Unchecked(memory)
            try parallelFor(dSAE) { row in
                var random = RandomSource(seed: seeds[row])
                var values = (0..<dIn).map { _ in random.normal() }
                var norm = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
                // Every entry exactly 0 has probability 0, but the row must have norm 1 all the same.
                if norm == 0 { (values[0], norm) = (1, 1) }
                for j in 0..<dIn { target.value[row * dIn + j] = Float(values[j] / norm) }
            }
        }
        return try SAE(
            encoder: FloatMatrix(rows: dIn, cols: dSAE) {
                transpose(decoder.pointer, rows: dSAE, cols: dIn, into: $0)
            }, encoderBias: FloatMatrix(rows: 1, cols: dSAE) { _ in },
            decoder: decoder, decoderBias: FloatMatrix(rows: 1, cols: dIn) { _ in }, architecture: architecture,
            subtractsDecoderBias: subtractsDecoderBias, rescalesByDecoderNorm: rescalesByDecoderNorm,
            normalization: normalization)
    }
}

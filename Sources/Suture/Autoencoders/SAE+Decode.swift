// SPDX-License-Identifier: Apache-2.0

extension SAE {
    /// Decodes codes: `x_hat = f W_dec + b_dec`, adding up the rows of the active latents only.
    ///
    /// - Parameters:
    ///   - output: room for (codes.rows, d_in).
    ///   - rowStride: elements from one row of `output` to the next, at least d_in.
    /// - Throws: `SutureError.invalidArgument` where the codes have another d_sae; `.unsupported`
    ///   where this SAE normalises each token and the codes do not come from its `encode`, for they
    ///   then lack what undoing it needs; `.cancelled`, leaving `output` partly written.
    public func decode(
        _ codes: SparseCodes, into output: UnsafeMutablePointer<Float>, rowStride: Int, progress: Progress = .none
    ) throws {
        guard codes.dSAE == dSAE else {
            throw SutureError.invalidArgument("codes are of \(codes.dSAE) latents, expected d_sae = \(dSAE)")
        }
        if normalization.isPerToken, codes.tokenScales == nil {
            throw SutureError.unsupported(
                "codes cannot be decoded: this SAE has the per-token normalisation \(normalization.name), and codes that do not "
                    + "come from encoding with such a SAE lack the tokens' scales")
        }
        let coder = BlockCoder(self)
        // Codes of another SAE may carry scales that are none of this one's business.
        let tokenScales = normalization.isPerToken ? codes.tokenScales : nil
        let target = Unchecked(output)
        try coder.forEachBlock(of: codes.rows, progress: progress) { block in
            for row in block * coder.blockRows..<min(codes.rows, (block + 1) * coder.blockRows) {
                coder.decode(
                    count: Int(codes.counts[row]), indices: codes.indices + row * codes.width,
                    values: codes.values + row * codes.width, undo: tokenScales?[row] ?? coder.fixedUndo,
                    into: target.value + row * rowStride)
            }
        }
    }

    /// `decode(encode(x))`, the same bits, without the codes of all tokens at a time.
    ///
    /// - Parameters:
    ///   - x: (N, d_in), N >= 1.
    ///   - output: room for (N, d_in); may be the memory of `x` itself.
    /// - Throws: as `encode`, leaving `output` partly written.
    public func reconstruct(
        _ x: MatrixView, into output: UnsafeMutablePointer<Float>, rowStride: Int, progress: Progress = .none
    ) throws {
        try checkTokens(x, "x")
        let coder = BlockCoder(self)
        let target = Unchecked(output)
        try coder.forEachBlock(of: x.rows, progress: progress) { block in
            try coder.withScratch { scratch in
                let range = try coder.encode(x, block: block, scratch)
                for (i, row) in range.enumerated() {
                    coder.decode(row: i, of: scratch, into: target.value + row * rowStride)
                }
            }
        }
    }

    /// `reconstruct` into a new matrix.
    public func reconstruct(_ x: MatrixView, progress: Progress = .none) throws -> FloatMatrix {
        try checkTokens(x, "x")
        return try FloatMatrix(rows: x.rows, cols: dIn) { target in
            try reconstruct(x, into: target, rowStride: dIn, progress: progress)
        }
    }

    /// `decode` into a new matrix.
    public func decode(_ codes: SparseCodes, progress: Progress = .none) throws -> FloatMatrix {
        try FloatMatrix(rows: codes.rows, cols: dIn) { target in
            try decode(codes, into: target, rowStride: dIn, progress: progress)
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc

extension Stitch {
    /// Carries a SAE of one model to the other (arXiv 2506.06609, eq. 4–6), such that
    /// `SAE'(h) = T(SAE(T⁻(h)))`: upwards, with T = up and T⁻ = down,
    /// `W_enc' = P_down W_enc`, `b_enc' = b_down W_enc + b_enc`, `W_dec' = W_dec P_up`,
    /// `b_dec' = b_dec P_up + b_up`. Activations are the same numbers.
    ///
    /// Decoder norms, a fixed scale and the subtraction of b_dec are folded into the weights first:
    /// the norms of the new decoder have nothing to do with those of the old one. For Gated, b_gate
    /// takes the place of b_enc, and b_mag gets `exp(r_mag)` times the shift. Sums are in float64,
    /// rounded once.
    ///
    /// The metadata of the result names the new model and layer, where the stitch knows them, and
    /// keeps the old ones in `transferred_from`.
    ///
    /// - Parameter site: where it comes from, in place of what its metadata say; so a name that nobody can
    ///   read, or that says too little, can be overruled.
    /// - Throws: `SutureError.invalidArgument` where sizes, models, layers or streams do not match;
    ///   `.unsupported` for a per-token normalisation, with which there is no such SAE.
    public func transfer(_ sae: SAE, direction: Direction = .up, site: Site? = nil) throws -> SAE {
        let (forward, backward) = (map(direction), map(direction == .up ? .down : .up))
        let ends = try TransferEnds(self, direction, of: "sae")
        guard sae.dIn == forward.matrix.rows else {
            throw SutureError.invalidArgument(
                "sae has d_in = \(sae.dIn), expected \(ends.sourceSize) = \(forward.matrix.rows) "
                    + "of the stitch (d_a = \(dA), d_b = \(dB)) for this direction")
        }
        if sae.normalization.isPerToken {
            throw SutureError.unsupported(
                "sae normalises each token (\(sae.normalization.name)), which is no affine map: "
                    + "a stitch cannot carry it across")
        }
        let metadata = try ends.metadata(of: sae.metadata, from: site)
        let folded = try sae.folded()

        let shift = product(backward.bias, folded.encoder)
        func shifted(_ bias: FloatMatrix, factor: (Int) -> Double = { _ in 1 }) throws -> FloatMatrix {
            try FloatMatrix(rows: 1, cols: sae.dSAE) { target in
                for j in 0..<sae.dSAE { target[j] = Float(Double(bias[0, j]) + factor(j) * shift[j]) }
            }
        }
        var encoderBias = folded.encoderBias
        var architecture = folded.architecture
        if case .gated(let gateBias, let magnitudeBias, let magnitudeScale) = architecture {
            architecture = .gated(
                gateBias: try shifted(gateBias),
                magnitudeBias: try shifted(magnitudeBias) { exp(Double(magnitudeScale[0, $0])) },
                magnitudeScale: magnitudeScale)
        } else {
            encoderBias = try shifted(encoderBias)
        }
        let decoderShift = product(folded.decoderBias, forward.matrix)
        let decoderBias = try FloatMatrix(rows: 1, cols: forward.matrix.cols) { target in
            for j in 0..<forward.matrix.cols { target[j] = Float(decoderShift[j] + Double(forward.bias[0, j])) }
        }
        return try SAE(
            encoder: try productMatrix(backward.matrix, folded.encoder), encoderBias: encoderBias,
            decoder: try productMatrix(folded.decoder, forward.matrix), decoderBias: decoderBias,
            architecture: architecture, metadata: metadata)
    }
}

/// `bias matrix`, (cols), in float64.
func product(_ bias: FloatMatrix, _ matrix: FloatMatrix) -> [Double] {
    var sums = [Double](repeating: 0, count: matrix.cols)
    for i in 0..<matrix.rows where bias[0, i] != 0 {
        for j in 0..<matrix.cols { sums[j] += Double(bias[0, i]) * Double(matrix[i, j]) }
    }
    return sums
}

/// `a b`, summed in float64 and rounded to float32.
private func productMatrix(_ a: FloatMatrix, _ b: FloatMatrix) throws -> FloatMatrix {
    let (rows, inner, cols) = (a.rows, a.cols, b.cols)
    // Blocks, so that the copies in float64 stay small beside the weights.
    let side = 512
    let rowBlocks = (rows + side - 1) / side
    let colBlocks = (cols + side - 1) / side
    return try FloatMatrix(rows: rows, cols: cols) { memory in
        let target = Unchecked(memory)
        try BLAS.singleThreaded {
            try parallelFor(rowBlocks * colBlocks) { block in
                let (top, left) = (block / colBlocks * side, block % colBlocks * side)
                let (height, width) = (min(side, rows - top), min(side, cols - left))
                let aBlock = try Buffer<Double>(count: height * inner, for: "a product")
                let bBlock = try Buffer<Double>(count: inner * width, for: "a product")
                let result = try Buffer<Double>(count: height * width, for: "a product")
                sk_f32_to_f64(a.pointer + top * inner, aBlock.pointer, aBlock.count)
                for i in 0..<inner {
                    sk_f32_to_f64(b.pointer + i * cols + left, bBlock.pointer + i * width, width)
                }
                BLAS.gemm(
                    m: height, n: width, k: inner, alpha: 1.0, a: aBlock.pointer, lda: inner, b: bBlock.pointer,
                    ldb: width, beta: 0.0, c: result.pointer, ldc: width)
                for i in 0..<height {
                    sk_f64_to_f32(result.pointer + i * width, target.value + (top + i) * cols + left, width)
                }
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureNumerics

/// The decoder of a SAE and the unembedding of the model it belongs to: what features do to logits.
/// The logit weights of feature i are `v_i = W_dec[i] W_U`, one number for each token of the
/// vocabulary; they are computed one by one, or in blocks, never all at a time.
public struct LogitSide: Sendable {
    /// (d_sae, d)
    let decoder: FloatMatrix
    /// W_U transposed, (vocabulary, d): what a token needs lies together.
    let unembedding: FloatMatrix

    public var dSAE: Int { decoder.rows }
    public var d: Int { decoder.cols }
    public var vocabulary: Int { unembedding.rows }

    /// Copies of both.
    ///
    /// - Parameters:
    ///   - decoder: (d_sae, d)
    ///   - unembedding: (vocabulary, d)
    ///   - names: of both, for error messages.
    /// - Throws: `invalidArgument` for widths that differ, or a number that is not finite.
    public init(decoder: MatrixView, unembedding: MatrixView, names: (String, String)) throws {
        for (name, rows) in [(names.0, decoder.rows), (names.1, unembedding.rows)] where rows > Int(Int32.max) {
            throw SutureError.invalidArgument("\(name) has \(rows) rows, expected at most \(Int32.max)")
        }
        self.decoder = try FloatMatrix(finite: decoder, names.0)
        self.unembedding = try FloatMatrix(finite: unembedding, names.1)
        guard unembedding.cols == decoder.cols else {
            throw SutureError.invalidArgument(
                "\(names.1) has \(unembedding.cols) columns, expected \(decoder.cols) as \(names.0)")
        }
    }

    /// `f v[token]` of all active latents of one row, slot by slot.
    ///
    /// - Parameter weights: memory for as many numbers as the codes have slots a row.
    /// - Throws: `numerical` where one is not finite.
    func attribute(
        _ codes: SparseCodes, row: Int, to token: Int, weights: UnsafeMutablePointer<Float>,
        into target: UnsafeMutablePointer<Double>
    ) throws {
        let (indices, values) = (codes.indices + row * codes.width, codes.values + row * codes.width)
        let count = Int(codes.counts[row])
        sk_gather_dots(decoder.pointer, d, indices, count, unembedding.pointer + token * d, d, weights)
        for slot in 0..<count {
            guard weights[slot].isFinite else { throw Self.overflow(Int(indices[slot]), token) }
            target[slot] = Double(values[slot]) * Double(weights[slot])
        }
    }

    /// The tokens that each latent promotes and suppresses most: for each the `count` largest and the
    /// `count` smallest logit weights, strongest first, ties by the lower token.
    ///
    /// - Throws: `invalidArgument` unless 1 <= count <= vocabulary; `numerical`; `cancelled`.
    public func extremes(count: Int, progress: Progress = .none) throws -> LogitExtremes {
        guard count >= 1, count <= vocabulary else {
            throw SutureError.invalidArgument("count is \(count), expected 1 to \(vocabulary), the vocabulary")
        }
        let result = try LogitExtremes(rows: dSAE, count: count)
        // About 2 GFlop a block, so that progress goes on.
        let size = max(1, min(32, 1_000_000_000 / max(1, vocabulary * d)))
        let blocks = (dSAE + size - 1) / size
        try progress.report(0, of: dSAE)
        try BLAS.singleThreaded {
            try parallelFor(blocks, progress: progress.inRows(dSAE, of: size)) { [self] block in
                let first = block * size
                let rows = min(size, dSAE - first)
                let scores = try Buffer<Float>(count: rows * vocabulary, for: "logit weights")
                BLAS.gemm(
                    transposeB: true, m: rows, n: vocabulary, k: d, a: decoder.pointer + first * d, lda: d,
                    b: unembedding.pointer, ldb: d, c: scores.pointer, ldc: vocabulary)
                for row in 0..<rows {
                    let weights = scores.pointer + row * vocabulary
                    let bad = sk_first_nonfinite_f32(weights, vocabulary)
                    guard bad == vocabulary else { throw Self.overflow(first + row, bad) }
                    let place = (first + row) * count
                    sk_topk(weights, vocabulary, count, result.upTokens + place, result.upValues + place)
                    for token in 0..<vocabulary { weights[token] = -weights[token] }
                    sk_topk(weights, vocabulary, count, result.downTokens + place, result.downValues + place)
                    for slot in place..<place + count { result.downValues[slot] = -result.downValues[slot] }
                }
            }
        }
        try progress.report(dSAE, of: dSAE)
        return result
    }

    private static func overflow(_ latent: Int, _ token: Int) -> SutureError {
        .numerical("the logit weight of latent \(latent) on token \(token) is beyond float32")
    }
}

/// Tokens and logit weights, (rows, count) each.
public final class LogitExtremes: @unchecked Sendable {
    public let count: Int
    public let rows: Int
    private let tokens: Buffer<Int32>
    private let values: Buffer<Float>

    public var upTokens: UnsafeMutablePointer<Int32> { tokens.pointer }
    public var upValues: UnsafeMutablePointer<Float> { values.pointer }
    public var downTokens: UnsafeMutablePointer<Int32> { tokens.pointer + rows * count }
    public var downValues: UnsafeMutablePointer<Float> { values.pointer + rows * count }

    init(rows: Int, count: Int) throws {
        let (half, overflow) = rows.multipliedReportingOverflow(by: count)
        let (size, doubleOverflow) = half.multipliedReportingOverflow(by: 2)
        guard !overflow, !doubleOverflow else {
            throw SutureError.outOfMemory("\(count) tokens of \(rows) latents do not fit in memory")
        }
        self.rows = rows
        self.count = count
        tokens = try Buffer(count: size, for: "logit weights")
        values = try Buffer(count: size, for: "logit weights")
    }
}

extension FloatMatrix {
    /// A copy of a caller's matrix.
    ///
    /// - Throws: `invalidArgument`, naming the first number that is not finite.
    convenience init(finite view: MatrixView, _ name: String) throws {
        if let bad = view.firstNonFinite(asFloat32: true) {
            throw SutureError.invalidArgument(
                "\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
        }
        try self.init(rows: view.rows, cols: view.cols) { view.read(into: $0) }
    }
}

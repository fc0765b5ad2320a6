// SPDX-License-Identifier: Apache-2.0
import Synchronization

extension SAE {
    /// Encodes tokens: `f = activation(x W_enc + b_enc)`, with the options of this SAE. The result
    /// keeps only what is active; a dense (N, d_sae) matrix is never made.
    ///
    /// The same bits for any number of threads. The first call on a TopK SAE with 256 tokens or more
    /// makes a copy of the encoder to search in, which the SAE keeps; from then on a token's codes have
    /// the same bits in any call and on any CPU. With a per-token normalisation the codes also carry
    /// each token's scale and mean, which decoding needs.
    ///
    /// - Parameter x: (N, d_in), N >= 1.
    /// - Throws: `SutureError.invalidArgument` for another shape or an element that is not finite,
    ///   `.numerical` where a pre-activation is beyond float32, `.cancelled`, `.outOfMemory`.
    public func encode(_ x: MatrixView, progress: Progress = .none) throws -> SparseCodes {
        try checkTokens(x, "x")
        let coder = BlockCoder(self)
        // Rows beyond memory are an error before the list of blocks, an array, is made for them.
        _ = try Buffer<Int32>(count: x.rows, for: "codes")
        let found = Mutex([EncodedBlock?](repeating: nil, count: coder.blocks(of: x.rows)))
        try coder.forEachBlock(of: x.rows, progress: progress) { block in
            let encoded = try coder.withScratch { scratch in
                let range = try coder.encode(x, block: block, scratch)
                return try EncodedBlock(scratch, rows: range.count, slots: coder.slots)
            }
            found.withLock { $0[block] = encoded }
        }
        let encoded = found.withLock { $0.compactMap { $0 } }
        let width: Int
        switch architecture {
        case .topK(let k): width = k
        default: width = encoded.lazy.map(\.most).max() ?? 0
        }
        return try SparseCodes(
            rows: x.rows, width: width, dSAE: dSAE,
            tokenScales: normalization.isPerToken ? encoded.flatMap(\.tokenScales) : nil
        ) { row in
            encoded[row / coder.blockRows].slots(row % coder.blockRows)
        }
    }

    /// Checks the shape of tokens for this SAE.
    func checkTokens(_ x: MatrixView, _ name: String) throws {
        guard x.cols == dIn else {
            throw SutureError.invalidArgument("\(name) has \(x.cols) columns, expected d_in = \(dIn)")
        }
        guard x.rows >= 1 else {
            throw SutureError.invalidArgument("\(name) has \(x.rows) rows, expected at least 1")
        }
    }
}

/// The active latents of one block, without gaps.
private final class EncodedBlock: Sendable {
    let tokenScales: [TokenScale]
    /// Most active latents of any token.
    let most: Int
    /// Where each token's latents begin; one more entry than tokens.
    private let starts: [Int]
    private let indices: Buffer<Int32>
    private let values: Buffer<Float>

    init(_ scratch: BlockScratch, rows: Int, slots: Int) throws {
        var starts = [0]
        var most = 0
        for row in 0..<rows {
            starts.append(starts[row] + scratch.counts[row])
            most = max(most, scratch.counts[row])
        }
        indices = try Buffer(count: starts[rows], for: "codes")
        values = try Buffer(count: starts[rows], for: "codes")
        for row in 0..<rows {
            let count = scratch.counts[row]
            (indices.pointer + starts[row]).update(from: scratch.indices.pointer + row * slots, count: count)
            (values.pointer + starts[row]).update(from: scratch.values.pointer + row * slots, count: count)
        }
        self.starts = starts
        self.most = most
        tokenScales = Array(scratch.tokenScales.prefix(rows))
    }

    func slots(_ row: Int) -> (count: Int, indices: UnsafePointer<Int32>, values: UnsafePointer<Float>) {
        (
            starts[row + 1] - starts[row], UnsafePointer(indices.pointer + starts[row]),
            UnsafePointer(values.pointer + starts[row])
        )
    }
}

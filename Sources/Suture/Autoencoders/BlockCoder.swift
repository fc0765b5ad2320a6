// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Glibc

/// Encodes and decodes a SAE's tokens block by block: what encoding, reconstruction and evaluation
/// have in common.
///
/// A block has a fixed number of rows whatever the number of threads, and is worked on by one thread
/// with OpenBLAS single-threaded: that makes results the same bits for any number of threads. The
/// dense pre-activations exist for one block at a time and thread.
final class BlockCoder: Sendable {
    let sae: SAE
    /// Tokens a block.
    let blockRows: Int
    /// Most active latents a token.
    let slots: Int
    /// Norm of each decoder row where the SAE rescales, and its inverse (0 for a row of zeros, whose
    /// latent decodes to nothing in any case).
    private let norms: [Float]?
    private let inverseNorms: [Float]?
    /// A latent is active above this: max(0, threshold). Of one element where all are the same.
    private let bars: [Float]
    /// exp(r_mag) of Gated.
    private let magnitudeFactors: [Float]
    private let pool: ScratchPool<BlockScratch>
    /// Finds the active latents of TopK without all pre-activations.
    private let search: TopKSearch?

    init(_ sae: SAE) {
        self.sae = sae
        // 8 MB of pre-activations, and about 2 GFLOP, so that a report comes every 50 ms.
        let byMemory = (1 << 21) / sae.dSAE
        let byWork = (1 << 30) / (sae.dSAE * sae.dIn)
        let (dIn, dSAE) = (sae.dIn, sae.dSAE)
        let (blockRows, slots): (Int, Int)
        if case .topK(let k) = sae.architecture {
            (blockRows, slots) = (max(8, min(128, (1 << 31) / (dSAE * dIn))), k)
            search = TopKSearch(dIn: dIn, dSAE: dSAE, k: k, blockRows: blockRows)
        } else {
            (blockRows, slots) = (max(8, min(256, byMemory, byWork)), dSAE)
            search = nil
        }
        (self.blockRows, self.slots) = (blockRows, slots)
        pool = ScratchPool { try BlockScratch(rows: blockRows, dIn: dIn, dSAE: dSAE, slots: slots) }
        norms = sae.rescalesByDecoderNorm ? sae.decoderNorms.map { Float($0) } : nil
        inverseNorms = norms.map { $0.map { $0 > 0 ? 1 / $0 : 0 } }
        switch sae.architecture {
        case .topK: (bars, magnitudeFactors) = ([], [])
        case .batchTopK(let threshold, _):
            (bars, magnitudeFactors) = ([Float](repeating: max(0, threshold), count: sae.dSAE), [])
        case .jumpReLU(let threshold): (bars, magnitudeFactors) = (threshold.matrix.elements.map { max(0, $0) }, [])
        case .relu: (bars, magnitudeFactors) = ([Float](repeating: 0, count: sae.dSAE), [])
        case .gated(_, _, let magnitudeScale):
            bars = [Float](repeating: 0, count: sae.dSAE)
            magnitudeFactors = magnitudeScale.matrix.elements.map { Float(exp(Double($0))) }
        }
    }

    /// Scratch memory for one block; it goes back to the pool when `body` returns, so that there are
    /// as many as threads.
    func withScratch<Result>(_ body: (BlockScratch) throws -> Result) throws -> Result {
        try pool.with(body)
    }

    /// What undoes the normalisation where it is the same for every token.
    var fixedUndo: TokenScale {
        if case .fixedScale(let scale) = sae.normalization { return TokenScale(scale: Float(1 / scale)) }
        return TokenScale()
    }

    func blocks(of rows: Int) -> Int { (rows + blockRows - 1) / blockRows }

    /// Runs `body` for each block of `rows` tokens, in parallel. Progress is reported at least at the
    /// start and at the end, so that even short work can be cancelled and ends at its total.
    func forEachBlock(
        of rows: Int, progress: Progress, _ body: @escaping @Sendable (_ block: Int) throws -> Void
    ) throws {
        let count = blocks(of: rows)
        try progress.report(0, of: count)
        try BLAS.singleThreaded { try parallelFor(count, progress: progress, body) }
        try progress.report(count, of: count)
    }

    /// Encodes the rows of block `block` of `x` into `scratch` and returns their range.
    ///
    /// - Throws: `SutureError.invalidArgument` naming the first element that is not finite;
    ///   `.numerical` where a pre-activation is beyond float32.
    func encode(_ x: MatrixView, block: Int, _ scratch: BlockScratch) throws -> Range<Int> {
        let range = block * blockRows..<min(x.rows, (block + 1) * blockRows)
        let (dIn, dSAE) = (sae.dIn, sae.dSAE)
        for i in 0..<range.count {
            let token = scratch.input.pointer + i * dIn
            x.readRow(range.lowerBound + i, into: token)
            let bad = sk_first_nonfinite_f32(token, dIn)
            guard bad == dIn else {
                throw SutureError.invalidArgument(
                    "x[\(range.lowerBound + i), \(bad)] is \(token[bad]), expected finite numbers")
            }
            scratch.tokenScales[i] = prepare(token, into: scratch.prepared.pointer + i * dIn)
        }
        if try encodeBySearch(range.count, tokens: x.rows, scratch) { return range }
        let dense = try scratch.dense()
        for i in 0..<range.count {
            (dense.pointer + i * dSAE).update(from: sae.encoderBias.pointer, count: dSAE)
        }
        BLAS.gemm(
            m: range.count, n: dSAE, k: dIn, a: scratch.prepared.pointer, lda: dIn, b: sae.encoder.pointer, ldb: dSAE,
            beta: 1, c: dense.pointer, ldc: dSAE)
        for i in 0..<range.count {
            guard activate(dense.pointer + i * dSAE, row: i, scratch) else {
                throw SutureError.numerical(
                    "a pre-activation of row \(range.lowerBound + i) of x is beyond the range of float32")
            }
        }
        return range
    }

    /// Encodes the prepared tokens of a block without their pre-activations. False where that cannot be
    /// done, or does not pay.
    private func encodeBySearch(_ count: Int, tokens: Int, _ scratch: BlockScratch) throws -> Bool {
        guard let search, let index = try sae.encoderIndex.index(of: sae, tokens: tokens) else { return false }
        let prepared = scratch.prepared.pointer
        for row in 0..<count where !index.largest.bound(prepared + row * sae.dIn, sae.dIn).isSafe { return false }
        try search.forEach(count, input: prepared, encoder: index.encoderRows, beat: {}) { row, indices, values in
            var active = slots
            while active > 0, values[active - 1] <= 0 { active -= 1 }
            (scratch.indices.pointer + row * slots).update(from: indices, count: active)
            (scratch.values.pointer + row * slots).update(from: values, count: active)
            scratch.counts[row] = active
        }
        return true
    }

    /// What enters the encoder: the normalised token, less b_dec where the SAE says so.
    private func prepare(_ token: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>) -> TokenScale {
        let dIn = sae.dIn
        var undo = fixedUndo
        switch sae.normalization {
        case .none: target.update(from: token, count: dIn)
        case .fixedScale(let scale):
            for j in 0..<dIn { target[j] = token[j] * Float(scale) }
        case .tokenNorm:
            var squares = 0.0
            for j in 0..<dIn { squares += Double(token[j]) * Double(token[j]) }
            let scale = (squares / Double(dIn)).squareRoot()
            undo.scale = Float(scale)
            // A token of zeros stays one.
            let factor = scale > 0 ? 1 / scale : 0
            for j in 0..<dIn { target[j] = Float(Double(token[j]) * factor) }
        case .layerNorm:
            var sum = 0.0
            for j in 0..<dIn { sum += Double(token[j]) }
            let mean = sum / Double(dIn)
            var squares = 0.0
            for j in 0..<dIn { squares += (Double(token[j]) - mean) * (Double(token[j]) - mean) }
            let deviation = (squares / Double(max(dIn - 1, 1))).squareRoot()
            // SAELens divides by deviation + 1e-5 and multiplies by the deviation alone.
            undo = TokenScale(scale: Float(deviation), mean: Float(mean))
            for j in 0..<dIn { target[j] = Float((Double(token[j]) - mean) / (deviation + 1e-5)) }
        }
        if sae.subtractsDecoderBias {
            let bias = sae.decoderBias.pointer
            for j in 0..<dIn { target[j] -= bias[j] }
        }
        return undo
    }

    /// Applies the activation function to one row of pre-activations and lists the active latents,
    /// largest first. False if a pre-activation is not finite.
    private func activate(_ dense: UnsafeMutablePointer<Float>, row: Int, _ scratch: BlockScratch) -> Bool {
        let dSAE = sae.dSAE
        guard sk_first_nonfinite_f32(dense, dSAE) == dSAE else { return false }
        if case .gated(let gateBias, let magnitudeBias, _) = sae.architecture {
            let (gate, magnitude) = (gateBias.pointer, magnitudeBias.pointer)
            magnitudeFactors.withUnsafeBufferPointer { factor in
                for j in 0..<dSAE {
                    dense[j] = dense[j] + gate[j] > 0 ? dense[j] * factor[j] + magnitude[j] : 0
                }
            }
        }
        norms?.withUnsafeBufferPointer { norm in
            for j in 0..<dSAE { dense[j] *= norm[j] }
        }
        if norms != nil || !magnitudeFactors.isEmpty, sk_first_nonfinite_f32(dense, dSAE) != dSAE { return false }
        let indices = scratch.indices.pointer + row * slots
        let values = scratch.values.pointer + row * slots
        if case .topK(let k) = sae.architecture {
            sk_topk(dense, dSAE, k, indices, values)
            var count = k
            while count > 0, values[count - 1] <= 0 { count -= 1 }
            scratch.counts[row] = count
            return true
        }
        // The active values move to the front of the row, which never overtakes the reading.
        let found = scratch.found.pointer
        var count = 0
        bars.withUnsafeBufferPointer { bar in
            var start = 0
            while start < dSAE {
                let end = min(start + 32, dSAE)
                // Most chunks have nothing active: one vectorised comparison dismisses them.
                var any: UInt32 = 0
                for j in start..<end { any |= dense[j] > bar[j] ? 1 : 0 }
                if any != 0 {
                    for j in start..<end where dense[j] > bar[j] {
                        dense[count] = dense[j]
                        found[count] = Int32(j)
                        count += 1
                    }
                }
                start = end
            }
        }
        scratch.counts[row] = count
        if count > 0 {
            sk_topk(dense, count, count, indices, values)
            for slot in 0..<count { indices[slot] = found[Int(indices[slot])] }
        }
        return true
    }

    /// Writes the reconstruction of one token: sum of value * W_dec[latent] in the order of the
    /// slots, from b_dec on, and the normalisation undone.
    func decode(
        count: Int, indices: UnsafePointer<Int32>, values: UnsafePointer<Float>, undo: TokenScale,
        into target: UnsafeMutablePointer<Float>
    ) {
        let dIn = sae.dIn
        target.update(from: sae.decoderBias.pointer, count: dIn)
        let decoder = sae.decoder.pointer
        for slot in 0..<count {
            let latent = Int(indices[slot])
            let factor = inverseNorms?[latent] ?? 1
            sk_axpy(values[slot] * factor, decoder + latent * dIn, target, dIn)
        }
        if sae.normalization != .none {
            for j in 0..<dIn { target[j] = target[j] * undo.scale + undo.mean }
        }
    }

    /// The reconstruction of row `row` of the block in `scratch`.
    func decode(row: Int, of scratch: BlockScratch, into target: UnsafeMutablePointer<Float>) {
        decode(
            count: scratch.counts[row], indices: scratch.indices.pointer + row * slots,
            values: scratch.values.pointer + row * slots, undo: scratch.tokenScales[row], into: target)
    }
}

/// Memory of one block in work, and what encoding it found.
///
/// `@unchecked Sendable`: the pool hands it to one thread at a time.
final class BlockScratch: @unchecked Sendable {
    /// Tokens as they came, (rows, d_in).
    let input: Buffer<Float>
    /// Tokens as they enter the encoder.
    let prepared: Buffer<Float>
    /// Active latents while one row is scanned.
    let found: Buffer<Int32>
    /// Active latents and their values, (rows, slots), and how many there are.
    let indices: Buffer<Int32>
    let values: Buffer<Float>
    var counts: [Int]
    var tokenScales: [TokenScale]
    /// A reconstructed token.
    let output: Buffer<Float>
    private let rows: Int
    private let dSAE: Int
    private var preActivations: Buffer<Float>?

    init(rows: Int, dIn: Int, dSAE: Int, slots: Int) throws {
        input = try Buffer(count: rows * dIn, for: "a block")
        prepared = try Buffer(count: rows * dIn, for: "a block")
        (self.rows, self.dSAE) = (rows, dSAE)
        found = try Buffer(count: dSAE, for: "a block")
        indices = try Buffer(count: rows * slots, for: "a block")
        values = try Buffer(count: rows * slots, for: "a block")
        output = try Buffer(count: dIn, for: "a block")
        counts = [Int](repeating: 0, count: rows)
        tokenScales = [TokenScale](repeating: TokenScale(), count: rows)
    }
    /// Memory for pre-activations, (rows, d_sae).
    func dense() throws -> Buffer<Float> {
        if let preActivations { return preActivations }
        let dense = try Buffer<Float>(count: rows * dSAE, for: "a block")
        preActivations = dense
        return dense
    }
}

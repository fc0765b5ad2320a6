// SPDX-License-Identifier: Apache-2.0
import Glibc
import SutureNumerics

/// Carries a SAE to another model by paired rows alone: A's codes are regressed on B's rows, and the
/// predictors calibrated so that each latent fires as often as in A. No stitch is needed. What a stitch
/// loses of a row is lost to all that is composed with it (arXiv 2506.06609, eq. 6); here each latent
/// takes what B knows of it. Not in the paper.
///
/// Update with as many pairs of rows as there are, then `finish`. Memory: 8 d_b (d_sae + d_b) bytes for
/// the sums, 4 d_b bytes for each row of the sample and its codes, twice that in `finish`, and there an
/// encoder.
public struct Carry: Sendable {
    /// Of A, folded: activations are those of the SAE as it was.
    private let sae: SAE
    public let dB: Int
    public let options: CarryOptions
    private let sums: CodeSums
    /// Pairs for calibration, and pairs that the sums do not see.
    private let sample: PairSample
    private let heldOut: PairSample
    /// Pairs of rows so far.
    public private(set) var rows = 0

    public var dA: Int { sae.dIn }
    public var dSAE: Int { sae.dSAE }

    /// Most pairs that are held out.
    private static let heldOutRows = 16_384
    /// One block of so many rows in `heldOutShare` is held out: neighbours are of one text.
    private static let heldOutBlock = 64
    private static let heldOutShare: UInt64 = 16
    /// Pairs whose scores calibrate: thresholds of rare latents are noisy, but so is their frequency.
    private static let calibrationRows = 20_000
    private static let firstRounds = 6
    private static let laterRounds = 2
    /// Part of the way that a round goes. All of it would be too far: a latent's wrong firings vanish
    /// before the regression on them is done with.
    private static let step = 0.3

    /// - Throws: `SutureError.invalidArgument` for a d_b or a setting out of range; `.outOfMemory`.
    public init(_ sae: SAE, dB: Int, options: CarryOptions = CarryOptions()) throws {
        try options.validate()
        guard dB >= 1, dB <= SAE.sizeLimit else {
            throw SutureError.invalidArgument("d_b is \(dB), expected 1 to \(SAE.sizeLimit)")
        }
        self.sae = try sae.folded()
        (self.dB, self.options) = (dB, options)
        sums = try CodeSums(dB: dB, dSAE: sae.dSAE)
        sample = try PairSample(capacity: options.sample, dB: dB)
        heldOut = try PairSample(capacity: Self.heldOutRows, dB: dB)
    }

    /// Adds pairs: row i of both is the same text. A wish to cancel is heeded before sums change.
    ///
    /// - Parameters:
    ///   - a: (N, d_in) rows of the SAE's model.
    ///   - b: (N, d_b) rows of the other.
    /// - Throws: `SutureError.invalidArgument` for other widths, unequal numbers of rows, or a value that is
    ///   not finite; `.cancelled`; `.outOfMemory`. Then nothing has changed.
    public mutating func update(a: MatrixView, b: MatrixView, progress: Progress = .none) throws {
        guard a.cols == sae.dIn else {
            throw SutureError.invalidArgument("a has \(a.cols) columns, expected d_in = \(sae.dIn)")
        }
        guard b.cols == dB else {
            throw SutureError.invalidArgument("b has \(b.cols) columns, expected d_b = \(dB)")
        }
        guard a.rows == b.rows, a.rows >= 1 else {
            throw SutureError.invalidArgument("b has \(b.rows) rows, expected \(a.rows) as a, at least 1")
        }
        guard a.rows < Int.max - rows else {
            throw SutureError.invalidArgument("\(rows) and \(a.rows) rows together are more than can be counted")
        }
        if let bad = b.firstNonFinite(asFloat32: true) {
            throw SutureError.invalidArgument("b[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
        }
        let pieces = (0..<a.rows).panels(of: CodeSums.pieceRows)
        let codes = try pieces.map { piece in
            try progress.report(piece.lowerBound, of: a.rows)
            do {
                return try sae.encode(a.rows(piece), progress: progress.fixed(piece.lowerBound, of: a.rows))
            } catch {
                // The element again, by its place in the whole.
                if let bad = a.firstNonFinite(asFloat32: true) {
                    throw SutureError.invalidArgument(
                        "a[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
                }
                throw error
            }
        }
        let room = try sums.makeRows()
        try BLAS.singleThreaded {
            for (piece, codes) in zip(pieces, codes) {
                try add(b.rows(piece), codes, first: rows + piece.lowerBound, room)
            }
        }
        rows += a.rows
        try? progress.report(a.rows, of: a.rows)
    }

    /// Whether a pair is held out, by how many came before it: the same ones for all that is carried.
    public static func isHeldOut(_ row: Int) -> Bool {
        let block = row / heldOutBlock
        var random = RandomSource(seed: ~UInt64(block))
        return block > 0 && random.next() % heldOutShare == 0
    }

    private func add(_ view: MatrixView, _ codes: SparseCodes, first: Int, _ room: DoubleMatrix) throws {
        var picks: [Int] = []
        picks.reserveCapacity(codes.rows)
        for row in 0..<codes.rows {
            if Self.isHeldOut(first + row) {
                heldOut.offer(first + row, view, row, codes, row)
            } else {
                sample.offer(first + row, view, row, codes, row)
                picks.append(row)
            }
        }
        let kept = try SparseCodes(rows: picks.count, width: codes.width, dSAE: dSAE, tokenScales: nil) { row in
            let first = picks[row] * codes.width
            return (Int(codes.counts[picks[row]]), codes.indices + first, codes.values + first)
        }
        try sums.add(kept, view, picks: picks, room)
    }

    /// The SAE for B. Its decoder is the regression of B's rows on A's codes; `SAE.refitDecoder` fits it to
    /// the codes that it has itself.
    ///
    /// TopK stays TopK of the same k, BatchTopK keeps its threshold, JumpReLU's thresholds are order
    /// statistics; a per-token normalisation stays behind, since nothing is composed. Same bits for any
    /// number of threads.
    ///
    /// - Parameter site: of B's rows, for the metadata; nil where it is not known.
    /// - Throws: `SutureError.invalidArgument` before any rows, `.numerical` if B's rows do not vary or a
    ///   result is beyond float32; `.cancelled`; `.outOfMemory`.
    public func finish(site: Site? = nil, progress: Progress = .none) throws -> (sae: SAE, report: CarryReport) {
        let start = Pulse.nanoseconds()
        guard sums.tokens > 0 else {
            throw SutureError.invalidArgument("no rows were added, expected at least one pair to carry by")
        }
        let source = self
        let (encoded, regression, rows, codes) = try runDetached(progress: progress) { check in
            let regression = try BLAS.singleThreaded {
                try CodeRegression(source.sums, ridge: source.options.ridge, check: check)
            }
            let (rows, codes) = try source.sample.gathered(dSAE: source.dSAE)
            let made = try source.encoder(regression, rows, codes, check)
            return (made, regression, rows, codes)
        }
        var result = try startDecoder(encoded, codes)
        if options.solvesDecoder {
            result = try result.withDecoder(
                for: codes, of: TokenRows([rows.view], dIn: dB) { _ in "sample" }, progress: progress.fixed(9, of: 10))
        }
        result.metadata = TransferEnds.moved(sae.metadata, from: nil, to: site)
        var report = CarryReport(fidelity: try compare(with: result, progress: progress.fixed(9, of: 10)))
        (report.rows, report.heldOutRows, report.ridge) = (sums.tokens, heldOut.count, regression.ridge)
        report.firings = sums.firings.map { UInt64($0) }
        report.rSquared = regression.rSquared
        report.silent = sums.firings.count { $0 == 0 }
        report.unpredicted = zip(sums.firings, regression.rSquared).count { $0 > 0 && !($1 > 0) }
        try result.setEvidence(LatentEvidence(report))
        report.seconds = Double(Pulse.nanoseconds() - start) * 1e-9
        try progress.report(10, of: 10)
        return (result, report)
    }

    /// The SAE with the decoder rows that it has before a regression on all codes together: zeros, to which
    /// that is pulled. Where there is none, as without `CarryOptions.solvesDecoder` or for latents that do
    /// not fire in the sample, the regression on the latent's codes alone; and some direction where those do
    /// not vary at all, since a row of zeros could not be trained.
    private func startDecoder(_ sae: SAE, _ codes: [SparseCodes]) throws -> SAE {
        let (d, mean) = (dB, sums.meanRow())
        let cross = try Buffer<Double>(count: d, for: "a row")
        let isSolved = options.solvesDecoder ? codes.firings(dSAE: dSAE).map { $0 > 0 } : []
        return try SAE(
            encoder: sae.encoder, encoderBias: sae.encoderBias,
            decoder: FloatMatrix(rows: dSAE, cols: d) { target in
                for latent in 0..<dSAE where isSolved.isEmpty || !isSolved[latent] {
                    let row = target + latent * d
                    let variance = sums.moments(of: latent).variance
                    sums.readCross(latent..<latent + 1, into: cross.pointer)
                    for j in 0..<d { row[j] = variance > 0 ? Float(cross.pointer[j] / variance) : 0 }
                    let known = (0..<d).contains { row[$0] != 0 } && (0..<d).allSatisfy { row[$0].isFinite }
                    guard !known else { continue }
                    var random = RandomSource(seed: UInt64(latent))
                    for j in 0..<d { row[j] = Float(random.normal() / Double(d).squareRoot()) }
                }
            },
            decoderBias: FloatMatrix(rows: 1, cols: d) { target in
                for j in 0..<d { target[j] = Float(mean[j]) }
            },
            architecture: sae.architecture)
    }

    /// Encoder and thresholds, with a decoder of zeros.
    private func encoder(
        _ regression: CodeRegression, _ rows: FloatMatrix, _ codes: [SparseCodes], _ check: DetachedCheck
    ) throws -> SAE {
        let mean = regression.mean
        let centred = try centred(rows, mean)
        let few = try sample.gathered(dSAE: dSAE, most: Self.calibrationRows)
        let frequencies = (0..<dSAE).map { latent in
            regression.rSquared[latent] > 0 ? Double(sums.firings[latent]) / Double(sums.tokens) : 0
        }
        let calibration = try Calibration(
            sae.architecture, rows: self.centred(few.rows, mean), codes: few.codes, frequencies: frequencies,
            explained: regression.explained)
        let predictors = regression.coefficients
        try calibration.calibrate(predictors, rounds: Self.firstRounds, check: check)
        var result = try assembled(predictors, mean, calibration.settings)
        for round in 0..<options.rounds {
            try check.report(7, of: 10)
            let reached = try (0..<rows.rows).panels(of: CodeSums.pieceRows).map { piece in
                try result.encode(rows.view.rows(piece))
            }
            try regression.improve(by: Self.step, wanted: codes, reached: reached, centred)
            let last = round == options.rounds - 1
            try calibration.calibrate(predictors, rounds: last ? 2 * Self.laterRounds : Self.laterRounds, check: check)
            result = try assembled(predictors, mean, calibration.settings)
        }
        return result
    }

    private func centred(_ rows: FloatMatrix, _ mean: [Double]) throws -> FloatMatrix {
        let d = dB
        return try FloatMatrix(rows: rows.rows, cols: d) { target in
            for row in 0..<rows.rows {
                for j in 0..<d { target[row * d + j] = Float(Double(rows.pointer[row * d + j]) - mean[j]) }
            }
        }
    }

    /// The SAE with an encoder of these predictors.
    private func assembled(
        _ predictors: Buffer<Float>, _ mean: [Double], _ settings: [Calibration.LatentSetting]
    ) throws -> SAE {
        let (d, m) = (dB, dSAE)
        let source = predictors.pointer
        /// b - gain * (mean . w): rows come uncentred.
        func bias(_ body: (Calibration.LatentSetting) -> (gain: Double, bias: Double)) throws -> FloatMatrix {
            try FloatMatrix(rows: 1, cols: m) { target in
                for latent in 0..<m {
                    let (gain, bias) = body(settings[latent])
                    var shift = 0.0
                    for j in 0..<d { shift += mean[j] * Double(Float(gain * Double(source[latent * d + j]))) }
                    target[latent] = Float(bias - (gain > 0 ? shift : 0))
                }
            }
        }
        func weights(_ gain: (Calibration.LatentSetting) -> Double) throws -> FloatMatrix {
            try FloatMatrix(rows: d, cols: m) { target in
                for latent in 0..<m {
                    let gain = gain(settings[latent])
                    for j in 0..<d { target[j * m + latent] = Float(gain * Double(source[latent * d + j])) }
                }
            }
        }
        let encoder: FloatMatrix
        var encoderBias = try FloatMatrix(rows: 1, cols: m) { _ in }
        let architecture: Architecture
        switch sae.architecture {
        case .topK, .batchTopK, .relu, .jumpReLU:
            encoder = try weights(\.gain)
            encoderBias = try bias { ($0.gain, $0.bias) }
            if case .jumpReLU = sae.architecture {
                architecture = .jumpReLU(
                    threshold: try FloatMatrix(rows: 1, cols: m) { target in
                        for latent in 0..<m { target[latent] = Float(settings[latent].threshold) }
                    })
            } else {
                architecture = sae.architecture
            }
        case .gated:
            // The gate's pre-activation is the score less where it should open; magnitudes are a line in it.
            encoder = try weights { $0.gain > 0 ? 1 : 0 }
            architecture = .gated(
                gateBias: try bias { $0.gain > 0 ? (1, ($0.bias - $0.threshold) / $0.gain) : (0, -1) },
                magnitudeBias: try bias { ($0.gain, $0.bias) },
                magnitudeScale: try FloatMatrix(rows: 1, cols: m) { target in
                    for latent in 0..<m where settings[latent].gain > 0 {
                        target[latent] = log(Float(settings[latent].gain))
                    }
                })
        }
        let zeros = try FloatMatrix(rows: m, cols: d) { _ in }
        try requireFinite("carried", [("W_enc", encoder), ("b_enc", encoderBias)])
        return try SAE(
            encoder: encoder, encoderBias: encoderBias, decoder: zeros,
            decoderBias: FloatMatrix(rows: 1, cols: d) { _ in },
            architecture: architecture)
    }

    /// Latents in A and B on the pairs held out.
    private func compare(with carried: SAE, progress: Progress) throws -> Fidelity {
        var fidelity = try Fidelity(dSAE: dSAE)
        let (rows, codes) = try heldOut.gathered(dSAE: dSAE)
        for (piece, codes) in zip((0..<rows.rows).panels(of: CodeSums.pieceRows), codes) {
            try fidelity.update(
                a: codes, b: carried.encode(rows.view.rows(piece), progress: progress), progress: progress)
        }
        return fidelity
    }
}

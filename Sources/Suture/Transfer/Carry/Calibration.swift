// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import Synchronization

/// Makes latents of linear predictors: a shrunken prediction of a sparse activation would hardly ever
/// win, so each latent gets a gain and a threshold such that it fires as often as in A.
///
/// `@unchecked Sendable`: one call at a time; its tasks write to disjoint parts.
final class Calibration: @unchecked Sendable {
    private static let latentsAtOnce = 256
    private static let latentsOfTask = 16
    private static let tokensOfTask = 1024

    let dB: Int
    let dSAE: Int
    /// Tokens whose scores are looked at.
    let tokens: Int
    private let architecture: Architecture
    /// (tokens, d_b): rows less their mean.
    private let rows: FloatMatrix
    /// On how many tokens each latent is to fire; 0: never.
    private let wanted: [Int]
    private let gains: [Double]
    /// Activations in A on these tokens.
    private let codes: FiringsByLatent
    /// Sum of A's activations over tokens.
    private let activation: Double
    /// Each token's present bar.
    private let bars: Buffer<Float>
    private let scores: Buffer<Float>
    private let largest: LargestScores?
    private let candidates: CandidateScores?
    private var keepsCandidates = false
    private let scratches: [Scratch]

    /// Of each latent: pre-activation is `gain * score + bias`, active above `threshold`.
    private(set) var settings: [LatentSetting]

    struct LatentSetting: Sendable {
        var gain = 0.0
        var bias = -1.0
        var threshold = 0.0
    }

    /// - Parameters:
    ///   - rows: (n, d_b), less their mean.
    ///   - codes: A's on these rows, in pieces of `CodeSums.pieceRows`.
    ///   - frequencies: share of tokens on which each latent is to fire; 0: never.
    ///   - explained: share of each latent's variance that its predictor explains.
    init(
        _ architecture: Architecture, rows: FloatMatrix, codes: [SparseCodes], frequencies: [Double],
        explained: [Double]
    ) throws {
        (self.architecture, self.rows) = (architecture, rows)
        (dB, dSAE, tokens) = (rows.cols, frequencies.count, rows.rows)
        let count = rows.rows
        wanted = frequencies.map { $0 > 0 ? min(count, max(1, Int(($0 * Double(count)).rounded()))) : 0 }
        // What a regression shrinks: of all activations of a size, E[prediction] is R² times that size.
        gains = explained.map { 1 / max($0, 1e-4) }
        self.codes = try FiringsByLatent(codes, dSAE: frequencies.count)
        activation = codes.reduce(0.0) { sum, piece in
            (0..<piece.rows * piece.width).reduce(sum) { $0 + Double(piece.values[$1]) }
        }
        bars = try Buffer(zeros: tokens, for: "scores")
        scores = try Buffer(count: Self.latentsAtOnce * tokens, for: "scores")
        if case .topK(let k) = architecture {
            largest = try LargestScores(tokens: tokens, k: k)
            candidates = try CandidateScores(wanted: wanted, tokens: tokens)
        } else {
            (largest, candidates) = (nil, nil)
        }
        scratches = try (0..<Self.latentsAtOnce / Self.latentsOfTask).map { _ in try Scratch(count) }
        settings = [LatentSetting](repeating: LatentSetting(), count: dSAE)
    }

    /// Sets gains and biases for predictors (d_sae, d_b).
    ///
    /// For TopK a latent's threshold is the token's k-th score, which depends on all biases: so they are
    /// found in rounds, each going half the way to where the latent would fire as often as in A against
    /// the present bars. Once bars are known, the rounds look at scores that are near them only. For the
    /// others thresholds are order statistics of a latent's own scores.
    func calibrate(_ predictors: Buffer<Float>, rounds: Int, check: DetachedCheck) throws {
        guard let largest, let candidates else { return try pass(predictors, damping: 0, check: check) }
        let isFirst = settings.allSatisfy { $0.gain == 0 }
        let whole = isFirst ? 2 : 1
        for round in 0..<min(whole, rounds) {
            keepsCandidates = round == min(whole, rounds) - 1
            try pass(predictors, damping: isFirst && round == 0 ? 0 : 0.5, check: check)
        }
        candidates.arrange()
        for _ in min(whole, rounds)..<rounds { try pass(largest, candidates, check: check) }
        setLevel()
    }

    /// One look at the scores near the bars.
    private func pass(_ largest: LargestScores, _ candidates: CandidateScores, check: DetachedCheck) throws {
        let parts = (0..<dSAE).panels(of: (dSAE - 1) / scratches.count + 1)
        let found = Mutex([[LatentSetting]](repeating: [], count: parts.count))
        try parallelFor(parts.count) { [self] part in
            let (values, boundary) = (scratches[part].values.pointer, scratches[part].boundary)
            let new = parts[part].map { latent in
                guard wanted[latent] > 0 else { return settings[latent] }
                var setting = settings[latent]
                let count = candidates.values(latent, less: bars.pointer, into: values)
                guard count > 0 else { return setting }
                let quantile = boundary.find(min(wanted[latent], count), of: values, size: count)
                setting.bias = 0.5 * setting.bias - 0.5 * Double(quantile)
                return setting
            }
            found.withLock { $0[part] = new }
        }
        settings = found.withLock { $0.flatMap { $0 } }
        let biases = settings.map { Float($0.bias) }
        let ranges = (0..<tokens).panels(of: Self.tokensOfTask)
        try parallelFor(ranges.count) { [self] range in
            largest.clear(ranges[range])
            for token in ranges[range] {
                let entries = candidates.entries(token)
                for entry in entries { largest.offer(entry.score + biases[Int(entry.latent)], token) }
                // With fewer candidates than that a bar stays where it is.
                if entries.count >= largest.k { bars.pointer[token] = largest.bar(token) }
            }
        }
        try check.report(6, of: 10)
    }

    /// One look at all scores.
    private func pass(_ predictors: Buffer<Float>, damping: Double, check: DetachedCheck) throws {
        let ranges = (0..<tokens).panels(of: Self.tokensOfTask)
        if let largest { for range in ranges { largest.clear(range) } }
        for chunk in (0..<dSAE).panels(of: Self.latentsAtOnce) {
            let parts = chunk.panels(of: Self.latentsOfTask)
            let found = Mutex([[LatentSetting]](repeating: [], count: parts.count))
            try BLAS.singleThreaded {
                try parallelFor(ranges.count) { [self] index in
                    let range = ranges[index]
                    BLAS.gemm(
                        transposeB: true, m: chunk.count, n: range.count, k: dB,
                        a: predictors.pointer + chunk.lowerBound * dB, lda: dB,
                        b: rows.pointer + range.lowerBound * dB, ldb: dB, c: scores.pointer + range.lowerBound,
                        ldc: tokens)
                }
            }
            try parallelFor(parts.count) { [self] part in
                let new = parts[part].map { latent in
                    let row = scores.pointer + (latent - chunk.lowerBound) * tokens
                    return setting(of: latent, row, scratches[part], damping: damping)
                }
                found.withLock { $0[part] = new }
            }
            settings.replaceSubrange(chunk, with: found.withLock { $0.flatMap { $0 } })
            if let largest {
                let current = settings
                try parallelFor(ranges.count) { [self] range in
                    for latent in chunk where wanted[latent] > 0 {
                        largest.show(
                            scores.pointer + (latent - chunk.lowerBound) * tokens, bias: Float(current[latent].bias),
                            ranges[range])
                    }
                }
            }
            try check.report(6, of: 10)
        }
        if let largest {
            for token in 0..<tokens { bars.pointer[token] = max(largest.bar(token), -.greatestFiniteMagnitude) }
        }
    }

    /// What one task needs.
    private final class Scratch {
        let values: Buffer<Float>
        let activations: Buffer<Float>
        let boundary: LargestBoundary

        init(_ tokens: Int) throws {
            values = try Buffer(count: tokens, for: "scores")
            activations = try Buffer(zeros: tokens, for: "scores")
            boundary = try LargestBoundary(size: tokens)
        }
    }

    /// Where one latent's gain, bias and threshold should be. For TopK its scores are multiplied by the
    /// gain on the way.
    private func setting(
        of latent: Int, _ scores: UnsafeMutablePointer<Float>, _ scratch: Scratch, damping: Double
    ) -> LatentSetting {
        guard wanted[latent] > 0 else { return LatentSetting() }
        let (n, values) = (tokens, scratch.values.pointer)
        var result = LatentSetting(gain: gains[latent], bias: 0, threshold: 0)
        if case .topK = architecture {
            let gain = Float(gains[latent])
            for token in 0..<n {
                scores[token] *= gain
                values[token] = scores[token] - bars.pointer[token]
            }
            var size = n
            if let candidates, keepsCandidates {
                let cut = scratch.boundary.find(candidates.room(latent), of: values, size: n)
                candidates.keep(latent, scores, where: values, above: cut, size: n)
                size = candidates.values(latent, less: bars.pointer, into: values)
            }
            let quantile = Double(scratch.boundary.find(min(wanted[latent], size), of: values, size: size))
            result.bias = damping * settings[latent].bias - (1 - damping) * quantile
            return result
        }
        let quantile = Double(scratch.boundary.find(wanted[latent], of: scores, size: n))
        switch architecture {
        case .topK: break
        case .relu: result.bias = -result.gain * quantile
        case .batchTopK(let threshold, _):
            result.threshold = Double(threshold)
            result.bias = Double(threshold) - result.gain * quantile
        case .jumpReLU, .gated:
            let line = activationLine(latent, scores, scratch, above: quantile)
            (result.gain, result.bias) = line
            result.threshold = line.gain * quantile + line.bias
            if result.threshold < 0 {
                result.bias -= result.threshold
                result.threshold = 0
            }
        }
        return result
    }

    /// The line that predicts A's activations from the scores above `quantile`, by least squares: what a
    /// latent's magnitude is can be chosen apart from when it fires.
    private func activationLine(
        _ latent: Int, _ scores: UnsafePointer<Float>, _ scratch: Scratch, above quantile: Double
    ) -> (gain: Double, bias: Double) {
        let activations = scratch.activations.pointer
        let entries = codes.range(latent)
        func token(_ entry: Int) -> Int {
            let (piece, row) = codes.token(entry)
            return piece * CodeSums.pieceRows + row
        }
        for entry in entries { activations[token(entry)] = Float(codes.values.pointer[entry]) }
        defer { for entry in entries { activations[token(entry)] = 0 } }
        var (count, sumS, sumF) = (0.0, 0.0, 0.0)
        for t in 0..<tokens where Double(scores[t]) > quantile {
            count += 1
            sumS += Double(scores[t])
            sumF += Double(activations[t])
        }
        guard count > 0 else { return (gains[latent], 0) }
        let (meanS, meanF) = (sumS / count, sumF / count)
        var (squares, products) = (0.0, 0.0)
        for t in 0..<tokens where Double(scores[t]) > quantile {
            let s = Double(scores[t]) - meanS
            squares += s * s
            products += s * (Double(activations[t]) - meanF)
        }
        // Activations that do not rise with the score still want a latent that fires.
        let slope = squares > 0 && products > 0 ? products / squares : 0
        let gain = slope > 0 ? slope : gains[latent] * 1e-3
        return (gain, meanF - gain * meanS)
    }

    /// Adds one number to all biases, which leaves the choice of latents, such that active ones are as
    /// strong as in A in the mean.
    private func setLevel() {
        guard let largest else { return }
        let sum = (0..<tokens).reduce(0.0) { $0 + largest.sum($1, default: bars.pointer[$1]) }
        let shift = (activation - sum) / Double(tokens * largest.k)
        guard shift.isFinite else { return }
        for latent in 0..<dSAE where wanted[latent] > 0 { settings[latent].bias += shift }
        for token in 0..<tokens { bars.pointer[token] += Float(shift) }
    }
}

// SPDX-License-Identifier: Apache-2.0

/// What the tokens say in some columns.
///
/// `@unchecked Sendable`: one thread fills it.
final class GatheredPanel: @unchecked Sendable {
    let columns: Range<Int>
    var tokenMeans: [Double]
    var residualMeans: [Double]
    var variance = 0.0
    var errorBefore = 0.0
    var errorCentred = 0.0

    init(_ columns: Range<Int>) {
        self.columns = columns
        tokenMeans = [Double](repeating: 0, count: columns.count)
        residualMeans = tokenMeans
    }

    func gather(_ system: RefitSystem, _ sae: SAE, _ sample: RefitSample, pulse: Pulse) throws {
        let (width, dIn, low) = (columns.count, system.dIn, columns.lowerBound)
        let token = try Buffer<Float>(count: width, for: "a token")
        let residual = try Buffer<Double>(count: width, for: "a token")
        // Sums are taken about the first token: means may be large.
        let origin = try Buffer<Double>(count: width, for: "a token")
        let tokenSums = try Buffer<Double>(count: width, for: "a token")
        let residualSums = try Buffer<Double>(count: width, for: "a token")
        for j in 0..<width { (tokenSums.pointer[j], residualSums.pointer[j]) = (0, 0) }
        let (x, left) = (token.pointer, residual.pointer)
        let (decoder, bias) = (sae.decoder.pointer + low, sae.decoderBias.pointer + low)
        let target = system.solution.pointer + low
        var done = 0
        for codes in system.codes {
            for row in 0..<codes.rows {
                sample.rows.read(sample.row(done), columns: columns, into: x)
                if done == 0 { for j in 0..<width { origin.pointer[j] = Double(x[j]) } }
                for j in 0..<width {
                    left[j] = Double(x[j])
                    let shifted = left[j] - origin.pointer[j]
                    tokenSums.pointer[j] += shifted
                    variance += shifted * shifted
                }
                let slots = row * codes.width..<row * codes.width + Int(codes.counts[row])
                for slot in slots {
                    let source = decoder + Int(codes.indices[slot]) * dIn
                    let value = Double(codes.values[slot])
                    for j in 0..<width { left[j] -= value * Double(source[j]) }
                }
                for j in 0..<width {
                    let error = left[j] - Double(bias[j])
                    residualSums.pointer[j] += error
                    errorBefore += error * error
                }
                for slot in slots {
                    let sums = target + Int(codes.indices[slot]) * dIn
                    let value = Double(codes.values[slot])
                    for j in 0..<width { sums[j] += value * left[j] }
                }
                done += 1
                if done % 64 == 0 { try pulse.beat(system.tokens) }
            }
        }
        let count = Double(system.tokens)
        errorCentred = errorBefore
        for j in 0..<width {
            let (token, error) = (tokenSums.pointer[j] / count, residualSums.pointer[j] / count)
            tokenMeans[j] = token + origin.pointer[j]
            residualMeans[j] = error + Double(bias[j])
            variance -= count * token * token
            errorCentred -= count * error * error
        }
        for latent in 0..<system.dSAE {
            let factor = count * system.means[latent]
            for j in 0..<width { target[latent * dIn + j] -= factor * residualMeans[j] }
        }
        withExtendedLifetime((token, residual, system, sae)) {}
    }
}

extension Range<Int> {
    /// This range in parts of `size`, the last one shorter.
    func panels(of size: Int) -> [Range<Int>] {
        stride(from: lowerBound, to: upperBound, by: size).map { $0..<Swift.min($0 + size, upperBound) }
    }
}

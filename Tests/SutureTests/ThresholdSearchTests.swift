// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureTestSupport
import Testing

@testable import Suture

/// All latents above a bar: the same as those of every pre-activation computed by itself.
@Suite struct ThresholdSearchTests {
    struct Found: Equatable {
        var rows: [[Int32: Float]] = []
    }

    /// A token and encoder with a few coordinates of large size, and latents of different norms.
    static func fixture(dIn: Int, dSAE: Int, tokens: Int) throws -> (
        x: FloatMatrix, rows: FloatMatrix, bias: FloatMatrix
    ) {
        let x = try TrainSupport.gaussian(tokens, dIn, seed: 1)
        let weights = try TrainSupport.gaussian(dSAE, dIn, seed: 2)
        return (
            try FloatMatrix(rows: tokens, cols: dIn) { target in
                for i in 0..<tokens * dIn { target[i] = x.pointer[i] * (i % dIn == 3 ? 20 : 1) }
            },
            try FloatMatrix(rows: dSAE, cols: dIn) { target in
                for i in 0..<dSAE * dIn { target[i] = weights.pointer[i] * (i / dIn % 7 == 0 ? 2 : 1) }
            }, try TrainSupport.gaussian(1, dSAE, seed: 3)
        )
    }

    @Test(arguments: [false, true], [0, 15, 1e6] as [Float])
    func findsWhatIsAbove(inBF16: Bool, bar: Float) throws {
        let (dIn, dSAE, tokens) = (70, 333, 45)
        let (x, rows, bias) = try Self.fixture(dIn: dIn, dSAE: dSAE, tokens: tokens)
        let floors = bar == 15 ? try TrainSupport.gaussian(1, dSAE, seed: 4, scale: 5) : nil
        let panels = inBF16 ? try EncoderPanels(dIn: dIn, dSAE: dSAE) : nil
        if let panels {
            for panel in 0..<panels.count {
                panels.pack(panel, rows: rows.pointer, bias: bias.pointer, scales: nil, floors: floors?.pointer)
            }
        }
        let encoder = EncoderRows(
            rows: rows.pointer, bias: bias.pointer, scales: nil, floors: floors?.pointer, panels: panels)
        let search = ThresholdSearch(dIn: dIn, dSAE: dSAE, blockRows: 64)
        var found: [[Int32: Float]] = []
        try BLAS.singleThreaded {
            try search.forEach(
                tokens, input: x.pointer, encoder: encoder, bar: floors == nil ? bar : 0, beat: {},
                found: { _, count, indices, values in
                    #expect((0..<count).map { indices[$0] } == (0..<count).map { indices[$0] }.sorted())
                    found.append(Dictionary(uniqueKeysWithValues: (0..<count).map { (indices[$0], values[$0]) }))
                })
        }
        let expected = (0..<tokens).map { token in
            var above: [Int32: Float] = [:]
            for latent in 0..<dSAE {
                let value = sk_dot(rows.pointer + latent * dIn, x.pointer + token * dIn, dIn) + bias[0, latent]
                if value > floors?[0, latent] ?? bar { above[Int32(latent)] = value }
            }
            return above
        }
        #expect(found == expected)
        #expect(expected.contains { !$0.isEmpty } == (bar < 1e6))
        withExtendedLifetime((x, rows, bias, floors)) {}
    }
}

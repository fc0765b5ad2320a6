// SPDX-License-Identifier: Apache-2.0
import Suture
import Testing

private func makeCodes(_ rows: Int, _ width: Int, _ indices: [Int32], _ values: [Float]) throws -> SparseCodes {
    try SparseCodes(dSAE: 6, rows: rows, width: width, indices: indices, values: values)
}

@Suite struct DecodeTests {
    @Test func codesOfTheCallersOwn() throws {
        let sae = try SAECase(architecture: "topk", rescales: true).make(dIn: 4, dSAE: 6, k: 2)
        let indices: [Int32] = [-1, 5, 2, /**/ 1, -7, -1, /**/ -1, -1, -1, /**/ 4, 0, 2]
        let values: [Float] = [.nan, 0.5, -2, /**/ 3, 9, 9, /**/ 1, 1, 1, /**/ 1, 1, 0]
        let codes = try makeCodes(4, 3, indices, values)
        #expect((0..<12).map { codes.indices[$0] } == [5, 2, -1, 1, -1, -1, -1, -1, -1, 0, 4, 2])
        #expect((0..<12).map { codes.values[$0] } == [0.5, -2, 0, 3, 0, 0, 0, 0, 0, 1, 1, 0])
        #expect((0..<4).map { codes.counts[$0] } == [2, 1, 0, 3])
        let decoded = try sae.decode(codes)
        for row in 0..<4 {
            for j in 0..<4 {
                var expected = Double(sae.decoderBias[0, j])
                for latent in 0..<6 {
                    let norm = (0..<4).map { Double(sae.decoder[latent, $0]) * Double(sae.decoder[latent, $0]) }.reduce(
                        0, +
                    ).squareRoot()
                    if norm > 0 { expected += Double(codes.dense[row, latent]) / norm * Double(sae.decoder[latent, j]) }
                }
                #expect(abs(Double(decoded[row, j]) - expected) < 1e-6)
            }
        }
    }

    @Test func badCodesAreNamed() throws {
        func message(_ indices: [Int32], _ values: [Float]) -> String {
            do {
                _ = try makeCodes(2, 2, indices, values)
                return "accepted"
            } catch { return (error as? SutureError)?.message ?? "another error" }
        }
        #expect(message([0, 1, 2, 6], [1, 1, 1, 1]) == "indices[1, 1] is 6, expected less than d_sae = 6")
        #expect(message([0, 1, 2, 2], [1, 1, 1, 1]) == "indices[1, 1] is 2, expected each latent once in row 1")
        #expect(message([0, 1, 2, 3], [1, 1, .infinity, 1]) == "values[1, 0] is inf, expected finite numbers")
        #expect(message([0, 1, 0, 1], [1, 1, 1, 1]) == "accepted")
        #expect(
            message([0, 1, 0], [1, 1, 1, 1]) == "indices has 3 and values has 4 elements, expected rows * width = 2 * 2"
        )
        let codes = try makeCodes(2, 2, [0, 1, 0, 1], [1, 1, 1, 1])
        let other = try SAECase(architecture: "topk").make(dIn: 4, dSAE: 7, k: 2)
        #expect(throws: SutureError.invalidArgument("codes are of 6 latents, expected d_sae = 7")) {
            try other.decode(codes)
        }
    }

    @Test func perTokenNormalisationNeedsItsOwnCodes() throws {
        for (normalization, name) in [(Normalization.tokenNorm, "token_norm"), (.layerNorm, "layer_norm")] {
            let sae = try SAECase(architecture: "topk", normalization: normalization).make(dIn: 4, dSAE: 6, k: 2)
            let x = try randomTokens(5, 4)
            let own = try sae.encode(x.view)
            #expect(try sae.decode(own).matrix == sae.reconstruct(x.view).matrix)
            let foreign = try makeCodes(
                5, own.width, (0..<5 * own.width).map { own.indices[$0] }, (0..<5 * own.width).map { own.values[$0] })
            #expect {
                try sae.decode(foreign)
            } throws: { error in
                guard case .unsupported(let message)? = error as? SutureError else { return false }
                return message.contains(name)
            }
        }
    }

    /// What another SAE did to its tokens is not undone by one with a fixed scale.
    @Test func fixedScaleIsUndoneWhereverTheCodesComeFrom() throws {
        let normalising = try SAECase(architecture: "topk", normalization: .layerNorm).make(dIn: 4, dSAE: 6, k: 2)
        let scaling = try SAECase(architecture: "topk", normalization: .fixedScale(2)).make(dIn: 4, dSAE: 6, k: 2)
        let codes = try normalising.encode(randomTokens(5, 4).view)
        let same = try makeCodes(
            5, codes.width, (0..<5 * codes.width).map { codes.indices[$0] },
            (0..<5 * codes.width).map { codes.values[$0] })
        #expect(try scaling.decode(codes).matrix == scaling.decode(same).matrix)
    }

    @Test func writesOnlyItsColumnsAndWorksInPlace() throws {
        let sae = try SAECase(architecture: "jumprelu").make(dIn: 4, dSAE: 30)
        let x = try randomTokens(600, 4)
        let expected = try sae.reconstruct(x.view).matrix
        var wide = [Float](repeating: 42, count: 600 * 6)
        for row in 0..<600 { for j in 0..<4 { wide[row * 6 + j] = x[row, j] } }
        try wide.withUnsafeMutableBufferPointer { buffer in
            let base = try #require(buffer.baseAddress)
            let view = MatrixView(base: UnsafeRawPointer(base), rows: 600, cols: 4, rowStride: 6, type: .float32)
            try sae.reconstruct(view, into: base, rowStride: 6)
        }
        for row in 0..<600 {
            for j in 0..<4 { #expect(wide[row * 6 + j] == expected[row, j]) }
            #expect(wide[row * 6 + 4] == 42 && wide[row * 6 + 5] == 42)
        }
    }
}

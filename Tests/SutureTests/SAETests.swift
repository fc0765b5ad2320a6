// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

@Suite struct SAETests {
    /// Folding changes neither the activations nor the output, and leaves no options.
    @Test(arguments: SAECase.all)
    func foldIsTheSameFunction(kind: SAECase) throws {
        let sae = try kind.make()
        let folded = try sae.folded()
        #expect(!folded.subtractsDecoderBias && !folded.rescalesByDecoderNorm)
        let affine = kind.normalization != .tokenNorm && kind.normalization != .layerNorm
        #expect(folded.normalization == (affine ? .none : kind.normalization))
        let x = try randomTokens(300, sae.dIn)
        let (dense, foldedDense) = (try sae.encode(x.view).dense, try folded.encode(x.view).dense)
        let (output, foldedOutput) = (try sae.reconstruct(x.view), try folded.reconstruct(x.view))
        var undecided = 0
        for row in 0..<x.rows {
            guard SAEOracle(sae, x.row(row)).margin > EncodeTests.tolerance else {
                undecided += 1
                continue
            }
            #expect(
                (0..<sae.dSAE).allSatisfy { abs(dense[row, $0] - foldedDense[row, $0]) < Float(EncodeTests.tolerance) })
            #expect((0..<sae.dIn).allSatisfy { abs(output[row, $0] - foldedOutput[row, $0]) < 1e-4 })
        }
        #expect(undecided <= 12)
    }

    @Test func foldOfAPlainSAEIsItself() throws {
        let sae = try SAECase(architecture: "jumprelu").make()
        let folded = try sae.folded()
        #expect(folded.encoder === sae.encoder && folded.decoder === sae.decoder)
        // Without rescaling, norms must not be folded: other latents would win.
        let topK = try SAECase(architecture: "topk", subtracts: true).make()
        #expect(try topK.folded().encoder.matrix == topK.encoder.matrix)
    }

    @Test func randomStart() throws {
        let sae = try SAE.random(dIn: 48, dSAE: 500, architecture: .topK(k: 8), seed: 3, rescalesByDecoderNorm: true)
        #expect(sae.encoder.matrix == sae.decoder.matrix.transposed)
        #expect(
            sae.encoderBias.matrix.elements.allSatisfy { $0 == 0 }
                && sae.decoderBias.matrix.elements.allSatisfy { $0 == 0 })
        var (mean, fourth) = (0.0, 0.0)
        for latent in 0..<500 {
            let row = sae.decoder.row(latent)
            #expect(abs(row.map { $0 * $0 }.reduce(0, +) - 1) < 1e-6)
            mean += row.reduce(0, +)
            fourth += row.map { $0 * $0 * $0 * $0 }.reduce(0, +)
        }
        // Uniform on the sphere: entries have mean 0 and E x^4 = 3 / (d (d + 2)), here within five
        // standard errors.
        let meanError = 5 / (48.0 * 24_000).squareRoot()
        let kurtosis = fourth / 24_000 * 48 * 50 / 3
        #expect(abs(mean / 24_000) < meanError)
        #expect(abs(kurtosis - 1) < 0.1)
        // Rows of neighbours are independent.
        var products = 0.0
        for latent in 1..<500 {
            products += zip(sae.decoder.row(latent - 1), sae.decoder.row(latent)).map { $0 * $1 }.reduce(0, +)
        }
        let productError = 5 / (48.0 * 499).squareRoot()
        #expect(abs(products / 499) < productError)
        for again in try withThreads([1, 2], { try SAE.random(dIn: 48, dSAE: 500, architecture: .relu, seed: 3) }) {
            #expect(again.decoder.matrix == sae.decoder.matrix)
        }
        #expect(try SAE.random(dIn: 48, dSAE: 500, architecture: .relu, seed: 4).decoder.matrix != sae.decoder.matrix)
        #expect(throws: SutureError.self) {
            let row = try FloatMatrix(rows: 1, cols: 5) { _ in }
            _ = try SAE.random(
                dIn: 4, dSAE: 5, architecture: .gated(gateBias: row, magnitudeBias: row, magnitudeScale: row), seed: 0)
        }
        #expect(throws: SutureError.invalidArgument("k is 6, expected 1 to d_sae = 5")) {
            try SAE.random(dIn: 4, dSAE: 5, architecture: .topK(k: 6), seed: 0)
        }
        #expect(throws: SutureError.self) { try SAE.random(dIn: 0, dSAE: 5, architecture: .relu, seed: 0) }
    }
}

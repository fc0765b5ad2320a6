// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

@Suite struct TransferTests {
    static func stitch(_ dA: Int, _ dB: Int, _ metadata: Metadata = Metadata()) throws -> Stitch {
        var random = RandomSource(seed: 21)
        func matrix(_ rows: Int, _ cols: Int, _ size: Double) throws -> FloatMatrix {
            try FloatMatrix(
                Matrix<Float>(
                    rows: rows, cols: cols, elements: (0..<rows * cols).map { _ in Float(random.normal() * size) }))
        }
        return try Stitch(
            upMatrix: matrix(dA, dB, 1 / Double(dA).squareRoot()), upBias: matrix(1, dB, 0.7),
            downMatrix: matrix(dB, dA, 1 / Double(dB).squareRoot()), downBias: matrix(1, dA, 0.7), metadata: metadata)
    }

    static let sizes = [(24, 40), (24, 24), (40, 24)]

    /// SAE'(h) = T(SAE(T⁻(h))), with the right-hand side in float64 by the definitions.
    @Test(arguments: SAECase.affine, [0, 1, 2])
    func transferIsTheComposition(kind: SAECase, size: Int) throws {
        let (dA, dB) = Self.sizes[size]
        let stitch = try Self.stitch(dA, dB)
        for direction in [Direction.up, .down] {
            let (forward, backward) = (stitch.map(direction), stitch.map(direction == .up ? .down : .up))
            let sae = try kind.make(dIn: forward.matrix.rows)
            let transferred = try stitch.transfer(sae, direction: direction)
            #expect(transferred.dIn == forward.matrix.cols && transferred.dSAE == sae.dSAE)
            #expect(transferred.architecture.name == sae.architecture.name)
            #expect(
                !transferred.subtractsDecoderBias && !transferred.rescalesByDecoderNorm
                    && transferred.normalization == .none)
            let h = try randomTokens(120, transferred.dIn)
            let (output, dense) = (try transferred.reconstruct(h.view), try transferred.encode(h.view).dense)
            var (worst, worstActivation, size, undecided) = (0.0, 0.0, 0.0, 0)
            for row in 0..<h.rows {
                let oracle = SAEOracle(sae, affine(h.row(row), backward))
                guard oracle.margin > 5e-5 else {
                    undecided += 1
                    continue
                }
                let expected = affine(oracle.reconstruction, forward)
                for j in expected.indices {
                    worst = max(worst, abs(Double(output[row, j]) - expected[j]))
                    size = max(size, abs(expected[j]))
                }
                for latent in 0..<sae.dSAE {
                    worstActivation = max(worstActivation, abs(Double(dense[row, latent]) - oracle.activations[latent]))
                }
            }
            // float32 rounding of sums of up to 200 terms.
            #expect(worst < 1e-5 * size)
            #expect(worstActivation < 4e-5)
            #expect(undecided <= 12)
        }
    }

    private func affine(_ x: [Double], _ map: (matrix: FloatMatrix, bias: FloatMatrix)) -> [Double] {
        (0..<map.matrix.cols).map { j in
            x.indices.reduce(Double(map.bias[0, j])) { $0 + x[$1] * Double(map.matrix[$1, j]) }
        }
    }

    /// More columns and rows than one block of the products.
    @Test func largeProductsAreWhole() throws {
        let stitch = try Self.stitch(520, 530)
        let sae = try SAE.random(dIn: 520, dSAE: 1100, architecture: .relu, seed: 4)
        let transferred = try stitch.transfer(sae)
        var random = RandomSource(seed: 8)
        for _ in 0..<200 {
            let (i, j, latent) = (random.below(530), random.below(530), random.below(1100))
            let encoder = (0..<520).reduce(0.0) {
                $0 + Double(stitch.downMatrix[i, $1]) * Double(sae.encoder[$1, latent])
            }
            let decoder = (0..<520).reduce(0.0) {
                $0 + Double(sae.decoder[latent, $1]) * Double(stitch.upMatrix[$1, j])
            }
            #expect(abs(Double(transferred.encoder[i, latent]) - encoder) < 1e-7)
            #expect(abs(Double(transferred.decoder[latent, j]) - decoder) < 1e-7)
        }
        for again in try withThreads([1, 2], { try stitch.transfer(sae) }) {
            #expect(
                again.encoder.matrix == transferred.encoder.matrix && again.decoder.matrix == transferred.decoder.matrix
            )
        }
    }

    @Test(arguments: [Normalization.tokenNorm, .layerNorm])
    func perTokenNormalisationIsRefusedByName(normalization: Normalization) throws {
        let sae = try SAECase(architecture: "topk", normalization: normalization).make()
        #expect {
            try Self.stitch(24, 30).transfer(sae)
        } throws: { error in
            guard case .unsupported(let message)? = error as? SutureError else { return false }
            return message.contains(normalization.name)
        }
    }

    @Test func otherSizesAreRefusedNamingBoth() throws {
        let sae = try SAECase(architecture: "topk").make(dIn: 24)
        #expect(
            throws: SutureError.invalidArgument(
                "sae has d_in = 24, expected d_b = 30 of the stitch (d_a = 24, d_b = 30) for this direction")
        ) { try Self.stitch(24, 30).transfer(sae, direction: .down) }
        #expect(
            throws: SutureError.invalidArgument(
                "sae has d_in = 24, expected d_a = 30 of the stitch (d_a = 30, d_b = 24) for this direction")
        ) { try Self.stitch(30, 24).transfer(sae, direction: .up) }
    }

    @Test func metadataGoesWithIt() throws {
        let stitch = try Self.stitch(
            24, 30,
            Metadata([
                ("model_a", .string("small")), ("layer_a", .integer(3)), ("model_b", .string("large")),
                ("layer_b", .integer(4)),
            ]))
        var sae = try SAECase(architecture: "topk").make()
        sae.metadata = try Metadata(
            parsing: #"{"model_name":"small","hook_name":"blocks.3.hook_resid_pre","neuronpedia_id":"x","note":[1]}"#,
            name: "json")
        let up = try stitch.transfer(sae)
        #expect(
            up.metadata.text()
                == #"{"note":[1],"model_name":"large","hook_name":"blocks.4.hook_resid_pre","transferred_from":"#
                + #"{"model_name":"small","hook_name":"blocks.3.hook_resid_pre","neuronpedia_id":"x"}}"#)
        // There and back: it comes from B, which came from A.
        var carried = try stitch.transfer(up, direction: .down)
        #expect(carried.metadata.text("model_name") == "small")
        #expect(carried.metadata["transferred_from"]?["model_name"] == .string("large"))
        #expect(carried.metadata["transferred_from"]?["transferred_from"]?["model_name"] == .string("small"))
        // The history has an end.
        for step in 0..<40 { carried = try stitch.transfer(carried, direction: step % 2 == 0 ? .up : .down) }
        #expect(carried.metadata.text().count < 1200)

        #expect(
            throws: SutureError.invalidArgument(
                "sae comes from model small, expected large, which is model_b of the stitch")
        ) {
            var wide = try SAECase(architecture: "topk").make(dIn: 30)
            wide.metadata = sae.metadata
            return try stitch.transfer(wide, direction: .down)
        }
        sae.metadata["hook_name"] = .string("blocks.2.hook_resid_pre")
        #expect(
            throws: SutureError.invalidArgument(
                "sae comes from layer 2 (\"blocks.2.hook_resid_pre\"), expected 3, which is layer_a of the stitch; "
                    + "if it does come from there, say so by site")
        ) { try stitch.transfer(sae) }
        // What is not known cannot contradict.
        #expect(try Self.stitch(24, 30).transfer(sae).metadata["model_name"] == nil)
        sae.metadata = Metadata()
        #expect(try stitch.transfer(sae).metadata.text("model_name") == "large")
    }
}

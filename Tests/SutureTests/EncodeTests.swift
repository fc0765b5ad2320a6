// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import Suture
import SutureTestSupport
import Testing

@Suite struct EncodeTests {
    /// Rounding of float32 pre-activations of 24 products of order 1; a margin below it may fall
    /// either way.
    static let tolerance = 2e-5

    @Test(arguments: SAECase.all)
    func agreesWithDenseFloat64(kind: SAECase) throws {
        let sae = try kind.make()
        let x = try randomTokens(300, sae.dIn)
        let codes = try sae.encode(x.view)
        let decoded = try sae.decode(codes)
        let dense = codes.dense
        var (worst, worstOutput, undecided, active) = (0.0, 0.0, 0, 0)
        for row in 0..<x.rows {
            let oracle = SAEOracle(sae, x.row(row))
            guard oracle.margin > Self.tolerance else {
                undecided += 1
                continue
            }
            active += oracle.activations.count { $0 > 0 }
            for latent in 0..<sae.dSAE {
                worst = max(worst, abs(Double(dense[row, latent]) - oracle.activations[latent]))
            }
            for j in 0..<sae.dIn {
                worstOutput = max(worstOutput, abs(Double(decoded[row, j]) - oracle.reconstruction[j]))
            }
        }
        #expect(worst < Self.tolerance)
        #expect(worstOutput < 1e-4)
        // Few tokens are that close to a decision, and something is active at all.
        #expect(undecided <= 12)
        #expect(active > x.rows)
    }

    @Test(arguments: SAECase.all)
    func codesAreInOrder(kind: SAECase) throws {
        let sae = try kind.make()
        let x = try randomTokens(90, sae.dIn)
        let codes = try sae.encode(x.view)
        var most = 0
        for row in 0..<codes.rows {
            let count = Int(codes.counts[row])
            most = max(most, count)
            let slots = (0..<codes.width).map {
                (codes.indices[row * codes.width + $0], codes.values[row * codes.width + $0])
            }
            #expect(slots.prefix(count).allSatisfy { $0.1 > 0 && (0..<Int32(sae.dSAE)).contains($0.0) })
            #expect(slots.dropFirst(count).allSatisfy { $0.1 == 0 && $0.0 == -1 })
            for (a, b) in zip(slots.prefix(count), slots.prefix(count).dropFirst()) {
                #expect(a.1 > b.1 || (a.1 == b.1 && a.0 < b.0))
            }
        }
        if kind.architecture == "topk" { #expect(codes.width == 9) } else { #expect(codes.width == most) }
    }

    @Test func tiesGoToTheLowerLatent() throws {
        // Every latent has the same pre-activation.
        let encoder = try FloatMatrix(Matrix<Float>(rows: 2, cols: 100, elements: [Float](repeating: 0.5, count: 200)))
        let zeros = try FloatMatrix(rows: 1, cols: 100) { _ in }
        let sae = try SAE(
            encoder: encoder, encoderBias: zeros, decoder: FloatMatrix(rows: 100, cols: 2) { _ in },
            decoderBias: FloatMatrix(rows: 1, cols: 2) { _ in }, architecture: .topK(k: 3))
        let codes = try sae.encode(FloatMatrix(Matrix<Float>(rows: 2, cols: 2, elements: [1, 1, -1, -1])).view)
        #expect((0..<6).map { codes.indices[$0] } == [0, 1, 2, -1, -1, -1])
        #expect((0..<6).map { codes.values[$0] } == [1, 1, 1, 0, 0, 0])
        #expect([codes.counts[0], codes.counts[1]] == [3, 0])
    }

    @Test func thresholdsAreStrict() throws {
        let one = try FloatMatrix(Matrix<Float>(rows: 1, cols: 1, elements: [1]))
        let zero = try FloatMatrix(rows: 1, cols: 1) { _ in }
        let x = try FloatMatrix(Matrix<Float>(rows: 5, cols: 1, elements: [0.5, 0.50001, 0, -1, 2]))
        for architecture in [
            Architecture.batchTopK(threshold: 0.5),
            .jumpReLU(threshold: try FloatMatrix(Matrix<Float>(rows: 1, cols: 1, elements: [0.5]))),
        ] {
            let sae = try SAE(
                encoder: one, encoderBias: zero, decoder: one, decoderBias: zero, architecture: architecture)
            let codes = try sae.encode(x.view)
            #expect(codes.dense.elements == [0, 0.50001, 0, 0, 2])
            #expect(codes.width == 1)
        }
        let none = try SAE(
            encoder: one, encoderBias: zero, decoder: one, decoderBias: zero, architecture: .batchTopK(threshold: 10)
        ).encode(x.view)
        #expect(none.width == 0)
        #expect((0..<5).allSatisfy { none.counts[$0] == 0 })
    }

    /// More than eight blocks and a ragged tail; every architecture.
    @Test(arguments: [
        SAECase(architecture: "topk", subtracts: true, rescales: true), SAECase(architecture: "batchtopk"),
        SAECase(architecture: "jumprelu", normalization: .layerNorm),
        SAECase(architecture: "relu", normalization: .fixedScale(2)),
        SAECase(architecture: "gated", rescales: true, normalization: .tokenNorm),
    ])
    func sameBitsForAnyNumberOfThreads(kind: SAECase) throws {
        let sae = try kind.make()
        let x = try randomTokens(256 * 8 + 37, sae.dIn)
        let results = try withThreads([1, 2, 8]) {
            let codes = try sae.encode(x.view)
            let size = codes.rows * codes.width
            let decoded = try sae.decode(codes).matrix
            // Reconstruction is decoding of the codes, to the bit.
            #expect(try sae.reconstruct(x.view).matrix == decoded)
            return ((0..<size).map { codes.indices[$0] }, (0..<size).map { codes.values[$0] }, decoded)
        }
        for result in results {
            #expect(result.0 == results[0].0)
            #expect(result.1 == results[0].1)
            #expect(result.2 == results[0].2)
        }
    }

    @Test(arguments: ["topk", "jumprelu", "gated"])
    func kernelPathsAgree(architecture: String) throws {
        let sae = try SAECase(architecture: architecture, rescales: true).make()
        let x = try randomTokens(300, sae.dIn)
        var first: Matrix<Float>?
        for path in [SK_PORTABLE, SK_AVX2, SK_AVX512, SK_AVX512_BF16, SK_AMX] {
            try withKernels(path) {
                let result = try sae.reconstruct(x.view).matrix
                if let first { #expect(first == result) } else { first = result }
            }
        }
    }

    @Test func takesEveryElementType() throws {
        let sae = try SAECase(architecture: "topk").make()
        let x = try randomTokens(40, sae.dIn)
        let expected = try sae.reconstruct(x.view).matrix
        let doubles = x.doubles
        let fromDoubles = try doubles.elements.withUnsafeBytes { bytes in
            try sae.reconstruct(
                MatrixView(base: bytes.baseAddress, rows: 40, cols: sae.dIn, rowStride: sae.dIn, type: .float64)
            ).matrix
        }
        #expect(fromDoubles == expected)
        // bfloat16, every other column block of a wider matrix.
        var halves = [UInt16](repeating: 0x7fc0, count: 40 * 2 * sae.dIn)
        var rounded = Matrix<Float>(zeros: 40, sae.dIn)
        for row in 0..<40 {
            for j in 0..<sae.dIn {
                halves[row * 2 * sae.dIn + j] = UInt16(x[row, j].bitPattern >> 16)
                rounded[row, j] = Float(bitPattern: x[row, j].bitPattern & 0xffff_0000)
            }
        }
        let fromHalves = try halves.withUnsafeBytes { bytes in
            try sae.reconstruct(
                MatrixView(base: bytes.baseAddress, rows: 40, cols: sae.dIn, rowStride: 2 * sae.dIn, type: .bfloat16)
            ).matrix
        }
        #expect(try fromHalves == sae.reconstruct(FloatMatrix(rounded).view).matrix)
    }

    @Test func zeroTokensSurvivePerTokenNormalisation() throws {
        for normalization in [Normalization.tokenNorm, .layerNorm] {
            let sae = try SAECase(architecture: "relu", normalization: normalization).make()
            let output = try sae.reconstruct(FloatMatrix(rows: 1, cols: sae.dIn) { _ in }.view)
            #expect(output.matrix.elements.allSatisfy { $0 == 0 })
        }
    }

    @Test func badInputIsNamed() throws {
        let sae = try SAECase(architecture: "topk").make()
        #expect(throws: SutureError.invalidArgument("x has 23 columns, expected d_in = 24")) {
            try sae.encode(randomTokens(3, 23).view)
        }
        let good = try randomTokens(600, 24)
        #expect(throws: SutureError.invalidArgument("x has 0 rows, expected at least 1")) {
            try sae.encode(good.view.rows(0..<0))
        }
        // In the third block; a later one is bad as well.
        var bad = good.matrix
        bad[555, 7] = .infinity
        bad[599, 0] = .nan
        let x = try FloatMatrix(bad)
        let problem = SutureError.invalidArgument("x[555, 7] is inf, expected finite numbers")
        #expect(throws: problem) { try sae.encode(x.view) }
        #expect(throws: problem) { try sae.reconstruct(x.view) }
        #expect(throws: SutureError.cancelled) { try sae.encode(good.view, progress: Progress { _, _ in false }) }
        var huge = good.matrix
        for j in 0..<24 { huge[300, j] = j % 2 == 0 ? 3e38 : -3e38 }
        huge.elements[300 * 24] = -3e38
        let overflowing = try FloatMatrix(huge)
        #expect(throws: SutureError.numerical("a pre-activation of row 300 of x is beyond the range of float32")) {
            try sae.encode(overflowing.view)
        }
    }

    @Test func badWeightsAreNamed() throws {
        let sae = try SAECase(architecture: "gated").make(dIn: 3, dSAE: 5)
        func make(
            encoder: FloatMatrix? = nil, decoder: FloatMatrix? = nil, architecture: Architecture = .relu,
            normalization: Normalization = .none
        ) throws -> SAE {
            try SAE(
                encoder: encoder ?? sae.encoder, encoderBias: sae.encoderBias, decoder: decoder ?? sae.decoder,
                decoderBias: sae.decoderBias, architecture: architecture, normalization: normalization)
        }
        func message(_ body: () throws -> SAE) -> String {
            do {
                _ = try body()
                return "accepted"
            } catch { return (error as? SutureError)?.message ?? "another error" }
        }
        #expect(message { try make(architecture: .topK(k: 6)) } == "k is 6, expected 1 to d_sae = 5")
        #expect(message { try make(architecture: .topK(k: 0)) } == "k is 0, expected 1 to d_sae = 5")
        #expect(
            message { try make(architecture: .batchTopK(threshold: .nan)) }
                == "threshold is nan, expected a finite number")
        #expect(message { try make(normalization: .fixedScale(0)) }.hasPrefix("scale is 0.0, expected"))
        #expect(message { try make(normalization: .fixedScale(.infinity)) }.hasPrefix("scale is inf, expected"))
        #expect(
            message { try make(decoder: sae.encoder) } == "W_dec is (3, 5), expected (5, 3) to go with W_enc (3, 5)")
        #expect(
            message { try make(architecture: .jumpReLU(threshold: sae.decoderBias)) }.hasPrefix(
                "threshold is (1, 3), expected (1, 5)"))
        var weights = sae.encoder.matrix
        weights[1, 4] = -.infinity
        let bad = try FloatMatrix(weights)
        #expect(message { try make(encoder: bad) } == "W_enc[1, 4] is -inf, expected finite numbers")
        let large = try FloatMatrix(Matrix<Float>(rows: 1, cols: 5, elements: [0, 0, 89, 0, 0]))
        #expect(
            message {
                try make(
                    architecture: .gated(
                        gateBias: sae.encoderBias, magnitudeBias: sae.encoderBias, magnitudeScale: large))
            }
            .hasPrefix("r_mag[0, 2] is 89.0, expected"))
    }
}

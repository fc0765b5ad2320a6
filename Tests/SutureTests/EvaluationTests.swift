// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

@Suite struct EvaluationTests {
    /// All metrics from their definitions, over the library's own reconstruction.
    struct Expected {
        var explainedVariance = 0.0
        var l0 = 0.0
        var deadFraction = 0.0
        var mse = 0.0
        var cosine = 0.0
        var normRatio = 0.0
        var frequencies: [Double]
        var maxima: [Float]

        init(_ sae: SAE, _ x: FloatMatrix) throws {
            let (output, dense) = (try sae.reconstruct(x.view), try sae.encode(x.view).dense)
            let n = Double(x.rows)
            let means = (0..<x.cols).map { j in (0..<x.rows).map { Double(x[$0, j]) }.reduce(0, +) / n }
            var (error, variance) = (0.0, 0.0)
            for row in 0..<x.rows {
                let (a, b) = (x.row(row), output.row(row))
                error += zip(a, b).map { ($0 - $1) * ($0 - $1) }.reduce(0, +)
                variance += zip(a, means).map { ($0 - $1) * ($0 - $1) }.reduce(0, +)
                let (aNorm, bNorm) = (norm(a), norm(b))
                cosine += zip(a, b).map { $0 * $1 }.reduce(0, +) / (aNorm * bNorm) / n
                normRatio += bNorm / aNorm / n
            }
            explainedVariance = 1 - error / variance
            mse = error / n / Double(x.cols)
            frequencies = (0..<sae.dSAE).map { latent in Double((0..<x.rows).count { dense[$0, latent] > 0 }) / n }
            maxima = (0..<sae.dSAE).map { latent in (0..<x.rows).map { dense[$0, latent] }.max() ?? 0 }
            l0 = frequencies.reduce(0, +)
            deadFraction = Double(frequencies.count { $0 == 0 }) / Double(sae.dSAE)
        }
    }

    @Test(arguments: [
        SAECase(architecture: "topk", subtracts: true),
        SAECase(architecture: "batchtopk", normalization: .fixedScale(0.6)),
        SAECase(architecture: "jumprelu", normalization: .layerNorm), SAECase(architecture: "relu"),
        SAECase(architecture: "gated", rescales: true, normalization: .tokenNorm),
    ])
    func metricsAreTheirDefinitions(kind: SAECase) throws {
        let sae = try kind.make(k: 3)
        let x = try randomTokens(700, sae.dIn)
        let expected = try Expected(sae, x)
        var evaluation = Evaluation(sae)
        // In uneven pieces.
        for range in [0..<1, 1..<300, 300..<700] { try evaluation.update(x.view.rows(range)) }
        let report = try evaluation.report()
        #expect(report.tokens == 700 && evaluation.tokens == 700)
        #expect(abs(report.explainedVariance - expected.explainedVariance) < 1e-6)
        #expect(report.fvu == 1 - report.explainedVariance)
        #expect(abs(report.l0 - expected.l0) < 1e-9)
        #expect(report.deadFraction == expected.deadFraction)
        #expect(abs(report.mse - expected.mse) < 1e-6 * expected.mse)
        #expect(abs(report.cosine - expected.cosine) < 1e-6)
        #expect(abs(report.normRatio - expected.normRatio) < 1e-6 * expected.normRatio)
        #expect(try zip(evaluation.frequencies(), expected.frequencies).allSatisfy { abs($0 - $1) < 1e-12 })
        #expect(try zip(evaluation.maxima(), expected.maxima).allSatisfy { abs($0 - $1) < 1e-5 })
        // Nothing here is trivial.
        #expect(expected.frequencies.contains { $0 > 0 } && expected.mse > 0 && abs(expected.cosine) > 1e-4)
    }

    /// The mean is far from zero: a difference of large sums would lose the variance.
    @Test func varianceIsAboutTheMeanOfAllTokens() throws {
        let sae = try SAECase(architecture: "topk").make(dIn: 4, dSAE: 8, k: 2)
        var random = RandomSource(seed: 5)
        let rows = 1500
        // Two halves with different means; within each the spread is one.
        let x = try FloatMatrix(
            Matrix<Float>(
                rows: rows, cols: 4,
                elements: (0..<rows * 4).map { Float(($0 < rows * 2 ? 4000.0 : 4010.0) + random.normal()) }))
        let expected = try Expected(sae, x)
        var evaluation = Evaluation(sae)
        try evaluation.update(x.view.rows(0..<rows / 2))
        try evaluation.update(x.view.rows(rows / 2..<rows))
        let report = try evaluation.report()
        #expect(abs(report.fvu / (1 - expected.explainedVariance) - 1) < 1e-6)
    }

    @Test func sameBitsForAnyNumberOfThreads() throws {
        let sae = try SAECase(architecture: "gated").make()
        let x = try randomTokens(256 * 70 + 11, sae.dIn)
        let results = try withThreads([1, 2, 8]) {
            var evaluation = Evaluation(sae)
            try evaluation.update(x.view)
            let report = try evaluation.report()
            return (
                [
                    report.explainedVariance, report.l0, report.deadFraction, report.mse, report.cosine,
                    report.normRatio,
                ],
                try evaluation.frequencies(), try evaluation.maxima()
            )
        }
        for result in results {
            #expect(result.0 == results[0].0)
            #expect(result.1 == results[0].1)
            #expect(result.2 == results[0].2)
        }
    }

    @Test func failedUpdatesChangeNothing() throws {
        let sae = try SAECase(architecture: "topk").make()
        let good = try randomTokens(300, sae.dIn)
        var evaluation = Evaluation(sae)
        #expect(throws: SutureError.invalidArgument("the evaluation has seen no tokens, expected at least 1")) {
            try evaluation.report()
        }
        #expect(throws: SutureError.self) { try evaluation.frequencies() }
        try evaluation.update(good.view)
        let before = try (
            evaluation.report().mse, evaluation.report().l0, evaluation.frequencies(), evaluation.maxima()
        )
        var bad = good.matrix
        bad[290, 3] = .nan
        let x = try FloatMatrix(bad)
        #expect(throws: SutureError.invalidArgument("x[290, 3] is nan, expected finite numbers")) {
            try evaluation.update(x.view)
        }
        #expect(throws: SutureError.cancelled) {
            try evaluation.update(good.view, progress: Progress { _, _ in false })
        }
        #expect(throws: SutureError.invalidArgument("x has 23 columns, expected d_in = 24")) {
            try evaluation.update(randomTokens(2, 23).view)
        }
        let after = try (evaluation.report().mse, evaluation.report().l0, evaluation.frequencies(), evaluation.maxima())
        #expect(before.0 == after.0 && before.1 == after.1 && before.2 == after.2 && before.3 == after.3)
        #expect(evaluation.tokens == 300)
    }

    @Test func progressCountsBlocksToTheEnd() throws {
        let sae = try SAECase(architecture: "topk").make()
        let x = try randomTokens(256 * 66, sae.dIn)
        var seen: [(UInt64, UInt64)] = []
        var evaluation = Evaluation(sae)
        try evaluation.update(
            x.view,
            progress: Progress { done, total in
                seen.append((done, total))
                return true
            })
        let total = seen.first?.1 ?? 0
        #expect(total >= 66 && seen.allSatisfy { $0.1 == total && $0.0 <= total })
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.0 <= $1.0 })
        #expect(seen.first?.0 == 0 && seen.last?.0 == total)
    }

    @Test func zeroAndConstantTokens() throws {
        let sae = try SAE.random(dIn: 4, dSAE: 6, architecture: .relu, seed: 1)
        var evaluation = Evaluation(sae)
        try evaluation.update(FloatMatrix(rows: 3, cols: 4) { _ in }.view)
        let zeros = try evaluation.report()
        #expect(
            zeros.explainedVariance.isNaN && zeros.cosine.isNaN && zeros.mse == 0 && zeros.l0 == 0
                && zeros.deadFraction == 1)
        try evaluation.update(FloatMatrix(Matrix<Float>(rows: 1, cols: 4, elements: [1, 2, 3, 4])).view)
        let report = try evaluation.report()
        #expect(report.cosine > 0 && report.cosine <= 1 && report.normRatio > 0 && report.explainedVariance.isFinite)
    }
}

private func norm(_ values: [Double]) -> Double { values.map { $0 * $0 }.reduce(0, +).squareRoot() }

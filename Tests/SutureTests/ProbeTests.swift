// SPDX-License-Identifier: Apache-2.0
import Foundation
import Suture
import SutureTestSupport
import Testing

@Suite struct ProbeTests {
    /// Samples (rows, cols) and labels that depend on them, with some noise.
    private func samples(_ rows: Int, _ cols: Int, seed: UInt64) throws -> (x: FloatMatrix, labels: [Int32]) {
        var random = RandomSource(seed: seed)
        let x = try FloatMatrix(rows: rows, cols: cols) { target in
            for i in 0..<rows * cols { target[i] = Float(random.normal()) }
        }
        let labels = (0..<rows).map { i -> Int32 in
            Double(x[i, 0]) - Double(x[i, cols - 1]) + random.normal() > 0 ? 1 : 0
        }
        return (x, labels)
    }

    private func fit(_ x: FloatMatrix, _ labels: [Int32], _ options: ProbeOptions) throws -> (Probe, ProbeReport) {
        try labels.withUnsafeBufferPointer { buffer in
            let base = try #require(buffer.baseAddress)
            let targets = try Probe.Targets(samples: x.rows, labels: base, classes: 2)
            let found = try Probe.fit(.dense(x.view), targets, options: options)
            return (found.probe, found.report)
        }
    }

    private func logits(_ probe: Probe, _ x: FloatMatrix) throws -> [Float] {
        var found = [Float](repeating: 0, count: x.rows)
        try found.withUnsafeMutableBufferPointer { buffer in
            let base = try #require(buffer.baseAddress)
            try probe.logits(.dense(x.view), into: base, rowStride: 1)
        }
        return found
    }

    /// 12 columns are solved by Cholesky, 300 by conjugate gradients.
    @Test(arguments: [12, 300])
    func fitIsStationaryAndTheSameForAnyThreads(cols: Int) throws {
        let (x, labels) = try samples(700, cols, seed: 11)
        var options = ProbeOptions()
        options.C = 0.3
        options.tolerance = 1e-9
        let chosen = options
        let found = try withThreads([1, 2, 8]) { try fit(x, labels, chosen) }
        for (probe, report) in found {
            #expect(report.converged)
            #expect(probe.weights.matrix == found[0].0.weights.matrix && probe.bias[0, 0] == found[0].0.bias[0, 0])
        }
        // The gradient of ½ |w|² + C Σ log(1 + exp(-margin)), in this test's own arithmetic.
        let probe = found[0].0
        var gradient = (0..<cols).map { Double(probe.weights[0, $0]) }
        var slope = 0.0
        for i in 0..<x.rows {
            let logit = (0..<cols).reduce(Double(probe.bias[0, 0])) {
                $0 + Double(x[i, $1]) * Double(probe.weights[0, $1])
            }
            let error = chosen.C * (1 / (1 + exp(-logit)) - Double(labels[i]))
            slope += error
            for j in 0..<cols { gradient[j] += error * Double(x[i, j]) }
        }
        // Weights are rounded to float32: 6e-8 each, times the curvature, at most C rows / 4.
        let bound = 6e-8 * chosen.C * 700
        #expect(abs(slope) < bound)
        for value in gradient { #expect(abs(value) < bound) }
    }

    @Test func oneClassIsRefused() throws {
        let (x, _) = try samples(20, 3, seed: 12)
        #expect {
            try fit(x, [Int32](repeating: 1, count: 20), ProbeOptions())
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains("labels has no sample of class 0")
        }
    }

    @Test(arguments: [Direction.up, .down])
    func transferHasTheLogitsOfTheProbeOnMappedRows(direction: Direction) throws {
        let stitch = try TransferTests.stitch(24, 40)
        let (source, target) = direction == .up ? (24, 40) : (40, 24)
        let (x, labels) = try samples(300, source, seed: 13)
        let (probe, _) = try fit(x, labels, ProbeOptions())
        let moved = try stitch.transfer(probe, direction: direction)
        let (h, _) = try samples(50, target, seed: 14)
        let back = try stitch.apply(direction == .up ? .down : .up, to: h.view)
        for (one, other) in zip(try logits(moved, h), try logits(probe, back)) {
            // Both sum in float64; weights and mapped rows are rounded to float32 once each.
            #expect(abs(one - other) < 1e-4 * max(1, abs(other)))
        }
    }

    @Test func filesKeepWeightsClassesAndMetadata() throws {
        let temporary = try TemporaryFolder()
        let path = temporary.path + "/probe.safetensors"
        let (x, labels) = try samples(60, 5, seed: 15)
        let fitted = try fit(x, labels, ProbeOptions()).0
        var probe = try Probe(weights: fitted.weights, bias: fitted.bias, classes: [.string("no"), .string("yes")])
        probe.metadata = try Metadata(parsing: #"{"model_name": "small"}"#, name: "metadata")
        try probe.save(to: path)
        let found = try Probe(contentsOf: path)
        #expect(found.weights.matrix == probe.weights.matrix && found.bias.matrix == probe.bias.matrix)
        #expect(found.classes == probe.classes)
        #expect(found.metadata.text("model_name") == "small")
    }

    @Test func featuresThatTellClassesApartComeFirst() throws {
        let x = try FloatMatrix(rows: 4, cols: 3, elements: [0, 5, 1, 0, 6, 1, 1, 5, 4, 1, 6, 4])
        let found = try [Int32(0), 0, 1, 1].withUnsafeBufferPointer { labels in
            try FeatureSelection.byMeanDifference(
                .dense(x.view), labels: try #require(labels.baseAddress), classes: 2, k: 3)
        }
        #expect(found == [2, 0, 1])
    }
}

// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

@Suite struct SteeringTests {
    /// (rows, cols) plus `shift` in every column.
    private func tokens(_ rows: Int, _ cols: Int, seed: UInt64, shift: Double) throws -> FloatMatrix {
        var random = RandomSource(seed: seed)
        return try FloatMatrix(rows: rows, cols: cols) { target in
            for i in 0..<rows * cols { target[i] = Float(random.normal() + shift) }
        }
    }

    private func means(_ matrices: [FloatMatrix]) -> [Double] {
        let rows = matrices.reduce(0) { $0 + $1.rows }
        return (0..<(matrices.first?.cols ?? 0)).map { j in
            matrices.reduce(0.0) { sum, matrix in
                (0..<matrix.rows).reduce(sum) { $0 + Double(matrix[$1, j]) }
            } / Double(rows)
        }
    }

    private func dot(_ a: FloatMatrix, _ b: [Double]) -> Double {
        zip(a.buffer, b).reduce(0) { $0 + Double($1.0) * $1.1 }
    }

    /// More rows than one wave of blocks, in two shards.
    @Test func fitIsTheNormalisedDifferenceOfMeans() throws {
        let positive = [
            try tokens(9000, 7, seed: 1, shift: 3), try tokens(200, 7, seed: 2, shift: 2),
        ]
        let negative = [try tokens(500, 7, seed: 3, shift: 2.5)]
        let (toward, away) = (means(positive), means(negative))
        let difference = zip(toward, away).map { $0 - $1 }
        let norm = difference.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let found = try withThreads([1, 2, 8]) {
            try SteeringVector.fit(positive: positive.map(\.view), negative: negative.map(\.view))
        }
        for vector in found {
            for j in 0..<7 { #expect(abs(Double(vector.vector[0, j]) - difference[j] / norm) < 1e-7) }
            #expect(abs(vector.zMean - dot(vector.vector, toward)) < 1e-9)
            #expect(vector.vector.matrix == found[0].vector.matrix && vector.zMean == found[0].zMean)
        }
    }

    @Test func sidesWithTheSameMeanAreRefused() throws {
        let rows = try tokens(40, 5, seed: 4, shift: 1)
        #expect {
            try SteeringVector.fit(positive: [rows.view], negative: [rows.view, rows.view])
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains("same mean")
        }
    }

    @Test(arguments: [SteeringMode.clamp, .add, .ablate])
    func steeringIsTheDefinitionInPlaceToo(mode: SteeringMode) throws {
        let vector = try SteeringVector(vector: try tokens(1, 19, seed: 5, shift: 0), zMean: 2)
        let h = try tokens(33, 19, seed: 6, shift: 0)
        var output = Array(h.buffer)
        try output.withUnsafeMutableBufferPointer { memory in
            let base = try #require(memory.baseAddress)
            let view = MatrixView(base: UnsafeRawPointer(base), rows: 33, cols: 19, rowStride: 19, type: .float32)
            try vector.apply(mode, strength: 1.5, to: view, into: base, rowStride: 19)
        }
        for i in 0..<33 {
            let along = (0..<19).reduce(0.0) { $0 + Double(h[i, $1]) * Double(vector.vector[0, $1]) }
            let step = [SteeringMode.clamp: 3 - along, .add: 3, .ablate: -along][mode] ?? .nan
            for j in 0..<19 {
                let wanted = Double(h[i, j]) + step * Double(vector.vector[0, j])
                #expect(abs(Double(output[i * 19 + j]) - wanted) < 1e-6)
            }
        }
    }

    @Test(arguments: [Direction.up, .down])
    func transferLeavesTheBiasOutOfTheVectorAndInItsMean(direction: Direction) throws {
        let stitch = try TransferTests.stitch(24, 40)
        let (matrix, bias) = stitch.map(direction)
        let mean = try tokens(1, matrix.rows, seed: 8, shift: 1)
        let vector = try SteeringVector(
            vector: try tokens(1, matrix.rows, seed: 7, shift: 0), zMean: 5, mean: mean)
        let moved = try stitch.transfer(vector, direction: direction)
        func mapped(_ x: FloatMatrix) -> [Double] {
            (0..<matrix.cols).map { j in (0..<matrix.rows).reduce(0.0) { $0 + Double(x[0, $1]) * Double(matrix[$1, j]) }
            }
        }
        let image = mapped(vector.vector)
        let norm = image.reduce(0) { $0 + $1 * $1 }.squareRoot()
        for j in 0..<matrix.cols { #expect(abs(Double(moved.vector[0, j]) - image[j] / norm) < 1e-7) }
        let newMean = zip(mapped(mean), bias.buffer).map { $0 + Double($1) }
        #expect(abs(moved.zMean - dot(moved.vector, newMean)) < 1e-12)

        let acts = try tokens(300, matrix.cols, seed: 9, shift: 0.5)
        let exact = try stitch.transfer(vector, direction: direction, acts: [acts.view])
        #expect(exact.vector.matrix == moved.vector.matrix)
        #expect(abs(exact.zMean - dot(moved.vector, means([acts]))) < 1e-9)
    }
}

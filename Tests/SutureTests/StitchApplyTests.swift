// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

private func anyStitch(_ dA: Int, _ dB: Int, seed: UInt64) throws -> Stitch {
    var random = seeded(seed)
    func weights(_ n: Int, _ m: Int) throws -> FloatMatrix {
        try FloatMatrix(Matrix<Double>(rows: n, cols: m, elements: (0..<n * m).map { _ in random.normal() }))
    }
    return try Stitch(
        upMatrix: weights(dA, dB), upBias: weights(1, dB), downMatrix: weights(dB, dA), downBias: weights(1, dA))
}

@Suite struct StitchApplyTests {
    @Test(arguments: [(1, 1, 1), (3, 5, 7), (1200, 9, 4)], [Direction.up, .down])
    func `rows are multiplied from the right and shifted`(shape: (Int, Int, Int), direction: Direction) throws {
        let (n, dA, dB) = shape
        let stitch = try anyStitch(dA, dB, seed: 50)
        let rows = PairedRows(rows: n, dA: dA, dB: dB, seed: 51)
        let (matrix, bias) = stitch.map(direction)
        let h = direction == .up ? rows.a : rows.b
        let found = try h.withView { try stitch.apply(direction, to: $0) }
        #expect(found.rows == n && found.cols == matrix.cols)
        for row in 0..<n {
            for j in 0..<matrix.cols {
                var (sum, size) = (Double(bias[0, j]), abs(Double(bias[0, j])))
                for i in 0..<matrix.rows {
                    let product = Double(h[row, i]) * Double(matrix[i, j])
                    sum += product
                    size += abs(product)
                }
                // One rounding of float32 (2^-24 of the terms' size) for each of the sums.
                #expect(abs(Double(found[row, j]) - sum) <= size * Double(matrix.rows + 2) * 0x1p-24)
            }
        }
    }

    @Test(arguments: [ElementType.float64, .float16, .bfloat16])
    func `every element type is read as its float32 value`(type: ElementType) throws {
        let stitch = try anyStitch(5, 6, seed: 52)
        var rows = PairedRows(rows: 700, dA: 5, dB: 6, seed: 53)
        // Multiples of 1/8 below 8 are exact in each type.
        rows.a.elements = rows.a.elements.map { max(-8, min(8, ($0 * 8).rounded() / 8)) }
        let expected = try rows.a.withView { try stitch.apply(.up, to: $0) }
        func check<Element>(_ values: [Element]) throws {
            try values.withUnsafeBytes { raw in
                let view = MatrixView(base: raw.baseAddress, rows: 700, cols: 5, rowStride: 5, type: type)
                let found = try stitch.apply(.up, to: view)
                #expect(found.matrix == expected.matrix)
            }
        }
        switch type {
        case .float32: break
        case .float64: try check(rows.a.elements.map { Double($0) })
        case .float16: try check(rows.a.elements.map { Float16($0) })
        case .bfloat16: try check(rows.a.elements.map { UInt16($0.bitPattern >> 16) })
        }
    }

    @Test func `any number of threads gives the same bits`() throws {
        let stitch = try anyStitch(40, 70, seed: 54)
        let rows = PairedRows(rows: 9 * 512 + 77, dA: 40, dB: 1, seed: 55)
        let results = try withThreads([1, 2, 8]) {
            try rows.a.withView { try stitch.apply(.up, to: $0) }.matrix.elements.map(\.bitPattern)
        }
        #expect(results[0] == results[1] && results[0] == results[2])
    }

    @Test func `only the columns of the output are written`() throws {
        let stitch = try anyStitch(3, 4, seed: 56)
        let rows = PairedRows(rows: 600, dA: 3, dB: 1, seed: 57)
        var output = [Float](repeating: -7, count: 600 * 6)
        try output.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return }
            try rows.a.withView { try stitch.apply(.up, to: $0, into: base, rowStride: 6) }
        }
        let expected = try rows.a.withView { try stitch.apply(.up, to: $0) }
        for row in 0..<600 {
            for j in 0..<4 { #expect(output[row * 6 + j] == expected[row, j]) }
            #expect(output[row * 6 + 4] == -7 && output[row * 6 + 5] == -7)
        }
    }

    @Test func `round trips of a fitted stitch come back near`() throws {
        let rows = PairedRows(rows: 2000, dA: 6, dB: 12, seed: 58)
        let (stitch, report) = try Stitch.fit(rows.moments(), options: .init(alpha: 10))
        let there = try rows.a.withView { try stitch.apply(.up, to: $0) }
        let back = try stitch.apply(.down, to: there.view)
        let error = zip(back.matrix.elements, rows.a.elements).reduce(0.0) {
            $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1))
        }
        #expect(abs(error / Double(2000 * 6) - report.after.roundTripA) < 1e-4 * report.after.roundTripA)
    }

    @Test func `bad rows are named, bad widths refused, nothing is done for no rows`() throws {
        let stitch = try anyStitch(3, 4, seed: 59)
        var rows = PairedRows(rows: 3000, dA: 3, dB: 4, seed: 60)
        rows.a[2100, 1] = .nan
        rows.a[2900, 0] = .infinity
        let error = sutureError { _ = try rows.a.withView { try stitch.apply(.up, to: $0) } }
        #expect(error?.message.contains("h[2100, 1] is nan") == true)
        #expect(
            sutureError { _ = try rows.b.withView { try stitch.apply(.up, to: $0) } }?.message.contains("d_a = 3")
                == true)
        #expect(
            sutureError { _ = try rows.a.withView { try stitch.apply(.down, to: $0) } }?.message.contains("d_b = 4")
                == true)
        #expect(try rows[0..<0].a.withView { try stitch.apply(.up, to: $0) }.count == 0)
    }

    @Test func `cancelling stops it`() throws {
        let stitch = try anyStitch(30, 40, seed: 61)
        let rows = PairedRows(rows: 5000, dA: 30, dB: 1, seed: 62)
        var calls = 0
        let error = sutureError {
            _ = try rows.a.withView {
                try stitch.apply(
                    .up, to: $0,
                    progress: Progress { done, total in
                        calls += 1
                        #expect(done <= total && total == 5000)
                        return false
                    })
            }
        }
        #expect(error == .cancelled && calls == 1)
    }
}

// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// Paired rows, some of which are made so large that a bound leaves them out.
private func withMassiveRows(_ rows: Int, _ dA: Int, _ dB: Int, seed: UInt64) -> PairedRows {
    var data = PairedRows(rows: rows, dA: dA, dB: dB, seed: seed)
    // Rows of A, of B, and of both.
    for row in stride(from: 3, to: rows, by: 50) { for j in 0..<dA { data.a[row, j] *= 100 } }
    for row in stride(from: 23, to: rows, by: 70) { for j in 0..<dB { data.b[row, j] *= 300 } }
    return data
}

private func norm(_ matrix: Matrix<Float>, _ row: Int) -> Double {
    (0..<matrix.cols).reduce(0.0) { $0 + Double(matrix[row, $1]) * Double(matrix[row, $1]) }.squareRoot()
}

private func median(_ matrix: Matrix<Float>) -> Double {
    let norms = (0..<matrix.rows).map { norm(matrix, $0) }.sorted()
    let middle = norms.count / 2
    return norms.count % 2 == 1 ? norms[middle] : (norms[middle - 1] + norms[middle]) / 2
}

private func chosen(_ data: PairedRows, _ rows: [Int]) -> PairedRows {
    var part = data[0..<rows.count]
    for (i, row) in rows.enumerated() {
        for j in 0..<data.a.cols { part.a[i, j] = data.a[row, j] }
        for j in 0..<data.b.cols { part.b[i, j] = data.b[row, j] }
    }
    return part
}

private func bounded(_ data: PairedRows, a: Double, b: Double, estimated: Bool = false) throws -> Moments {
    var moments = try Moments(dA: data.a.cols, dB: data.b.cols)
    try moments.setNormBounds(a: a, b: b, estimated: estimated)
    try data.add(to: &moments)
    return moments
}

private func bounds(_ data: PairedRows) -> (a: Double, b: Double) { (5 * median(data.a), 5 * median(data.b)) }

@Suite struct NormBoundTests {
    // The last is wide: cut into tiles, with the norms of a block taken by several threads.
    @Test(arguments: [(3000, 4, 7), (700, 30, 3), (2300, 300, 260)])
    func `bounded moments are those of the rows within`(rows: Int, dA: Int, dB: Int) throws {
        let data = withMassiveRows(rows, dA, dB, seed: 1)
        let (a, b) = bounds(data)
        let kept = (0..<rows).filter { norm(data.a, $0) <= a && norm(data.b, $0) <= b }
        let results = try withThreads([1, 2, 8]) { try bounded(data, a: a, b: b) }
        let found = results[0]
        for other in results { #expect(try other.serialized() == found.serialized()) }
        #expect(found.tokens == UInt64(kept.count) && found.leftOut == UInt64(rows - kept.count))
        let expected = try chosen(data, kept).moments()
        for block in [Moments.Block.aa, .ab, .bb] {
            let difference = relativeDifference(
                try found.covariance(block).elements, try expected.covariance(block).elements)
            #expect(difference < 1e-12)
        }
        let (reportA, reportB) = found.normReports
        #expect(reportA.bound == a && reportB.bound == b)
        #expect(reportA.beyond == UInt64((0..<rows).count { norm(data.a, $0) > a }))
        #expect(reportB.beyond == UInt64((0..<rows).count { norm(data.b, $0) > b }))
        #expect(reportA.beyond + reportB.beyond > found.leftOut, "some pairs have both beyond")
        #expect(reportA.largest <= a && reportB.largest <= b && !found.isCarriedByFewRows)
    }

    @Test func `parts with the same bounds merge to one pass, in blocks and bytes`() throws {
        let data = withMassiveRows(4000, 6, 5, seed: 2)
        let (a, b) = bounds(data)
        let whole = try bounded(data, a: a, b: b)
        var merged = try bounded(data[0..<10], a: a, b: b)
        for start in stride(from: 10, to: 4000, by: 570) {
            let part = try bounded(data[start..<min(start + 570, 4000)], a: a, b: b).serialized()
            try merged.merge(part.withUnsafeBytes { try Moments(serialized: $0) })
        }
        #expect(merged.tokens == whole.tokens && merged.leftOut == whole.leftOut)
        #expect(merged.normBounds == whole.normBounds && merged.boundsOrigin == .given)
        let difference = relativeDifference(try merged.covariance(.ab).elements, try whole.covariance(.ab).elements)
        #expect(difference < 1e-12)
        let (one, two) = (merged.normReports.a, whole.normReports.a)
        #expect(one.beyond == two.beyond && one.largest == two.largest)
        #expect(abs(one.median - two.median) < 1e-12 * two.median)
        #expect(abs(one.shareBeyond - two.shareBeyond) < 1e-12)
    }

    @Test func `unlike bounds are refused, both named, and nothing changes`() throws {
        let data = PairedRows(rows: 200, dA: 3, dB: 2, seed: 3)
        var moments = try bounded(data, a: 50, b: 60)
        let before = try moments.serialized()
        for (a, b) in [(51.0, 60.0), (50, 61), (.infinity, 60), (50, .infinity)] {
            let other = try bounded(data, a: a, b: b)
            let message = sutureError { try moments.merge(other) }?.message ?? ""
            for part in ["norm_bound_a = \(a)", "norm_bound_b = \(b)", "norm_bound_a = 50.0", "norm_bound_b = 60.0"] {
                #expect(message.contains(part))
            }
            // Bounds that were given are not given up for estimates, or for none.
            let estimated = try bounded(data, a: a, b: b, estimated: true)
            #expect(sutureError { try moments.merge(estimated) } != nil)
        }
        #expect(sutureError { try moments.merge(data.moments()) }?.message.contains("norm_bound_a = inf") == true)
        // Before any row too; but moments that are nothing yet take what comes.
        #expect(sutureError { try moments.merge(bounded(data, a: 50, b: 7)) } != nil)
        var empty = try Moments(dA: 3, dB: 2)
        try moments.merge(empty)
        #expect(try moments.serialized() == before)
        try empty.merge(moments)
        #expect(try empty.serialized() == before)
    }

    @Test func `estimates merge where the smaller ones leave out the same rows`() throws {
        let data = withMassiveRows(2000, 4, 4, seed: 4)
        let (a, b) = bounds(data)
        func part(_ rows: Range<Int>, _ factor: Double) throws -> Moments {
            try bounded(data[rows], a: a * factor, b: b * factor, estimated: true)
        }
        var merged = try part(0..<1000, 1.2)
        try merged.merge(part(1000..<2000, 1))
        let whole = try bounded(data, a: a, b: b)
        #expect(merged.tokens == whole.tokens && merged.leftOut == whole.leftOut)
        #expect(merged.normBounds == whole.normBounds && merged.boundsOrigin == .estimated)
        // Rows that the one part counted, and the other's bound would not.
        var low = try part(0..<1000, 0.2)
        #expect(sutureError { try low.merge(part(1000..<2000, 1)) }?.message.contains("norm_bound_a") == true)
    }

    @Test func `without any row within the bounds, whoever wants rows says so`() throws {
        let data = PairedRows(rows: 300, dA: 3, dB: 4, seed: 5)
        var moments = try bounded(data, a: 1e-3, b: .infinity)
        #expect(moments.tokens == 0 && moments.leftOut == 300)
        for error in [
            sutureError { _ = try Stitch.fit(moments) }, sutureError { _ = try moments.svcca() },
            sutureError { _ = try moments.covariance(.aa) },
        ] {
            #expect(error?.message.contains("counts 0 of 300 tokens") == true)
            #expect(error?.message.contains("norm_bound_a = 0.001") == true)
        }
        // They merge, are kept, and go on, all the same.
        let copy = moments
        try moments.merge(copy)
        #expect(moments.leftOut == 600)
        try data.add(to: &moments)
        #expect(moments.tokens == 0 && moments.leftOut == 900)
        let back = try moments.serialized().withUnsafeBytes { try Moments(serialized: $0) }
        #expect(back.leftOut == 900 && back.normBounds == (1e-3, .infinity))
    }

    @Test func `a row that is not finite is named, never taken for one beyond the bound`() throws {
        for (value, dA, dB) in [(Float.nan, 4, 3), (.infinity, 4, 3), (-.infinity, 300, 400)] {
            var data = withMassiveRows(900, dA, dB, seed: 6)
            data.b[777, 2] = value
            var moments = try Moments(dA: dA, dB: dB)
            try moments.setNormBounds(a: 1, b: 1)
            let before = try moments.serialized()
            let message = sutureError { try data.add(to: &moments) }?.message
            #expect(message?.contains("h_b[777, 2]") == true)
            #expect(try moments.serialized() == before)
        }
    }

    @Test func `bounds are numbers above 0, and come before the first row`() throws {
        var moments = try Moments(dA: 2, dB: 2)
        for wrong in [0.0, -1, .nan, -.infinity] {
            #expect(sutureError { try moments.setNormBounds(a: wrong, b: 1) }?.message.contains("norm_bound_a") == true)
            #expect(sutureError { try moments.setNormBounds(a: 1, b: wrong) }?.message.contains("norm_bound_b") == true)
        }
        #expect(moments.boundsOrigin == .none)
        try moments.setNormBounds(a: 3, b: .infinity)
        try moments.setNormBounds(a: 4, b: .infinity)
        try PairedRows(rows: 5, dA: 2, dB: 2, seed: 7).add(to: &moments)
        #expect(sutureError { try moments.setNormBounds(a: 4, b: 4) }?.message.contains("5 tokens") == true)
    }

    @Test func `few rows that carry the variance are told of`() throws {
        var data = PairedRows(rows: 10_000, dA: 20, dB: 10, seed: 8)
        let ordinary = try data.moments()
        #expect(!ordinary.isCarriedByFewRows)
        for row in stride(from: 0, to: 10_000, by: 1000) { for j in 0..<20 { data.a[row, j] *= 100 } }
        let moments = try data.moments()
        let (a, b) = moments.normReports
        #expect(moments.isCarriedByFewRows && b == ordinary.normReports.b)
        // The ranges of norms are up to 6 % wide.
        let (sure, possible) = (5.3 * median(data.a), 4.7 * median(data.a))
        let massive = [sure, possible].map { least in (0..<10_000).filter { norm(data.a, $0) > least } }
        #expect(massive[0].count >= 10 && (massive[0].count...massive[1].count).contains(Int(a.massive)))
        // Against the two passes of the textbook.
        let mean = (0..<20).map { j in (0..<10_000).reduce(0.0) { $0 + Double(data.a[$1, j]) } / 10_000 }
        func squares(_ rows: [Int]) -> Double {
            var sum = 0.0
            for row in rows {
                for j in 0..<20 {
                    let difference = Double(data.a[row, j]) - mean[j]
                    sum += difference * difference
                }
            }
            return sum
        }
        let shares = massive.map { squares($0) / squares(Array(0..<10_000)) }
        #expect(a.massiveShare <= shares[1] && a.massiveShare > shares[0] - 0.05)
        #expect(abs(a.median - median(data.a)) < 0.04 * median(data.a))
        #expect(a.largest == (0..<10_000).map { norm(data.a, $0) }.max())
        let (_, report) = try Stitch.fit(moments)
        #expect(report.isCarriedByFewRows)
        #expect(try !Stitch.fit(ordinary).report.isCarriedByFewRows)
    }

    @Test func `a bound is a multiple of the sample's median, however rows are cut`() throws {
        for rows in [1, 2, 7, 4096, 4097, 50_001] {
            let data = PairedRows(rows: rows, dA: 3, dB: 1, seed: 9)
            let sample = RowNorms.sample(of: rows)
            #expect(sample.count == min(rows, 4096) && Set(sample).count == sample.count)
            #expect(sample == sample.sorted() && sample.allSatisfy { (0..<rows).contains($0) })
            let expected = 3 * median(chosen(data, sample).a)
            try data.a.withView { view in
                let found = try RowNorms.bound(of: [view], multiple: 3)
                #expect(abs(found - expected) < 1e-13 * expected)
                let cuts = [0, rows / 5, rows / 2, rows].reduce(into: [Int]()) { if $0.last != $1 { $0.append($1) } }
                let shards = zip(cuts, cuts.dropFirst()).map { view.rows($0..<$1) }
                #expect(try RowNorms.bound(of: shards, multiple: 3) == found)
            }
        }
        // Spread over all: each of 64 parts has its share.
        let parts = RowNorms.sample(of: 1_000_000).reduce(into: [Int](repeating: 0, count: 64)) {
            $0[$1 * 64 / 1_000_000] += 1
        }
        #expect(parts.allSatisfy { (62...66).contains($0) })
    }

    @Test func `rows of zeros say nothing of a stream's norms`() throws {
        var matrix = Matrix<Float>(zeros: 100, 4)
        #expect(try matrix.withView { try RowNorms.bound(of: [$0], multiple: 5) } == .infinity)
        for row in 0..<10 { matrix[row, 1] = 2 }
        #expect(try matrix.withView { try RowNorms.bound(of: [$0], multiple: 5) } == 10)
        matrix[60, 0] = .nan
        let message = matrix.withView { view in sutureError { _ = try RowNorms.bound(of: [view], multiple: 5) } }?
            .message
        #expect(message?.contains("shards[0][60, 0] is nan") == true)
    }

    @Test func `bytes of version 1 are read, without norms`() throws {
        let moments = try PairedRows(rows: 60, dA: 3, dB: 2, seed: 10).moments()
        var bytes = Array(try moments.serialized()[..<(40 + 8 * (5 + 15))]) + [UInt8](repeating: 0, count: 8)
        bytes.withUnsafeMutableBytes { raw in
            raw.storeBytes(of: 1, toByteOffset: 8, as: UInt64.self)
            let hash = xxHash64(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(raw)[..<(raw.count - 8)]))
            raw.storeBytes(of: hash, toByteOffset: raw.count - 8, as: UInt64.self)
        }
        var old = try bytes.withUnsafeBytes { try Moments(serialized: $0) }
        #expect(old.tokens == 60 && old.normBounds == (.infinity, .infinity))
        #expect(try old.covariance(.ab).elements == moments.covariance(.ab).elements)
        #expect(old.normReports.a.median == 0 && !old.isCarriedByFewRows)
        // Nor are the norms of what they are merged with half known.
        try old.merge(moments)
        #expect(old.tokens == 120 && old.normReports.a.median == 0)
        let back = try old.serialized().withUnsafeBytes { try Moments(serialized: $0) }
        #expect(back.tokens == 120)
    }

    @Test func `bytes with norms that cannot be are refused`() throws {
        let data = withMassiveRows(60, 1, 1, seed: 11)
        let bytes = try bounded(data, a: 20, b: 30).serialized()
        let start = 40 + 8 * (2 + 3)
        let cases: [(Int, UInt64)] = [
            (start, 3), (start + 8, 1 << 60), (start + 16, (-1.0).bitPattern), (start + 16, 0),
            (start + 16, Double.nan.bitPattern), (start + 24, Double.infinity.bitPattern), (start + 32, UInt64.max),
            (start + 40, (-2.0).bitPattern), (start + 48, 1 << 40), (start + 56, 1 << 50), (start + 64, 0),
            (start + 64, 1 << 20), (start + 72, 0), (start + 80, Double.nan.bitPattern),
        ]
        for (offset, value) in cases {
            var changed = bytes
            changed.withUnsafeMutableBytes { raw in
                raw.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
                let hash = xxHash64(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(raw)[..<(raw.count - 8)]))
                raw.storeBytes(of: hash, toByteOffset: raw.count - 8, as: UInt64.self)
            }
            let error = sutureError { _ = try changed.withUnsafeBytes { try Moments(serialized: $0) } }
            guard case .format(let message) = error else {
                Issue.record("accepted \(value) at \(offset)")
                continue
            }
            #expect(message.contains("norms"))
        }
    }
}

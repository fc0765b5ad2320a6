// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// Means and covariances by the textbook's two passes, in 80-bit arithmetic.
private func twoPass(_ rows: PairedRows) -> (mean: [Double], covariance: [[Double]]) {
    let (n, dA, dB) = (rows.rows, rows.a.cols, rows.b.cols)
    func value(_ row: Int, _ j: Int) -> Float80 {
        j < dA ? Float80(rows.a[row, j]) : Float80(rows.b[row, j - dA])
    }
    let mean = (0..<dA + dB).map { j in (0..<n).reduce(Float80(0)) { $0 + value($1, j) } / Float80(n) }
    let covariance = (0..<dA + dB).map { i in
        (0..<dA + dB).map { j in
            Double((0..<n).reduce(Float80(0)) { $0 + (value($1, i) - mean[i]) * (value($1, j) - mean[j]) } / Float80(n))
        }
    }
    return (mean.map { Double($0) }, covariance)
}

/// All that can be read from moments, in one list.
private func contents(_ moments: Moments) throws -> [[Double]] {
    var means = [Double](repeating: 0, count: moments.dA + moments.dB)
    means.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return }
        moments.readMeanA(into: base)
        moments.readMeanB(into: base + moments.dA)
    }
    return [means] + (try [.aa, .ab, .bb].map { try moments.covariance($0).elements })
}

private func expectClose(_ a: Moments, _ b: Moments, within tolerance: Double = 1e-10) throws {
    #expect(a.tokens == b.tokens)
    for (x, y) in zip(try contents(a), try contents(b)) { #expect(relativeDifference(x, y) < tolerance) }
}

@Suite struct MomentsTests {
    @Test(arguments: [(700, 5, 8), (2, 1, 1), (1, 3, 2), (1537, 8, 5)])
    func `one pass gives the means and covariances of two passes`(rows: Int, dA: Int, dB: Int) throws {
        let data = PairedRows(rows: rows, dA: dA, dB: dB, seed: 1)
        let moments = try data.moments()
        #expect(moments.tokens == UInt64(rows))
        let expected = twoPass(data)
        let found = try contents(moments)
        #expect(relativeDifference(found[0], expected.mean) < 1e-14)
        let all = expected.covariance
        #expect(relativeDifference(found[1], all[..<dA].flatMap { $0[..<dA] }) < 1e-13)
        #expect(relativeDifference(found[2], all[..<dA].flatMap { $0[dA...] }) < 1e-13)
        #expect(relativeDifference(found[3], all[dA...].flatMap { $0[dA...] }) < 1e-13)
    }

    @Test func `a mean far from zero costs no digits of the covariance`() throws {
        var data = PairedRows(rows: 3000, dA: 3, dB: 2, seed: 2)
        let near = try data.moments()
        // 2^20 is exact to add to numbers rounded to multiples of 2^-3.
        for i in data.a.elements.indices { data.a.elements[i] = (data.a.elements[i] * 8).rounded() / 8 }
        let before = try data.moments()
        for i in data.a.elements.indices { data.a.elements[i] += 1_048_576 }
        let far = try data.moments()
        // Uncentred sums would lose 12 digits; what is left is the rounding of the means, 1e-10.
        #expect(relativeDifference(try contents(before)[1], try contents(far)[1]) < 1e-10)
        #expect(relativeDifference(try contents(near)[3], try contents(far)[3]) == 0)
    }

    // 19 blocks of 256 and a ragged tail, several lanes; 520 + 600 columns are three tiles wide, and
    // have 10 blocks of 1024.
    @Test(arguments: [(19 * 256 + 77, 24, 40), (70 * 256 + 1, 9, 4), (9 * 1024 + 3, 520, 600)])
    func `any number of threads gives the same bits`(rows: Int, dA: Int, dB: Int) throws {
        let data = PairedRows(rows: rows, dA: dA, dB: dB, seed: 3, signal: 2)
        let results = try withThreads([1, 2, 8]) { try data.moments().serialized() }
        #expect(results[0] == results[1])
        #expect(results[0] == results[2])
    }

    @Test func `wide moments, cut into tiles, agree with narrow ones`() throws {
        let data = PairedRows(rows: 1300, dA: 530, dB: 560, seed: 4, signal: 3)
        let wide = try data.moments()
        // The last columns of A and the first of B lie in different tiles from one another.
        let cols = 505..<530
        var part = data
        part.a = Matrix(zeros: data.rows, cols.count)
        for row in 0..<data.rows { for (i, j) in cols.enumerated() { part.a[row, i] = data.a[row, j] } }
        let narrow = try part.moments()
        let (wideAB, narrowAB) = (try wide.covariance(.ab), try narrow.covariance(.ab))
        let (wideAA, narrowAA) = (try wide.covariance(.aa), try narrow.covariance(.aa))
        #expect(relativeDifference(cols.flatMap { i in (0..<560).map { wideAB[i, $0] } }, narrowAB.elements) < 1e-13)
        #expect(relativeDifference(cols.flatMap { i in cols.map { wideAA[i, $0] } }, narrowAA.elements) < 1e-13)
        #expect(relativeDifference(try wide.covariance(.bb).elements, try narrow.covariance(.bb).elements) < 1e-13)
    }

    @Test func `shards, in any grouping, order and tree of merges, equal one pass`() throws {
        let data = PairedRows(rows: 5003, dA: 13, dB: 9, seed: 5)
        let whole = try data.moments()
        let cuts = [0, 1, 2, 700, 1212, 1300, 2836, 5003]
        let parts = try zip(cuts, cuts.dropFirst()).map { try data[$0..<$1].moments() }

        var updated = try Moments(dA: 13, dB: 9)
        for (from, to) in zip(cuts, cuts.dropFirst()) { try data[from..<to].add(to: &updated) }
        try expectClose(updated, whole)

        var random = seeded(6)
        for _ in 0..<10 {
            var forest = random.permutation(parts.count).map { parts[$0] }
            while forest.count > 1 {
                let other = forest.remove(at: random.below(forest.count))
                try forest[random.below(forest.count)].merge(other)
            }
            try expectClose(forest[0], whole)
        }
    }

    @Test func `merging with itself or with nothing`() throws {
        let data = PairedRows(rows: 600, dA: 4, dB: 3, seed: 7)
        var moments = try data.moments()
        let before = try contents(moments)
        try moments.merge(Moments(dA: 4, dB: 3))
        #expect(try contents(moments) == before)
        try moments.merge(moments)
        #expect(moments.tokens == 1200)
        for (x, y) in zip(try contents(moments), before) { #expect(relativeDifference(x, y) < 1e-14) }
        var empty = try Moments(dA: 4, dB: 3)
        try empty.merge(moments)
        #expect(try contents(empty) == contents(moments))
    }

    @Test func `copies are independent`() throws {
        let data = PairedRows(rows: 600, dA: 4, dB: 3, seed: 8)
        let first = try data.moments()
        let before = try contents(first)
        var second = first
        try data[0..<10].add(to: &second)
        try second.merge(first)
        #expect(try contents(first) == before)
        #expect(first.tokens == 600 && second.tokens == 1210)
    }

    @Test(arguments: [ElementType.float64, .float16, .bfloat16])
    func `every element type counts with its exact value`(type: ElementType) throws {
        // Multiples of 1/8 below 8 are exact in each type.
        var data = PairedRows(rows: 1100, dA: 6, dB: 5, seed: 9)
        data.a.elements = data.a.elements.map { max(-8, min(8, ($0 * 8).rounded() / 8)) }
        let expected = try data.moments().serialized()
        var found = try Moments(dA: 6, dB: 5)
        // A row stride above the width, and a start that is not aligned to 4 bytes.
        let (stride, size) = (9, type.byteCount)
        var bytes = [UInt8](repeating: 0xff, count: 2 + 1100 * stride * size)
        bytes.withUnsafeMutableBytes { raw in
            for row in 0..<1100 {
                for j in 0..<6 {
                    let value = data.a[row, j]
                    let offset = 2 + (row * stride + j) * size
                    switch type {
                    case .float32: raw.storeBytes(of: value, toByteOffset: offset, as: Float.self)
                    case .float64: raw.storeBytes(of: Double(value), toByteOffset: offset, as: Double.self)
                    case .float16: raw.storeBytes(of: Float16(value).bitPattern, toByteOffset: offset, as: UInt16.self)
                    case .bfloat16:
                        raw.storeBytes(of: UInt16(value.bitPattern >> 16), toByteOffset: offset, as: UInt16.self)
                    }
                }
            }
        }
        try bytes.withUnsafeBytes { raw in
            try data.b.withView { b in
                let a = MatrixView(
                    base: raw.baseAddress.map { $0 + 2 }, rows: 1100, cols: 6, rowStride: stride, type: type)
                try found.update(a: a, b: b)
            }
        }
        #expect(try found.serialized() == expected)
    }

    @Test(arguments: [Float.nan, .infinity, -.infinity])
    func `the first row that is not finite is named, and nothing is added`(bad: Float) throws {
        let clean = PairedRows(rows: 5000, dA: 4, dB: 3, seed: 10)
        try withThreads([1, 8]) {
            var moments = try clean.moments()
            let before = try moments.serialized()
            var data = clean
            data.a[4321, 2] = bad
            data.b[3000, 1] = bad
            data.a[3000, 3] = bad
            let error = sutureError { try data.add(to: &moments) }
            guard case .invalidArgument(let text) = error else {
                Issue.record("no error for \(bad)")
                return
            }
            #expect(text.contains("h_a[3000, 3]"))
            #expect(try moments.serialized() == before)
            data.a[3000, 3] = 0
            #expect(sutureError { try data.add(to: &moments) }?.message.contains("h_b[3000, 1]") == true)
        }
    }

    @Test func `a float64 value beyond float32 is refused`() throws {
        let values = [1.0, 2.0, 1e39, 4.0]
        var moments = try Moments(dA: 2, dB: 2)
        values.withUnsafeBytes { raw in
            let view = MatrixView(base: raw.baseAddress, rows: 2, cols: 2, rowStride: 2, type: .float64)
            let error = sutureError { try moments.update(a: view, b: view) }
            #expect(error?.message.contains("h_a[1, 0]") == true)
        }
        #expect(moments.tokens == 0)
    }

    @Test func `shapes that do not fit are refused`() throws {
        for (dA, dB) in [(0, 3), (3, 0), (-1, 3), (3, Int.max), (Int.min, 3)] {
            #expect(sutureError { _ = try Moments(dA: dA, dB: dB) }?.message.contains("expected 1 to") == true)
        }
        // What cannot be had is an error, not a crash.
        guard case .outOfMemory = sutureError({ _ = try Moments(dA: 1 << 29, dB: 1 << 29) }) else {
            Issue.record("2^63 bytes were found")
            return
        }
        let data = PairedRows(rows: 5, dA: 4, dB: 3, seed: 11)
        var moments = try Moments(dA: 4, dB: 4)
        #expect(sutureError { try data.add(to: &moments) }?.message == "h_b has 3 columns, expected d_b = 4")
        moments = try Moments(dA: 3, dB: 3)
        #expect(sutureError { try data.add(to: &moments) }?.message == "h_a has 4 columns, expected d_a = 3")
        var uneven = data
        uneven.a = data[0..<4].a
        moments = try Moments(dA: 4, dB: 3)
        #expect(sutureError { try uneven.add(to: &moments) }?.message.contains("4 rows and h_b 5") == true)
        #expect(sutureError { try data[0..<0].add(to: &moments) }?.message.contains("0 rows") == true)
        #expect(sutureError { _ = try moments.covariance(.aa) }?.message.contains("no tokens") == true)
        var other = try Moments(dA: 3, dB: 4)
        try PairedRows(rows: 5, dA: 3, dB: 4, seed: 12).add(to: &other)
        #expect(sutureError { try moments.merge(other) }?.message.contains("d_a = 3") == true)
    }

    @Test(arguments: [(5000, 40, 30), (3000, 520, 600)])
    func `a cancelled update changes nothing, wherever it is cancelled`(rows: Int, dA: Int, dB: Int) throws {
        let data = PairedRows(rows: rows, dA: dA, dB: dB, seed: 13, signal: 2)
        var moments = try data[0..<100].moments()
        let before = try moments.serialized()
        try withThreads([1]) {
            var reports: [UInt64] = []
            var full = moments
            try data.add(
                to: &full,
                progress: Progress { done, total in
                    #expect(done <= total && total == UInt64(rows))
                    reports.append(done)
                    return true
                })
            #expect(reports == reports.sorted() && reports.last == UInt64(rows))
            for stop in Set([1, 2, reports.count / 2, reports.count]) {
                var left = stop
                let error = sutureError {
                    try data.add(
                        to: &moments,
                        progress: Progress { _, _ in
                            left -= 1
                            return left > 0
                        })
                }
                #expect(error == .cancelled)
                #expect(try moments.serialized() == before)
            }
        }
    }
}

@Suite struct MomentsSerializationTests {
    @Test func `bytes come back as the same moments`() throws {
        let moments = try PairedRows(rows: 900, dA: 7, dB: 4, seed: 14).moments()
        let bytes = try moments.serialized()
        #expect(bytes.count == moments.serializedSize)
        let back = try bytes.withUnsafeBytes { try Moments(serialized: $0) }
        #expect(back.dA == 7 && back.dB == 4 && back.tokens == 900)
        #expect(try contents(back) == contents(moments))
        let empty = try Moments(dA: 2, dB: 1).serialized()
        #expect(try empty.withUnsafeBytes { try Moments(serialized: $0) }.tokens == 0)
    }

    @Test func `every cut and every flipped bit is found`() throws {
        let bytes = try PairedRows(rows: 60, dA: 3, dB: 2, seed: 15).moments().serialized()
        func isRefused(_ bytes: [UInt8]) -> Bool {
            guard case .format = sutureError({ _ = try bytes.withUnsafeBytes { try Moments(serialized: $0) } }) else {
                return false
            }
            return true
        }
        for count in 0..<bytes.count { #expect(isRefused(Array(bytes[..<count])), "cut at \(count)") }
        #expect(isRefused(bytes + [0]))
        for position in bytes.indices {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[position] ^= 1 << bit
                #expect(isRefused(damaged), "bit \(bit) of byte \(position)")
            }
        }
        var random = seeded(16)
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0..<1 + random.below(6) {
                damaged[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            }
            #expect(damaged == bytes || isRefused(damaged))
        }
    }

    @Test func `sound bytes with impossible contents are refused`() throws {
        var bytes = try PairedRows(rows: 60, dA: 1, dB: 1, seed: 17).moments().serialized()
        func sealed(_ offset: Int, _ value: UInt64) -> [UInt8] {
            var changed = bytes
            changed.withUnsafeMutableBytes { raw in
                raw.storeBytes(of: value, toByteOffset: offset, as: UInt64.self)
                let hash = xxHash64(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(raw)[..<(raw.count - 8)]))
                raw.storeBytes(of: hash, toByteOffset: raw.count - 8, as: UInt64.self)
            }
            return changed
        }
        bytes = sealed(8, 2)
        #expect(throws: Never.self) { try bytes.withUnsafeBytes { _ = try Moments(serialized: $0) } }
        let cases: [(Int, UInt64, String)] = [
            (8, 3, "version"), (16, 0, "cannot be"), (16, 60, "bytes for"), (24, 1 << 40, "cannot be"),
            (32, 1 << 53, "cannot be"), (40, Double.nan.bitPattern, "holds nan"),
            (56, (-1.0).bitPattern, "negative"), (72, Double.infinity.bitPattern, "holds inf"),
        ]
        for (offset, value, text) in cases {
            let changed = sealed(offset, value)
            let error = sutureError { _ = try changed.withUnsafeBytes { try Moments(serialized: $0) } }
            guard case .format(let message) = error else {
                Issue.record("accepted \(value) at \(offset)")
                continue
            }
            #expect(message.contains(text))
        }
    }

    @Test func `too little room is refused`() throws {
        let moments = try Moments(dA: 1, dB: 1)
        var bytes = [UInt8](repeating: 7, count: moments.serializedSize - 1)
        let error = sutureError { try bytes.withUnsafeMutableBytes { try moments.serialize(into: $0) } }
        #expect(error?.message.contains("capacity") == true)
        #expect(bytes.allSatisfy { $0 == 7 })
    }

    @Test func `the checksum is XXH64`() {
        // Values of the reference implementation (xxhsum 0.8).
        for (text, expected) in [
            ("", 0xef46_db37_51d8_e999 as UInt64), ("a", 0xd24e_c4f1_a98c_6e5b), ("abc", 0x44bc_2cf5_ad77_0999),
            ("Nobody inspects the spammish repetition", 0xfbce_a83c_8a37_8bf1),
        ] {
            #expect(Array(text.utf8).withUnsafeBytes { xxHash64($0) } == expected)
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import Testing

@testable import Suture

@Suite struct AlignmentTests {
    @Test func lastTokensAtSharedEnds() throws {
        let pairs = try RowPairs(endsA: [2, 5, 9], endsB: [2, 3, 5, 5, 9, 11])
        #expect(pairs.a == [0, 1, 2])
        #expect(pairs.b == [0, 3, 4])
    }

    @Test func randomSegmentations() throws {
        var state: UInt64 = 7
        func random(_ limit: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % limit
        }
        for _ in 0..<500 {
            let length = 1 + random(40)
            let (a, b) = (
                (0...random(30)).map { _ in Int64(random(length + 1)) }.sorted(),
                (0...random(30)).map { _ in Int64(random(length + 1)) }.sorted()
            )
            let pairs = try RowPairs(endsA: a, endsB: b)
            let shared = Set(a).intersection(b).sorted()
            #expect(pairs.a == shared.map { Int64(a.lastIndex(of: $0) ?? -1) })
            #expect(pairs.b == shared.map { Int64(b.lastIndex(of: $0) ?? -1) })
        }
    }

    @Test func emptyAndDisjointListsHaveNoPairs() throws {
        #expect(try RowPairs(endsA: [], endsB: [1, 2]).count == 0)
        #expect(try RowPairs(endsA: [1, 3], endsB: [2, 4]).count == 0)
    }

    @Test func listsThatDecreaseAreRefused() {
        let error = #expect(throws: SutureError.self) { try RowPairs(endsA: [1, 2], endsB: [4, 4, 3]) }
        #expect(error?.message.contains("ends_b[2] is 3 after 4") == true)
        #expect(throws: SutureError.self) { try RowPairs(a: [1, 2], b: [1]) }
    }

    @Test func endsThatAreNotKnownAreRefused() {
        let error = #expect(throws: SutureError.self) { try RowPairs(endsA: [1, 2], endsB: [-1, 2]) }
        #expect(error?.message.contains("ends_b[0] is -1") == true)
    }

    @Test func pairsAreTheRowsTheyName() throws {
        let (rowsA, rowsB) = (300, 200)
        let a = try FloatMatrix(rows: rowsA, cols: 3) { target in
            for i in 0..<rowsA * 3 { target[i] = Float((i * 7919) % 101) / 17 }
        }
        let b = try FloatMatrix(rows: rowsB, cols: 600) { target in
            for i in 0..<rowsB * 600 { target[i] = Float((i * 104_729) % 997) / 31 }
        }
        let picksA = (0..<2500).map { Int64(($0 * 37) % rowsA) }
        let picksB = (0..<2500).map { Int64(($0 * 91) % rowsB) }
        func copied(_ source: FloatMatrix, _ picks: [Int64]) throws -> FloatMatrix {
            try FloatMatrix(rows: picks.count, cols: source.cols) { target in
                for (i, row) in picks.enumerated() {
                    (target + i * source.cols).update(from: source.pointer + Int(row) * source.cols, count: source.cols)
                }
            }
        }
        var (found, expected) = (try Moments(dA: 3, dB: 600), try Moments(dA: 3, dB: 600))
        try found.update(a: a.view, b: b.view, pairs: try RowPairs(a: picksA, b: picksB))
        let (copyA, copyB) = (try copied(a, picksA), try copied(b, picksB))
        try expected.update(a: copyA.view, b: copyB.view)
        #expect(try found.covariance(.ab).elements == expected.covariance(.ab).elements)
        #expect(try found.covariance(.bb).elements == expected.covariance(.bb).elements)
        #expect(found.tokens == 2500)

        let error = #expect(throws: SutureError.self) {
            try found.update(a: a.view, b: b.view, pairs: try RowPairs(a: [0, 300], b: [0, 1]))
        }
        #expect(error?.message.contains("rows_a[1] is 300, expected 0 to 299") == true)
        #expect(found.tokens == 2500)
    }
}

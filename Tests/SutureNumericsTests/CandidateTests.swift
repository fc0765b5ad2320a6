// SPDX-License-Identifier: Apache-2.0
import CSutureKernels
import SutureNumerics
import SutureTestSupport
import Testing

/// Lists of candidates and the scores that fill them, on every path this CPU has.
@Suite(.serialized) struct CandidateTests {
    private static let paths = [SK_PORTABLE, SK_AVX2, SK_AVX512, SK_AVX512_BF16, SK_AMX]

    private static func gaussian(_ count: Int, seed: UInt64) -> [Float] {
        var random = RandomSource(seed: seed &+ testSeedOffset)
        return (0..<count).map { _ in Float(random.normal()) }
    }

    /// Lists for `rows` tokens with memory of their own.
    private final class Lists {
        let capacity: Int
        private let bars: UnsafeMutablePointer<Float>
        private let counts: UnsafeMutablePointer<Int32>
        private let indices: UnsafeMutablePointer<Int32>
        private let values: UnsafeMutablePointer<Float>
        var lists: sk_lists

        init(rows: Int, capacity: Int, keep: Int) {
            self.capacity = capacity
            bars = .allocate(capacity: rows)
            counts = .allocate(capacity: rows)
            indices = .allocate(capacity: rows * capacity)
            values = .allocate(capacity: rows * capacity)
            bars.update(repeating: -.infinity, count: rows)
            counts.update(repeating: 0, count: rows)
            lists = sk_lists(
                capacity: capacity, keep: keep, bars: bars, counts: counts, indices: indices, values: values)
        }

        deinit {
            bars.deallocate()
            counts.deallocate()
            indices.deallocate()
            values.deallocate()
        }

        func bar(_ row: Int) -> Float { bars[row] }

        func entries(_ row: Int) -> [(Int, Float)] {
            (0..<Int(counts[row])).map { (Int(indices[row * capacity + $0]), values[row * capacity + $0]) }
        }
    }

    /// The k largest, by sorting: ties by the lower index.
    private static func largest(_ scores: [Float], _ k: Int) -> [Int] {
        Array(scores.indices.sorted { scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1 }.prefix(k))
    }

    @Test(arguments: [1, 3, 40])
    func `a list has the largest scores, and its bar is above what it dropped`(keep: Int) throws {
        // Continuous, with many ties, all the same, and zeros of both signs.
        let width = 1000
        let continuous = Self.gaussian(width, seed: 1)
        let samples: [[Float]] = [
            continuous, continuous.map { ($0 * 2).rounded() }, [Float](repeating: -3, count: width),
            (0..<width).map { $0 % 3 == 0 ? -0.0 : 0 },
        ]
        for path in Self.paths {
            try withKernels(path) {
                for scores in samples {
                    let lists = Lists(rows: 1, capacity: keep + keep / 4 + 1 + Int(SK_OFFER), keep: keep)
                    // In pieces that are no multiples of a vector.
                    for first in stride(from: 0, to: width, by: 77) {
                        let piece = Array(scores[first..<min(first + 77, width)])
                        sk_offer(piece, piece.count, 1, piece.count, first, &lists.lists, 0)
                    }
                    let entries = lists.entries(0)
                    let listed = entries.map(\.0)
                    #expect(listed == listed.sorted())
                    #expect(entries.allSatisfy { scores[$0.0] == $0.1 })
                    #expect(Set(Self.largest(scores, keep)).isSubset(of: listed))
                    let dropped = Set(0..<width).subtracting(listed)
                    #expect(dropped.allSatisfy { scores[$0] <= lists.bar(0) })
                }
            }
        }
    }

    @Test func `a list that keeps all has all above its bar`() throws {
        let scores = Self.gaussian(333, seed: 2)
        for path in Self.paths {
            try withKernels(path) {
                let lists = Lists(rows: 1, capacity: 400, keep: 0)
                sk_offer(scores, 333, 1, 333, 5, &lists.lists, 0)
                #expect(lists.entries(0).map(\.0) == Array(5..<338))
            }
        }
    }

    @Test func `NaN never enters a list`() throws {
        var scores = Self.gaussian(100, seed: 3)
        scores[40] = .nan
        for path in Self.paths {
            try withKernels(path) {
                let lists = Lists(rows: 1, capacity: 200, keep: 8)
                sk_offer(scores, 100, 1, 100, 0, &lists.lists, 0)
                #expect(lists.entries(0).count == 99)
            }
        }
    }

    @Test func `a bar is between so many values, and ties are told apart from the rest`() {
        let continuous = Self.gaussian(500, seed: 4)
        for (least, most) in [(1, 1), (10, 12), (100, 200), (499, 500), (500, 500)] {
            let bar = sk_bar_between(continuous, 500, least, most)
            #expect((least...most).contains(continuous.filter { $0 > bar }.count))
        }
        // No bar lies between two zeros.
        #expect(sk_bar_between([0, -0.0, 0, -0.0], 4, 1, 1) < 0)
        #expect(sk_bar_between([-0.0, -1], 2, 1, 1) < 0)
        let tied: [Float] = [1, 2, 2, 2, 3]
        let bar = sk_bar_between(tied, 5, 2, 3)
        #expect(bar < 2 && bar >= 1 && bar == Float(2).nextDown)
        var (indices, values) = ([Int32](repeating: -1, count: 6), [Float](repeating: 0, count: 6))
        #expect(sk_copy_between([7, 8, 9, 10, 11], tied, 5, 1, 2, &indices, &values) == 3)
        #expect(Array(indices.prefix(3)) == [8, 9, 10])
    }

    @Test func `ranking a list agrees with sorting, ties by the lower latent`() throws {
        let scores = Self.gaussian(200, seed: 5).map { ($0 * 4).rounded() / 4 }
        var random = RandomSource(seed: 6)
        let order = random.permutation(200)
        for path in Self.paths {
            try withKernels(path) {
                for k in [1, 2, 31, 200] {
                    var indices = order.map { Int32($0) }
                    var values = order.map { scores[$0] }
                    sk_rank(&indices, &values, 200, k)
                    #expect(indices.prefix(k).map { Int($0) } == Self.largest(scores, k))
                    #expect(values.prefix(k).elementsEqual(Self.largest(scores, k).map { scores[$0] }))
                }
            }
        }
    }

    @Test(arguments: [(1, 1), (7, 40), (96, 100), (130, 515)])
    func `scores from bfloat16 are the products of rounded values`(width: Int, latents: Int) throws {
        let rows = 37
        let packedWidth = sk_bf16_width(width)
        let tokens = Self.gaussian(rows * width, seed: 7)
        let encoder = Self.gaussian(latents * width, seed: 8)
        let biases = Self.gaussian(latents, seed: 9)
        let scales = Self.gaussian(latents, seed: 10).map { abs($0) + 0.5 }
        func rounded(_ x: [Float]) -> [Double] {
            var (halves, back) = ([UInt16](repeating: 0, count: x.count), [Float](repeating: 0, count: x.count))
            sk_f32_to_bf16(x, &halves, x.count)
            sk_bf16_to_f32(halves, &back, x.count)
            return back.map { Double($0) }
        }
        let roundedTokens = rounded(tokens)
        let roundedEncoder = rounded(encoder.indices.map { encoder[$0] * scales[$0 / width] })
        let panelCount = (latents + Int(SK_PANEL) - 1) / Int(SK_PANEL)
        for path in Self.paths {
            try withKernels(path) {
                let room = (rows + Int(SK_TOKEN_GROUP) - 1) / Int(SK_TOKEN_GROUP) * Int(SK_TOKEN_GROUP)
                var packed = [UInt16](repeating: 0, count: room * packedWidth)
                try packed.withUnsafeMutableBufferPointer { target in
                    let target = try #require(target.baseAddress)
                    for row in 0..<rows {
                        let token = Array(tokens[row * width..<(row + 1) * width])
                        sk_pack_token(token, width, target + row * packedWidth)
                    }
                }
                var panels = [UInt16](repeating: 0xffff, count: panelCount * Int(SK_PANEL) * packedWidth)
                var bias = [Float](repeating: -.infinity, count: panelCount * Int(SK_PANEL))
                for latent in 0..<latents { bias[latent] = biases[latent] }
                try encoder.withUnsafeBufferPointer { encoder in
                    let encoder = try #require(encoder.baseAddress)
                    try panels.withUnsafeMutableBufferPointer { target in
                        let target = try #require(target.baseAddress)
                        for panel in 0..<panelCount {
                            let first = panel * Int(SK_PANEL)
                            sk_pack_panel(
                                encoder + first * width, width, Array(scales[first...]),
                                min(Int(SK_PANEL), latents - first), width,
                                target + first * packedWidth)
                        }
                    }
                }
                let lists = Lists(rows: rows, capacity: latents + Int(SK_OFFER), keep: 0)
                sk_candidates(packed, rows, panels, panelCount, width, bias, 0, &lists.lists)
                var worst = 0.0
                for row in 0..<rows {
                    let entries = lists.entries(row)
                    #expect(entries.map(\.0) == Array(0..<latents))
                    for (latent, score) in entries {
                        var (sum, size) = (Double(biases[latent]), abs(Double(biases[latent])))
                        for i in 0..<width {
                            let product = roundedTokens[row * width + i] * roundedEncoder[latent * width + i]
                            sum += product
                            size += abs(product)
                        }
                        worst = max(worst, abs(Double(score) - sum) / size)
                    }
                }
                // Float32 sums of at most `width` exact products.
                #expect(worst < 1e-7 * Double(width + 8))
            }
        }
    }

    @Test(arguments: [1, 16, 31, 128, 200, 517])
    func `gathered sums and dots have the bits of single ones on every path`(width: Int) throws {
        let (rows, count) = (50, 23)
        let matrix = Self.gaussian(rows * width, seed: 11)
        let x = Self.gaussian(width, seed: 12)
        let weights = Self.gaussian(count, seed: 13)
        var random = RandomSource(seed: 14)
        let indices = (0..<count).map { _ in Int32(random.below(rows)) }
        var (dots, sum) = ([Float](), x)
        try withKernels(SK_PORTABLE) {
            try matrix.withUnsafeBufferPointer { matrix in
                let matrix = try #require(matrix.baseAddress)
                for (index, weight) in zip(indices, weights) {
                    let row = matrix + Int(index) * width
                    dots.append(sk_dot(x, row, width))
                    sk_axpy(weight, row, &sum, width)
                }
            }
        }
        // Against float64 as well.
        for (n, index) in indices.enumerated() {
            let exact = (0..<width).reduce(0.0) { $0 + Double(x[$1]) * Double(matrix[Int(index) * width + $1]) }
            #expect(abs(Double(dots[n]) - exact) < 1e-5 * Double(width).squareRoot())
        }
        for path in Self.paths {
            try withKernels(path) {
                var gatheredDots = [Float](repeating: 0, count: count)
                sk_gather_dots(matrix, width, indices, count, x, width, &gatheredDots)
                #expect(gatheredDots == dots)
                var gatheredSum = x
                sk_gather_sum(matrix, width, indices, weights, count, &gatheredSum, width)
                #expect(gatheredSum == sum)
                var sums = [Double](repeating: 1, count: width)
                let squares = sk_add_squares(x, &sums, width)
                #expect(sums == x.map { 1 + Double($0) })
                let expected = x.reduce(0.0) { $0 + Double($1) * Double($1) }
                #expect(abs(squares - expected) <= 1e-13 * expected)
            }
        }
    }
}

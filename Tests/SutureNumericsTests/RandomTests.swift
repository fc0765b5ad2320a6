// SPDX-License-Identifier: Apache-2.0
import SutureNumerics
import SutureTestSupport
import Testing

@Suite struct RandomTests {
    @Test func `the numbers are those of xoshiro256++ seeded by SplitMix64`() {
        // rand_xoshiro's test vector of Xoshiro256PlusPlus::seed_from_u64(0).
        let expected: [UInt64] = [
            5_987_356_902_031_041_503, 7_051_070_477_665_621_255, 6_633_766_593_972_829_180, 211_316_841_551_650_330,
            9_136_120_204_379_184_874, 379_361_710_973_160_858, 15_813_423_377_499_357_806, 15_596_884_590_815_070_553,
            5_439_680_534_584_881_407, 1_369_371_744_833_522_710,
        ]
        var random = RandomSource(seed: 0)
        #expect(expected.map { _ in random.next() } == expected)
    }

    @Test func `uniform and normal numbers have their moments`() {
        var random = RandomSource(seed: 91 &+ testSeedOffset)
        let n = 200_000
        let uniform = (0..<n).map { _ in random.uniform() }
        let normal = (0..<n).map { _ in random.normal() }
        #expect(uniform.allSatisfy { $0 >= 0 && $0 < 1 } && normal.allSatisfy(\.isFinite))
        func mean(_ values: [Double], _ power: Int) -> Double {
            values.reduce(0) { sum, x in sum + (0..<power).reduce(1) { product, _ in product * x } } / Double(n)
        }
        // Five standard errors each.
        #expect(abs(mean(uniform, 1) - 0.5) < 5 * 0.289 / 447)
        #expect(abs(mean(uniform, 2) - 1.0 / 3) < 5 * 0.298 / 447)
        #expect(abs(mean(normal, 1)) < 5 / 447.0)
        #expect(abs(mean(normal, 2) - 1) < 5 * 1.414 / 447)
        #expect(abs(mean(normal, 3)) < 5 * 3.873 / 447)
        #expect(abs(mean(normal, 4) - 3) < 5 * 9.798 / 447)
    }

    @Test func `numbers below a bound are even, permutations complete`() {
        var random = RandomSource(seed: 92 &+ testSeedOffset)
        var counts = [Int](repeating: 0, count: 7)
        for _ in 0..<70_000 { counts[random.below(7)] += 1 }
        #expect(counts.allSatisfy { abs($0 - 10_000) < 5 * 93 })
        #expect(random.below(1) == 0)
        var first = [Int](repeating: 0, count: 5)
        for _ in 0..<20_000 {
            let order = random.permutation(5)
            #expect(order.sorted() == [0, 1, 2, 3, 4])
            first[order[0]] += 1
        }
        #expect(first.allSatisfy { abs($0 - 4000) < 5 * 57 })
        #expect(random.permutation(0).isEmpty && random.permutation(1) == [0])
    }
}

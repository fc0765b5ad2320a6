// SPDX-License-Identifier: Apache-2.0
import SutureTestSupport
import Testing

@testable import Suture

/// Rows of A, and of B that are them turned, with noise.
private func pairs(_ rows: Int, dA: Int = 8, dB: Int = 11, noise: Float = 0.3) throws -> (
    a: FloatMatrix, b: FloatMatrix
) {
    let (a, turn, more) = (
        try randomTokens(rows, dA, seed: 1), try randomTokens(dA, dB, seed: 2), try randomTokens(rows, dB, seed: 3)
    )
    let b = try FloatMatrix(rows: rows, cols: dB) { target in
        for row in 0..<rows {
            for j in 0..<dB {
                var sum = noise * more[row, j] + 5
                for i in 0..<dA { sum += a[row, i] * turn[i, j] }
                target[row * dB + j] = sum
            }
        }
    }
    return (a, b)
}

@Suite struct CarryTests {
    @Test(arguments: [1, 2, 5, 999, 1000]) func `the boundary is that of sorted values`(count: Int) throws {
        // Long enough for the values well below it to be left out, and ties.
        for size in [1000, 20_000] {
            var source = seeded(UInt64(count))
            var values = (0..<size).map { _ in Float((source.normal() * 50).rounded()) }
            if count == 5 { values.sort() }
            let sorted = values.sorted(by: >)
            let found = try LargestBoundary(size: size).find(count, of: values, size: size)
            if count == size {
                #expect(found < sorted[size - 1])
            } else {
                #expect(found == sorted[count - 1] + (sorted[count] - sorted[count - 1]) / 2)
            }
        }
    }

    @Test func `the largest scores are those of a sort`() throws {
        let largest = try LargestScores(tokens: 7, k: 3)
        largest.clear(0..<7)
        var source = seeded(4)
        var shown = [[Float]](repeating: [], count: 7)
        for _ in 0..<40 {
            let scores = (0..<7).map { _ in Float(source.normal()) }
            for (token, score) in scores.enumerated() { shown[token].append(score + 1) }
            largest.show(scores, bias: 1, 0..<7)
        }
        for token in 0..<7 {
            let best = shown[token].sorted(by: >).prefix(3)
            #expect(largest.bar(token) == best[2])
            #expect(abs(largest.sum(token, default: 0) - best.reduce(0) { $0 + Double($1) }) < 1e-6)
        }
    }

    @Test func `a sample does not depend on how rows come`() throws {
        let sae = try SAE.random(dIn: 8, dSAE: 32, architecture: .topK(k: 3), seed: 1)
        let (a, b) = try pairs(500)
        let codes = try sae.encode(a.view)
        let (forward, backward) = (try PairSample(capacity: 60, dB: 11), try PairSample(capacity: 60, dB: 11))
        for row in 0..<500 { forward.offer(row, b.view, row, codes, row) }
        for row in (0..<500).reversed() { backward.offer(row, b.view, row, codes, row) }
        let (one, other) = (try forward.gathered(dSAE: 32), try backward.gathered(dSAE: 32))
        #expect(one.rows.rows == 60 && one.rows.matrix.elements == other.rows.matrix.elements)
        #expect(one.codes[0].dense.elements == other.codes[0].dense.elements)
        #expect(try forward.gathered(dSAE: 32, most: 20).rows.rows == 20)
    }

    @Test func `latents are carried both ways and into their own model`() throws {
        let sae = try SAE.random(dIn: 8, dSAE: 32, architecture: .topK(k: 3), seed: 1)
        let (a, b) = try pairs(6000)
        for (target, least) in [(b, 0.75), (a, 0.85)] {
            var carry = try Carry(sae, dB: target.cols)
            try carry.update(a: a.view, b: target.view)
            #expect(carry.rows == 6000)
            let (made, report) = try carry.finish()
            #expect(made.dIn == target.cols && made.dSAE == 32)
            #expect(report.rows + report.heldOutRows == 6000)
            #expect(try report.fidelity.summary().correlation.median > least)
        }
    }

    @Test func `a refused or cancelled update changes nothing`() throws {
        let sae = try SAE.random(dIn: 8, dSAE: 32, architecture: .topK(k: 3), seed: 1)
        let (a, b) = try pairs(600)
        var carry = try Carry(sae, dB: 11)
        try carry.update(a: a.view, b: b.view)
        let before = try carry.finish().sae
        let bad = try FloatMatrix(rows: 600, cols: 11) { target in
            target.update(from: b.pointer, count: b.count)
            target[599 * 11 + 4] = .nan
        }
        #expect(throws: SutureError.self) { try carry.update(a: a.view, b: bad.view) }
        #expect(throws: SutureError.cancelled) {
            try carry.update(a: a.view, b: b.view, progress: Progress { _, _ in false })
        }
        #expect(throws: SutureError.cancelled) { try carry.finish(progress: Progress { _, _ in false }) }
        #expect(carry.rows == 600)
        #expect(try carry.finish().sae.encoder.matrix.elements == before.encoder.matrix.elements)
    }
}

@Suite struct CandidateScoresTests {
    @Test func `what is near the bars is kept, by latent and by token`() throws {
        var source = seeded(9)
        let (latents, tokens) = (30, 700)
        let scores = (0..<latents).map { _ in (0..<tokens).map { _ in Float(source.normal()) } }
        let bars = (0..<tokens).map { _ in Float(source.normal()) }
        let wanted = (0..<latents).map { $0 % 3 == 0 ? 0 : 2 * $0 }
        let kept = try CandidateScores(wanted: wanted, tokens: tokens)
        let boundary = try LargestBoundary(size: tokens)
        var expected = Set<[Int]>()
        for latent in 0..<latents where wanted[latent] > 0 {
            let values = zip(scores[latent], bars).map { $0 - $1 }
            let room = kept.room(latent)
            #expect(room == min(tokens, 4 * wanted[latent] + 64))
            kept.keep(
                latent, scores[latent], where: values, above: boundary.find(room, of: values, size: tokens),
                size: tokens)
            for (token, _) in values.enumerated().sorted(by: { $0.element > $1.element }).prefix(room) {
                expected.insert([latent, token])
            }
            // Less other bars than those that it was chosen by.
            var target = [Float](repeating: 0, count: tokens)
            let count = kept.values(latent, less: [Float](repeating: 1, count: tokens), into: &target)
            #expect(count == room)
            let best = values.indices.sorted { values[$0] > values[$1] }.prefix(room).sorted()
            #expect(Array(target[..<count]) == best.map { scores[latent][$0] - 1 })
        }
        kept.arrange()
        var found = Set<[Int]>()
        for token in 0..<tokens {
            var last = -1
            for entry in kept.entries(token) {
                #expect(Int(entry.latent) > last && entry.score == scores[Int(entry.latent)][token])
                last = Int(entry.latent)
                found.insert([last, token])
            }
        }
        #expect(found == expected)
    }
}

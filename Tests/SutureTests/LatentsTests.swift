// SPDX-License-Identifier: Apache-2.0
import SutureTestSupport
import Testing

@testable import Suture

@Suite struct LatentsTests {
    private func carried() throws -> SAE {
        let (a, turn) = (try randomTokens(3000, 6, seed: 1), try randomTokens(6, 9, seed: 2))
        let b = try FloatMatrix(rows: 3000, cols: 9) { target in
            for row in 0..<3000 {
                for j in 0..<9 { target[row * 9 + j] = (0..<6).reduce(0) { $0 + a[row, $1] * turn[$1, j] } }
            }
        }
        var carry = try Carry(try SAE.random(dIn: 6, dSAE: 24, architecture: .topK(k: 3), seed: 1), dB: 9)
        try carry.update(a: a.view, b: b.view)
        return try carry.finish().sae
    }

    @Test func `evidence goes through files and selections`() throws {
        let sae = try carried()
        let known = try #require(sae.evidence)
        #expect(known.latents.map(\.source) == Array(0..<24))
        let temporary = try TemporaryFolder()
        let folder = temporary.path + "/sae"
        try sae.save(to: folder)
        let loaded = try #require(try SAE(folder: folder).evidence)
        #expect(loaded.rows == known.rows && loaded.heldOutRows == known.heldOutRows)
        #expect(loaded.latents.map(\.correlation) == known.latents.map(\.correlation))
        #expect(loaded.latents.map(\.firings) == known.latents.map(\.firings))
        let part = try sae.selecting([5, 2], firingAsOn: [try randomTokens(500, 9, seed: 3).view])
        #expect(try #require(part.evidence).latents.map(\.source) == [5, 2])
        #expect(try sae.folded().evidence?.latents.count == 24)
    }

    @Test func `evidence of another width is refused`() throws {
        var sae = try SAE.random(dIn: 6, dSAE: 8, architecture: .topK(k: 3), seed: 1)
        let other = try carried().evidence
        #expect(throws: SutureError.self) { try sae.setEvidence(other) }
        #expect(sae.evidence == nil)
    }

    @Test func `a selection can be cancelled, and in many blocks is the same`() throws {
        let sae = try SAE.random(dIn: 6, dSAE: 40, architecture: .topK(k: 5), seed: 1)
        let rows = try randomTokens(4000, 6, seed: 2)
        #expect(throws: SutureError.cancelled) {
            try sae.selecting([1, 2], firingAsOn: [rows.view], progress: Progress { _, _ in false })
        }
        let all = Array(0..<39)
        guard case .jumpReLU(let whole) = try sae.selecting(all, firingAsOn: [rows.view]).architecture,
            case .jumpReLU(let blocks) = try sae.selecting(all, firingAsOn: [rows.view], entries: 16_000).architecture
        else { throw SutureError.internal("topk did not become jumprelu") }
        #expect(whole.matrix.elements == blocks.matrix.elements)
    }
}

// SPDX-License-Identifier: Apache-2.0
import Suture
import Testing

@Suite struct StitchFileTests {
    private func stitch() throws -> Stitch {
        var result = try Stitch.fit(PairedRows(rows: 100, dA: 3, dB: 5, seed: 70).moments()).stitch
        result.metadata["model_a"] = .string("small")
        result.metadata["model_b"] = .string("12")
        result.metadata["layer_a"] = .integer(2)
        result.metadata["note"] = .string("true \"quoted\" \u{e9}\n")
        result.metadata["odd"] = .array([.null, .bool(false), .string("x"), .number(0.1)])
        result.metadata["word"] = .string("null")
        return result
    }

    private func isFormatError(_ path: String, _ part: String = "") -> Bool {
        guard case .format(let text) = sutureError({ _ = try Stitch(contentsOf: path) }) else { return false }
        return (part.isEmpty || text.contains(part)) && text.contains(path)
    }

    @Test func `a stitch comes back from its file, metadata and all`() throws {
        let temporary = try TemporaryFolder()
        let folder = temporary.path
        let before = try stitch()
        try before.save(to: folder + "/s.safetensors")
        let after = try Stitch(contentsOf: folder + "/s.safetensors")
        #expect(after.upMatrix.matrix == before.upMatrix.matrix && after.upBias.matrix == before.upBias.matrix)
        #expect(
            after.downMatrix.matrix == before.downMatrix.matrix && after.downBias.matrix == before.downBias.matrix)
        #expect(Set(after.metadata.members.map(\.key)) == Set(before.metadata.members.map(\.key)))
        for (key, value) in before.metadata.members { #expect(after.metadata[key] == value, "\(key)") }
        #expect(listFolder(folder) == ["s.safetensors"])
    }

    @Test func `others' files need the four tensors only`() throws {
        let temporary = try TemporaryFolder()
        let folder = temporary.path
        let s = try stitch()
        let path = folder + "/t.safetensors"
        let tensors = [
            NamedTensor("P_up", s.upMatrix), NamedTensor("b_up", s.upBias), NamedTensor("P_down", s.downMatrix),
            NamedTensor("b_down", s.downBias), NamedTensor("else", s.upBias),
        ]
        try Safetensors.write(tensors, to: path)
        #expect(try Stitch(contentsOf: path).upMatrix.matrix == s.upMatrix.matrix)
        for i in 0..<4 {
            var fewer = tensors
            fewer.remove(at: i)
            try Safetensors.write(fewer, to: path)
            #expect(isFormatError(path, tensors[i].name))
        }
        try Safetensors.write([tensors[0], NamedTensor("b_up", s.downBias), tensors[2], tensors[3]], to: path)
        #expect(isFormatError(path, "b_up"))
        try Safetensors.write(tensors, metadata: [("suture_format", "stitch/2")], to: path)
        #expect(isFormatError(path, "stitch/2"))
    }

    @Test func `every cut is found`() throws {
        let temporary = try TemporaryFolder()
        let folder = temporary.path
        let path = folder + "/s.safetensors"
        try stitch().save(to: path)
        let bytes = readBytes(path)
        for count in stride(from: 0, to: bytes.count, by: 3) {
            writeBytes(Array(bytes[..<count]), to: path)
            #expect(isFormatError(path), "cut at \(count)")
        }
    }

    @Test func `paths that cannot be are input and output errors`() throws {
        let temporary = try TemporaryFolder()
        let folder = temporary.path
        let s = try stitch()
        for path in [folder + "/none/s.safetensors", folder] {
            guard case .io = sutureError({ try s.save(to: path) }) else {
                Issue.record("saved to \(path)")
                continue
            }
        }
        guard case .io = sutureError({ _ = try Stitch(contentsOf: folder + "/none") }) else {
            Issue.record("read a file that is not there")
            return
        }
    }
}

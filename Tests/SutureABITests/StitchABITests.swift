// SPDX-License-Identifier: Apache-2.0
import CSuture
import Testing

/// Moments and stitches, out of the library and back in again.
@Suite struct StitchABITests {
    static let (dA, dB, rows) = (5, 7, 400)
    let rowsA: [Float]
    let rowsB: [Float]

    init() {
        var noise = Noise(seed: 21)
        rowsA = noise.rows(Self.rows * Self.dA)
        rowsB = noise.rows(Self.rows * Self.dB)
    }

    private func moments() throws -> UnsafeMutablePointer<suture_moments> {
        let moments = try made { suture_moments_create(Int64(Self.dA), Int64(Self.dB), $0) }
        try withMatrix(rowsA, cols: Self.dA) { a in
            try withMatrix(rowsB, cols: Self.dB) { b in try check(suture_moments_update(moments, a, b, nil)) }
        }
        return moments
    }

    private func stitch(alpha: Double = 1) throws -> UnsafeMutablePointer<suture_stitch> {
        let moments = try moments()
        defer { suture_moments_destroy(moments) }
        var config = suture_stitch_config()
        config.struct_size = UInt64(MemoryLayout<suture_stitch_config>.size)
        config.alpha = alpha
        return try made { suture_stitch_fit(moments, &config, nil, $0, nil) }
    }

    private func bytes(_ moments: UnsafePointer<suture_moments>) throws -> [UInt8] {
        var size: UInt64 = 0
        try check(suture_moments_serialize(moments, nil, 0, &size))
        var bytes = [UInt8](repeating: 0, count: Int(size))
        try check(suture_moments_serialize(moments, &bytes, size, &size))
        return bytes
    }

    @Test func momentsComeBackFromBytesUnchanged() throws {
        let moments = try moments()
        defer { suture_moments_destroy(moments) }
        let bytes = try bytes(moments)
        let copy: UnsafeMutablePointer<suture_moments> = try made {
            suture_moments_deserialize(bytes, UInt64(bytes.count), $0)
        }
        defer { suture_moments_destroy(copy) }
        #expect(try self.bytes(copy) == bytes)
        // Both go on alike.
        for each in [moments, copy] {
            try withMatrix(rowsA, cols: Self.dA) { a in
                try withMatrix(rowsB, cols: Self.dB) { b in try check(suture_moments_update(each, a, b, nil)) }
            }
        }
        #expect(try self.bytes(copy) == self.bytes(moments))
        #expect(try self.bytes(copy) != bytes)
    }

    @Test func stitchComesBackFromItsFileUnchanged() throws {
        let stitch = try stitch()
        defer { suture_stitch_destroy(stitch) }
        let metadata =
            #"{"model_a":"klein","layer_a":2,"model_b":"größer 大","layer_b":3,"nested":{"list":[1,2.5,null,true]}}"#
        try check(suture_stitch_set_metadata(stitch, metadata))
        try withTemporaryFolder { folder in
            let path = folder + "/stitch – one.safetensors"
            try check(suture_stitch_save(stitch, path))
            // A second save takes the place of the first.
            try check(suture_stitch_save(stitch, path))
            let loaded: UnsafeMutablePointer<suture_stitch> = try made { suture_stitch_load(path, $0) }
            defer { suture_stitch_destroy(loaded) }
            for which in [SUTURE_STITCH_P_UP, SUTURE_STITCH_B_UP, SUTURE_STITCH_P_DOWN, SUTURE_STITCH_B_DOWN] {
                var (before, after) = (suture_matrix(), suture_matrix())
                try check(suture_stitch_weight(stitch, which, &before))
                try check(suture_stitch_weight(loaded, which, &after))
                #expect(try elements(before) == elements(after))
            }
            let text = try text { suture_stitch_metadata(loaded, $0, $1, $2) }
            for part in [#""größer 大""#, #""layer_b":3"#, #"[1,2.5,null,true]"#] {
                #expect(text.replacing(" ", with: "").contains(part.replacing(" ", with: "")), "\(text)")
            }
        }
    }

    /// A stitch is a pair of affine maps: the image of a mean of rows is the mean of the images.
    @Test(arguments: [SUTURE_UP, SUTURE_DOWN]) func applyIsAffine(direction: suture_direction) throws {
        let stitch = try stitch()
        defer { suture_stitch_destroy(stitch) }
        let (rows, cols, width) =
            direction == SUTURE_UP ? (rowsA, Self.dA, Self.dB) : (rowsB, Self.dB, Self.dA)
        let middle = (0..<cols).map { (rows[$0] + rows[cols + $0]) / 2 }
        let mapped = try withMatrix(Array(rows[..<(2 * cols)]) + middle, cols: cols) { h in
            try filled(rows: 3, cols: width) { suture_stitch_apply(stitch, direction, h, nil, $0) }
        }
        for j in 0..<width {
            #expect(abs(mapped[2 * width + j] - (mapped[j] + mapped[width + j]) / 2) < 1e-5)
        }
    }

    /// One row has no next one: whatever its stride is, it is never used.
    @Test func strideOfASingleRowDoesNotMatter() throws {
        let stitch = try stitch()
        defer { suture_stitch_destroy(stitch) }
        let expected = try withMatrix(Array(rowsA[..<Self.dA]), cols: Self.dA) { h in
            try filled(rows: 1, cols: Self.dB) { suture_stitch_apply(stitch, SUTURE_UP, h, nil, $0) }
        }
        for stride in [Int64(1) << 32, 1 << 50] {
            let mapped = try withMatrix(Array(rowsA[..<Self.dA]), cols: Self.dA) { h in
                try filled(rows: 1, cols: Self.dB) { out in
                    var (h, out) = (h.pointee, out.pointee)
                    (h.row_stride, out.row_stride) = (stride, stride)
                    return suture_stitch_apply(stitch, SUTURE_UP, &h, nil, &out)
                }
            }
            #expect(mapped == expected)
        }
    }

    @Test func applyRefusesStridesBeyondBLAS() throws {
        let stitch = try stitch()
        defer { suture_stitch_destroy(stitch) }
        withMatrix(Array(rowsA[..<(2 * Self.dA)]), cols: Self.dA) { h in
            var out = [Float](repeating: 42, count: 2 * Self.dB)
            out.withUnsafeMutableBufferPointer { buffer in
                var target = suture_matrix(
                    data: UnsafeMutableRawPointer(buffer.baseAddress), rows: 2, cols: Int64(Self.dB),
                    row_stride: 1 << 33, dtype: SUTURE_FLOAT32)
                #expect(suture_stitch_apply(stitch, SUTURE_UP, h, nil, &target) == SUTURE_ERROR_INVALID_ARGUMENT)
            }
            #expect(String(cString: suture_last_error()).contains("row_stride"))
            #expect(out.allSatisfy { $0 == 42 })
        }
    }

    @Test func squareStitchesApplyInPlace() throws {
        var noise = Noise(seed: 22)
        let weights = noise.rows(2 * 4 * 4 + 2 * 4)
        let stitch = try withMatrix(Array(weights[..<16]), cols: 4) { up in
            try withMatrix(Array(weights[16..<32]), cols: 4) { down in
                try withMatrix(Array(weights[32..<36]), cols: 4) { upBias in
                    try withMatrix(Array(weights[36...]), cols: 4) { downBias in
                        try made { suture_stitch_create(up, upBias, down, downBias, $0) }
                    }
                }
            }
        }
        defer { suture_stitch_destroy(stitch) }
        // More than one block of rows.
        var rows = noise.rows(1500 * 4)
        let expected = try withMatrix(rows, cols: 4) { h in
            try filled(rows: 1500, cols: 4) { suture_stitch_apply(stitch, SUTURE_UP, h, nil, $0) }
        }
        try rows.withUnsafeMutableBufferPointer { buffer in
            var matrix = suture_matrix(
                data: UnsafeMutableRawPointer(buffer.baseAddress), rows: 1500, cols: 4, row_stride: 0,
                dtype: SUTURE_FLOAT32)
            try check(suture_stitch_apply(stitch, SUTURE_UP, &matrix, nil, &matrix))
        }
        #expect(rows == expected)
    }

    /// A fit at alpha is at least as good, at that alpha, as fits at others.
    @Test func fitIsBestAtItsOwnAlpha() throws {
        let moments = try moments()
        defer { suture_moments_destroy(moments) }
        let alphas = [0, 0.3, 1, 4]
        let stitches = try alphas.map { try stitch(alpha: $0) }
        defer { stitches.forEach { suture_stitch_destroy($0) } }
        for (i, alpha) in alphas.enumerated() {
            let totals = try stitches.map { stitch in
                var objective = suture_objective()
                objective.struct_size = UInt64(MemoryLayout<suture_objective>.size)
                try check(suture_stitch_objective(stitch, moments, alpha, &objective))
                return objective.total
            }
            // The weights are float32.
            #expect(totals.allSatisfy { totals[i] <= $0 * (1 + 1e-6) }, "alpha \(alpha): \(totals)")
        }
    }

    /// A structure of an older header is as long as its struct_size says: what lies beyond is neither read nor written.
    @Test func shorterReportIsFilledAsFarAsItGoes() throws {
        let moments = try moments()
        defer { suture_moments_destroy(moments) }
        var report = suture_svcca_report(struct_size: 16, mean_correlation: -1, kept_a: -1, kept_b: -1)
        try check(suture_svcca(moments, 0.99, &report))
        #expect(report.mean_correlation >= 0)
        #expect(report.struct_size == 16)
        #expect(report.kept_a == -1 && report.kept_b == -1)
    }
}

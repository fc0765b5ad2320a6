// SPDX-License-Identifier: Apache-2.0
import CSuture
import Testing

extension suture_architecture: @retroactive CustomTestStringConvertible {
    public var testDescription: String { "architecture \(rawValue)" }
}

/// SAEs of every architecture: made from weights, saved, loaded, encoded and decoded.
@Suite struct AutoencoderABITests {
    static let (dIn, dSAE, rows) = (6, 20, 50)
    static let architectures = [SUTURE_TOPK, SUTURE_BATCHTOPK, SUTURE_JUMPRELU, SUTURE_RELU, SUTURE_GATED]

    /// Keeps the arrays alive that the weights point to.
    private func sae(_ architecture: suture_architecture) throws -> UnsafeMutablePointer<suture_sae> {
        var noise = Noise(seed: 5)
        var config = suture_sae_config()
        config.struct_size = UInt64(MemoryLayout<suture_sae_config>.size)
        config.d_in = Int64(Self.dIn)
        config.d_sae = Int64(Self.dSAE)
        config.architecture = architecture
        config.k = 4
        config.apply_b_dec_to_input = 1
        config.normalization = SUTURE_NORMALIZATION_NONE
        var weights = suture_sae_weights()
        weights.struct_size = UInt64(MemoryLayout<suture_sae_weights>.size)
        let (large, wide, narrow) = (Self.dIn * Self.dSAE, Self.dSAE, Self.dIn)
        return try withMatrix(noise.rows(large), cols: Self.dSAE) { encoder in
            try withMatrix(noise.rows(large), cols: Self.dIn) { decoder in
                try withMatrix(noise.rows(narrow), cols: narrow) { decoderBias in
                    try withMatrix(noise.rows(wide), cols: wide) { one in
                        try withMatrix(noise.rows(wide), cols: wide) { two in
                            try withMatrix(noise.rows(wide).map(abs), cols: wide) { three in
                                weights.W_enc = encoder.pointee
                                weights.W_dec = decoder.pointee
                                weights.b_dec = decoderBias.pointee
                                if architecture == SUTURE_GATED {
                                    weights.b_gate = one.pointee
                                    weights.b_mag = two.pointee
                                    weights.r_mag = three.pointee
                                } else {
                                    weights.b_enc = one.pointee
                                }
                                if architecture == SUTURE_JUMPRELU { weights.threshold = three.pointee }
                                if architecture == SUTURE_BATCHTOPK {
                                    weights.threshold = three.pointee
                                    weights.threshold.cols = 1
                                }
                                return try made { suture_sae_create(&config, &weights, $0) }
                            }
                        }
                    }
                }
            }
        }
    }

    private func rows(seed: UInt64 = 9) -> [Float] {
        var noise = Noise(seed: seed)
        return noise.rows(Self.rows * Self.dIn)
    }

    private func reconstructed(_ sae: UnsafePointer<suture_sae>, _ x: [Float]) throws -> [Float] {
        try withMatrix(x, cols: Self.dIn) { x in
            try filled(rows: Self.rows, cols: Self.dIn) { suture_sae_reconstruct(sae, x, nil, $0) }
        }
    }

    @Test(arguments: architectures) func comesBackFromItsFolder(architecture: suture_architecture) throws {
        let sae = try sae(architecture)
        defer { suture_sae_destroy(sae) }
        try check(suture_sae_set_metadata(sae, #"{"model_name":"modèle","note":[1,2]}"#))
        try withTemporaryFolder { folder in
            try check(suture_sae_save(sae, folder + "/the sae"))
            let loaded: UnsafeMutablePointer<suture_sae> = try made { suture_sae_load(folder + "/the sae", $0) }
            defer { suture_sae_destroy(loaded) }
            var info = suture_sae_config()
            info.struct_size = UInt64(MemoryLayout<suture_sae_config>.size)
            try check(suture_sae_info(loaded, &info))
            #expect(info.d_in == Int64(Self.dIn) && info.d_sae == Int64(Self.dSAE))
            #expect(info.architecture == architecture)
            #expect(info.apply_b_dec_to_input == 1)
            #expect(try text { suture_sae_metadata(loaded, $0, $1, $2) }.contains("modèle"))
            let x = rows()
            #expect(try reconstructed(loaded, x) == reconstructed(sae, x))
        }
    }

    /// The codes' arrays, put together by hand with the decoder's rows, are what decode gives.
    @Test(arguments: architectures) func codesAreWhatIsDecoded(architecture: suture_architecture) throws {
        let sae = try sae(architecture)
        defer { suture_sae_destroy(sae) }
        let x = rows()
        let codes: UnsafeMutablePointer<suture_codes> = try withMatrix(x, cols: Self.dIn) { x in
            try made { suture_sae_encode(sae, x, nil, $0) }
        }
        defer { suture_codes_destroy(codes) }
        var view = suture_codes_view()
        view.struct_size = UInt64(MemoryLayout<suture_codes_view>.size)
        try check(suture_codes_view_get(codes, &view))
        #expect(view.rows == Int64(Self.rows) && view.d_sae == Int64(Self.dSAE))
        let width = Int(view.width)
        #expect(width >= 1 && width <= Self.dSAE)
        let (indices, values, counts) = try (
            #require(view.indices), #require(view.values), #require(view.counts)
        )
        var (W_dec, b_dec) = (suture_matrix(), suture_matrix())
        try check(suture_sae_weight(sae, SUTURE_SAE_W_DEC, &W_dec))
        try check(suture_sae_weight(sae, SUTURE_SAE_B_DEC, &b_dec))
        let (decoder, bias) = try (elements(W_dec), elements(b_dec))
        let decoded = try filled(rows: Self.rows, cols: Self.dIn) { suture_sae_decode(sae, codes, nil, $0) }
        var widest = 0
        for row in 0..<Self.rows {
            var sum = bias.map { Double($0) }
            let slots = (0..<width).map { (index: indices[row * width + $0], value: values[row * width + $0]) }
            let used = Int(counts[row])
            widest = max(widest, used)
            #expect(slots[..<used].allSatisfy { $0.index >= 0 && $0.value > 0 })
            #expect(slots[used...].allSatisfy { $0.index == -1 && $0.value == 0 })
            #expect(zip(slots[..<used], slots[..<used].dropFirst()).allSatisfy { $0.value >= $1.value })
            for slot in slots[..<used] {
                for i in 0..<Self.dIn {
                    sum[i] += Double(slot.value) * Double(decoder[Int(slot.index) * Self.dIn + i])
                }
            }
            for i in 0..<Self.dIn { #expect(abs(Double(decoded[row * Self.dIn + i]) - sum[i]) < 1e-4) }
        }
        #expect(widest > 0)
        #expect(widest <= width)
        let direct = try reconstructed(sae, x)
        #expect(zip(direct, decoded).allSatisfy { abs($0 - $1) < 1e-4 })
    }

    /// Training leaves the SAE it started from as it is, and continues where the last call stopped.
    @Test func trainingCopiesItsStart() throws {
        let start = try sae(SUTURE_TOPK)
        defer { suture_sae_destroy(start) }
        let x = rows()
        let before = try reconstructed(start, x)
        var config = suture_train_config()
        config.struct_size = UInt64(MemoryLayout<suture_train_config>.size)
        config.batch_size = 10
        config.lr = 0.01
        config.seed = 4
        func trained(_ calls: [UInt64]) throws -> [Float] {
            let trainer = try made { suture_trainer_create(start, &config, $0) }
            defer { suture_trainer_destroy(trainer) }
            for tokens in calls {
                try withMatrix(x, cols: Self.dIn) { try check(suture_trainer_run(trainer, $0, 1, tokens, nil, nil)) }
            }
            let result = try made { suture_trainer_sae(trainer, $0) }
            defer { suture_sae_destroy(result) }
            return try reconstructed(result, x)
        }
        let once = try trained([200])
        #expect(once == (try trained([120, 80])))
        #expect(once != before)
        #expect(try reconstructed(start, x) == before)
    }
}

// SPDX-License-Identifier: Apache-2.0
import Glibc
import Suture
import Testing

/// Saving and loading in SAELens' layout. That SAELens itself computes the same from these files is
/// checked by the Python test of the same name.
@Suite struct SAELensTests {
    @Test(arguments: SAECase.all)
    func roundTrip(kind: SAECase) throws {
        let folder = try TemporaryFolder()
        let path = folder.file("deep/down/sae")
        var sae = try kind.make()
        sae.metadata = try Metadata(
            parsing: #"{"model_name":"m","hook_name":"blocks.3.hook_resid_pre","own key":[1,2.5,{"a":null}],"é":true}"#,
            name: "json")
        try sae.save(to: path)
        #expect(listFolder(path) == ["cfg.json", "sae_weights.safetensors"])
        let back = try SAE(folder: path)
        #expect(back.metadata == sae.metadata)
        #expect(
            back.architecture.name == sae.architecture.name && back.subtractsDecoderBias == sae.subtractsDecoderBias)
        let x = try randomTokens(100, sae.dIn)
        let (dense, backDense) = (try sae.encode(x.view).dense, try back.encode(x.view).dense)
        let isExact =
            !(kind.rescales && kind.architecture != "topk")
            && (kind.normalization == .none || back.normalization == kind.normalization)
        if isExact {
            #expect(back.encoder.matrix == sae.encoder.matrix && back.decoder.matrix == sae.decoder.matrix)
            #expect(back.rescalesByDecoderNorm == sae.rescalesByDecoderNorm)
            #expect(backDense == dense)
        }
        let different = (0..<100).filter { row in
            !(0..<sae.dSAE).allSatisfy { abs(dense[row, $0] - backDense[row, $0]) < 2e-5 }
        }
        #expect(different.count <= 4)
        // A second time, over the first, the same files.
        let bytes = (readBytes("\(path)/cfg.json"), readBytes("\(path)/sae_weights.safetensors"))
        try back.save(to: path)
        #expect(readBytes("\(path)/cfg.json") == bytes.0 && readBytes("\(path)/sae_weights.safetensors") == bytes.1)
    }

    /// Metadata as deep as it may be comes back, though cfg.json holds it one level further down.
    @Test func metadataOfAnyDepthComesBack() throws {
        let folder = try TemporaryFolder()
        var sae = try SAECase(architecture: "topk").make(dIn: 3, dSAE: 5, k: 2)
        let levels = JSON.depthLimit - 1
        let text = String(repeating: #"{"a":"#, count: levels) + "{}" + String(repeating: "}", count: levels)
        sae.metadata = try Metadata(parsing: text, name: "json")
        try sae.save(to: folder.path)
        #expect(try SAE(folder: folder.path).metadata == sae.metadata)
    }

    /// A SAE from before version 6 is written in the layout of version 6 and says so.
    @Test func oldVersionsAreNotPassedOn() throws {
        let folder = try TemporaryFolder()
        var sae = try SAECase(architecture: "topk").make(dIn: 3, dSAE: 5, k: 2)
        sae.metadata = try Metadata(parsing: #"{"sae_lens_version":"3.12.1","model_name":"m"}"#, name: "json")
        try sae.save(to: folder.path)
        let config = try Metadata(parsing: readBytes(folder.file("cfg.json")), name: "cfg.json")
        #expect(config["metadata"]?["sae_lens_version"]?.string?.hasPrefix("6.") == true)
        #expect(try SAE(folder: folder.path).metadata.text("model_name") == "m")
    }

    @Test func theFilesAreSAELensOwnLayout() throws {
        let folder = try TemporaryFolder()
        try SAECase(architecture: "topk", subtracts: true, rescales: true).make(dIn: 3, dSAE: 5, k: 2).save(
            to: folder.path)
        let config = try Metadata(parsing: readBytes(folder.file("cfg.json")), name: "cfg.json")
        #expect(config.text("architecture") == "topk" && config.integer("k") == 2 && config.integer("d_in") == 3)
        #expect(config["apply_b_dec_to_input"] == .bool(true) && config["rescale_acts_by_decoder_norm"] == .bool(true))
        #expect(config["metadata"]?["sae_lens_version"]?.string?.hasPrefix("6.") == true)
        let file = try SafetensorsReader(path: folder.file("sae_weights.safetensors"))
        let shapes = Dictionary(uniqueKeysWithValues: file.entries.map { ($0.name, $0.shape) })
        #expect(shapes == ["W_enc": [3, 5], "W_dec": [5, 3], "b_dec": [3], "b_enc": [5]])
        let other = try TemporaryFolder()
        try SAECase(architecture: "batchtopk").make(dIn: 3, dSAE: 5).save(to: other.path)
        #expect(
            try Metadata(parsing: readBytes(other.file("cfg.json")), name: "cfg.json").text("architecture")
                == "jumprelu")
        let threshold = try SafetensorsReader(path: other.file("sae_weights.safetensors")).matrix("threshold")
        #expect(threshold.matrix.elements == [Float](repeating: 1.1, count: 5))
    }

    /// A configuration by hand over the tensors of `kind`, changed by `change`.
    private func load(
        _ kind: SAECase, _ config: String, change: (inout [NamedTensor]) throws -> Void = { _ in }
    ) throws -> SAE {
        let folder = try TemporaryFolder()
        let sae = try kind.make(dIn: 3, dSAE: 5, k: 2)
        var tensors = [
            NamedTensor("W_enc", sae.encoder), NamedTensor("W_dec", sae.decoder),
            NamedTensor("b_enc", vector: sae.encoderBias),
            NamedTensor("b_dec", vector: sae.decoderBias),
        ]
        if case .jumpReLU(let threshold) = sae.architecture {
            tensors.append(NamedTensor("threshold", vector: threshold))
        }
        try change(&tensors)
        try Safetensors.write(tensors, to: folder.file("sae_weights.safetensors"))
        try AtomicFile.write(config, to: folder.file("cfg.json"))
        return try SAE(folder: folder.path)
    }

    private func scalar(_ value: Float) throws -> FloatMatrix {
        try FloatMatrix(Matrix<Float>(rows: 1, cols: 1, elements: [value]))
    }

    @Test func trainingCheckpoints() throws {
        let metadata = #""metadata":{"sae_lens_version":"6.54.12"}"#
        let batch = try load(
            SAECase(architecture: "topk"), #"{"architecture":"batchtopk","d_in":3,"d_sae":5,"k":2.0,\#(metadata)}"#
        ) {
            $0.append(NamedTensor("topk_threshold", vector: try scalar(0.25)))
        }
        guard case .batchTopK(0.25, _) = batch.architecture else {
            Issue.record("\(batch.architecture)")
            return
        }
        // SAELens' defaults.
        #expect(batch.rescalesByDecoderNorm && batch.subtractsDecoderBias)
        let jump = try load(
            SAECase(architecture: "topk"),
            #"{"architecture":"jumprelu","d_in":3,"d_sae":5,"apply_b_dec_to_input":false,\#(metadata)}"#
        ) {
            $0.append(
                NamedTensor(
                    "log_threshold",
                    vector: try FloatMatrix(Matrix<Float>(rows: 1, cols: 5, elements: [0, -1, 1, -2, -100]))))
        }
        guard case .jumpReLU(let threshold) = jump.architecture else {
            Issue.record("\(jump.architecture)")
            return
        }
        #expect(threshold.matrix.elements == [0.0, -1, 1, -2, -100].map { Float(exp(Double($0))) })
        #expect(!jump.subtractsDecoderBias)
        let float = try load(
            SAECase(architecture: "topk"), #"{"architecture":"topk","d_in":3,"d_sae":5,"k":2.0,\#(metadata)}"#)
        guard case .topK(2) = float.architecture else {
            Issue.record("\(float.architecture)")
            return
        }
    }

    @Test func configurationsBeforeVersion6() throws {
        let sae = try load(
            SAECase(architecture: "topk"),
            """
            {"d_in": 3, "d_sae": 5, "dtype": "torch.float32", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2},
             "hook_point": "blocks.2.hook_resid_pre", "model_name": "gpt2", "normalize_activations": false, "l1_coefficient": 1}
            """
        ) {
            $0.append(
                NamedTensor(
                    "scaling_factor", vector: try FloatMatrix(rows: 1, cols: 5) { $0.update(repeating: 1, count: 5) }))
        }
        guard case .topK(2) = sae.architecture else {
            Issue.record("\(sae.architecture)")
            return
        }
        #expect(sae.subtractsDecoderBias && sae.normalization == .none)
        #expect(sae.metadata.text() == #"{"model_name":"gpt2","hook_name":"blocks.2.hook_resid_pre"}"#)
        let standard = try load(SAECase(architecture: "relu"), #"{"d_in":3,"d_sae":5}"#)
        #expect(standard.architecture.name == "relu")
    }

    @Test(arguments: [
        (#"{"architecture":"topk","d_in":3,"d_sae":5,"k":6}"#, "k is 6, expected 1 to d_sae = 5"),
        (#"{"architecture":"topk","d_in":3,"d_sae":5,"k":"2"}"#, #"k is "2", expected 1 to d_sae = 5"#),
        (#"{"architecture":"topk","d_in":3,"k":2}"#, "d_sae is missing, expected 1 to"),
        (#"{"architecture":"topk","d_in":-3,"d_sae":5,"k":2}"#, "d_in is -3, expected 1 to"),
        (
            #"{"architecture":"topk","d_in":4,"d_sae":5,"k":2}"#,
            "W_enc is (3, 5), expected (4, 5) from d_in and d_sae of"
        ),
        (
            #"{"architecture":"topk","d_in":3,"d_sae":5,"k":2,"apply_b_dec_to_input":1}"#,
            "apply_b_dec_to_input is 1, expected true or false"
        ),
        (#"{"architecture":"jumprelu","d_in":3,"d_sae":5}"#, "has no tensor threshold"),
        (#"{"architecture":"gated","d_in":3,"d_sae":5}"#, "has no tensor b_gate"),
        (#"{"d_in":3,"d_sae":5,"activation_fn":"TopK"}"#, #"activation_fn is "TopK", expected "relu" or "topk""#),
        (#"{"d_in":3,"d_sae":5,"activation_fn_str":"tanh-relu"}"#, #"activation_fn_str is "tanh-relu""#),
        (#"{"d_in":3,"d_sae":5,"activation_fn_str":"topk"}"#, "activation_fn_kwargs is missing, expected one with k"),
        (
            #"{"d_in":3,"d_sae":5,"architecture":"jumprelu","activation_fn":"topk","activation_fn_kwargs":{"k":2}}"#,
            #"activation_fn is "topk" with architecture "jumprelu""#
        ),
        (#"{"architecture":"temporal","d_in":3,"d_sae":5}"#, #"architecture is "temporal", expected topk"#),
        (#"{"d_in":3,"d_sae":5,"metadata":{"sae_lens_version":"6.0.0"}}"#, "architecture is missing, expected topk"),
        (
            #"{"architecture":"standard","d_in":3,"d_sae":5,"normalize_activations":"sphere"}"#,
            #"normalize_activations is "sphere""#
        ),
        (#"{"architecture":"standard","d_in":3,"d_sae":5,"metadata":[]}"#, "metadata is [], expected an object"),
        (#"[]"#, "is not a JSON object"), (#"{"architecture":"standard","d_in":3,"#, "is not valid JSON"),
    ])
    func badConfigurationsAreNamed(config: String, words: String) throws {
        do {
            _ = try load(SAECase(architecture: "topk"), config)
            Issue.record("accepted: \(config)")
        } catch let error as SutureError {
            #expect(
                error.message.contains(words) && error.message.contains("cfg.json")
                    || error.message.contains("sae_weights"), "\(error)")
            switch error {
            case .format, .unsupported: break
            default: Issue.record("\(error) is of another kind")
            }
        }
    }

    @Test(arguments: [
        ("standard", "threshold"), ("standard", "W_skip"), ("topk", "topk_threshold"), ("jumprelu", "b_gate"),
        ("standard", "b_dec_out"),
    ])
    func tensorsThatItHasNoUseForAreNamed(architecture: String, name: String) throws {
        #expect {
            _ = try load(
                SAECase(architecture: architecture == "jumprelu" ? "jumprelu" : "topk"),
                #"{"architecture":"\#(architecture)","d_in":3,"d_sae":5,"k":2}"#
            ) { $0.append(NamedTensor(name, vector: try scalar(2.5))) }
        } throws: { error in
            guard case .unsupported(let message)? = error as? SutureError else { return false }
            return message.contains("has the tensor \(name), expected W_enc, W_dec, b_dec, b_enc")
                && message.contains("of a \(architecture) SAE")
        }
    }

    @Test func otherBadFolders() throws {
        let folder = try TemporaryFolder()
        #expect(throws: SutureError.io("cannot read \(folder.path)/cfg.json: No such file or directory")) {
            try SAE(folder: folder.path)
        }
        let sae = try SAECase(architecture: "relu").make(dIn: 3, dSAE: 5)
        try sae.save(to: folder.path)
        let weights = folder.file("sae_weights.safetensors")
        let whole = readBytes(weights)
        writeBytes(Array(whole.dropLast(1)), to: weights)
        #expect {
            try SAE(folder: folder.path)
        } throws: { error in
            guard case .format(let message)? = error as? SutureError else { return false }
            return message.contains("cut short") && message.contains(weights)
        }
        remove(weights)
        #expect(throws: SutureError.io("cannot read \(weights): No such file or directory")) {
            try SAE(folder: folder.path)
        }
        writeBytes([], to: folder.file("plain"))
        #expect(throws: SutureError.io("cannot make the folder \(folder.path)/plain: File exists")) {
            try sae.save(to: folder.file("plain"))
        }
        let unnamed = SutureError.invalidArgument("folder is \"\", expected the name of a folder")
        #expect(throws: unnamed) { try sae.save(to: "") }
        #expect(throws: unnamed) { try SAE(folder: "") }
        #expect(throws: SutureError.unsupported("x")) {
            do {
                _ = try load(SAECase(architecture: "relu"), #"{"architecture":"standard","d_in":3,"d_sae":5}"#) {
                    $0.append(
                        NamedTensor(
                            "scaling_factor",
                            vector: try FloatMatrix(rows: 1, cols: 5) { $0.update(repeating: 2, count: 5) }))
                }
            } catch SutureError.unsupported(let message) where message.contains("scaling_factor") {
                throw SutureError.unsupported("x")
            }
        }
    }
}

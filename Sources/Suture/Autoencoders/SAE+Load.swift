// SPDX-License-Identifier: Apache-2.0
import Glibc

extension SAE {
    /// Reads a SAE folder in SAELens' layout: topk, batchtopk (a training checkpoint, with
    /// `topk_threshold`), jumprelu (with `threshold` or `log_threshold`), standard and gated; any
    /// floating-point type; configurations from before version 6 too. Other files in the folder
    /// (sparsity.safetensors) do not matter.
    ///
    /// The result computes what SAELens computes. So `expected_average_only_in` and
    /// `covariance_whitening`, which SAELens folds after training and does not apply at run time,
    /// become no normalisation.
    ///
    /// - Throws: `SutureError.io` where a file cannot be read, `.format` where one is damaged or they
    ///   contradict each other, `.unsupported` for another architecture.
    public init(folder: String) throws {
        guard !folder.isEmpty else {
            throw SutureError.invalidArgument("folder is \"\", expected the name of a folder")
        }
        let configPath = "\(folder)/\(SAELensFormat.configName)"
        let bytes = try ReadableFile.bytes(of: configPath, limit: 16 << 20)
        let config = try SAELensConfig(
            try Metadata(parsing: bytes, name: configPath, depthLimit: JSON.fileDepthLimit), path: configPath)
        let file = try SafetensorsReader(path: "\(folder)/\(SAELensFormat.weightsName)")
        func weight(_ name: String, _ rows: Int, _ cols: Int) throws -> FloatMatrix {
            let matrix = try file.matrix(name)
            guard matrix.rows == rows, matrix.cols == cols else {
                throw SutureError.format(
                    "\(file.path): \(name) is \(file.entry(name)?.shapeText ?? ""), expected "
                        + (rows == 1 ? "(\(cols))" : "(\(rows), \(cols))") + " from d_in and d_sae of \(configPath)")
            }
            return matrix
        }
        if file.entry("scaling_factor") != nil,
            case let factors = try file.matrix("scaling_factor"), factors.buffer.contains(where: { abs($0 - 1) > 1e-5 })
        {
            throw SutureError.unsupported(
                "\(file.path) has a scaling_factor other than 1 (finetuning), which is not supported")
        }
        // What an architecture has no use for would change its function, if it were what it is named.
        let known = config.kind.tensors + ["scaling_factor"]
        if let other = file.entries.first(where: { !known.contains($0.name) }) {
            throw SutureError.unsupported(
                "\(file.path) has the tensor \(other.name), expected "
                    + "\(config.kind.tensors.joined(separator: ", ")) of a \(config.kind.name) SAE as \(configPath) names it"
            )
        }
        let (dIn, dSAE) = (config.dIn, config.dSAE)
        var bias: FloatMatrix?
        let architecture: Architecture
        switch config.kind {
        case .topK(let k): architecture = .topK(k: k)
        case .relu: architecture = .relu
        case .batchTopK:
            architecture = .batchTopK(threshold: try weight("topk_threshold", 1, 1)[0, 0], k: config.batchK)
        case .jumpReLU:
            let threshold: FloatMatrix
            if file.entry("threshold") == nil, file.entry("log_threshold") != nil {
                let logarithms = try weight("log_threshold", 1, dSAE)
                threshold = try FloatMatrix(rows: 1, cols: dSAE) { target in
                    for j in 0..<dSAE { target[j] = Float(exp(Double(logarithms[0, j]))) }
                }
            } else {
                threshold = try weight("threshold", 1, dSAE)
            }
            let first = threshold[0, 0]
            // Only as long as it still is what was written: SAELens' folding scales each threshold.
            let isConstant = threshold.buffer.allSatisfy { $0 == first }
            architecture =
                config.wasBatchTopK && isConstant
                ? .batchTopK(threshold: first, k: config.batchK) : .jumpReLU(threshold: threshold)
        case .gated:
            architecture = .gated(
                gateBias: try weight("b_gate", 1, dSAE), magnitudeBias: try weight("b_mag", 1, dSAE),
                magnitudeScale: try weight("r_mag", 1, dSAE))
            bias = try FloatMatrix(rows: 1, cols: dSAE) { _ in }
        }
        do {
            try self.init(
                encoder: try weight("W_enc", dIn, dSAE), encoderBias: try bias ?? weight("b_enc", 1, dSAE),
                decoder: try weight("W_dec", dSAE, dIn), decoderBias: try weight("b_dec", 1, dIn),
                architecture: architecture,
                subtractsDecoderBias: config.subtractsDecoderBias, rescalesByDecoderNorm: config.rescalesByDecoderNorm,
                normalization: config.normalization, metadata: config.metadata)
        } catch SutureError.invalidArgument(let message) {
            // No argument of the caller's is wrong, the files are.
            throw SutureError.format("\(folder): \(message)")
        }
        if config.hasEvidence {
            try setEvidence(
                LatentEvidence(contentsOf: "\(folder)/\(SAELensFormat.evidenceName)", dSAE: dSAE))
        }
    }
}

/// What `cfg.json` says.
struct SAELensConfig {
    enum Kind {
        case topK(k: Int)
        case batchTopK, jumpReLU, relu, gated

        /// In SAELens.
        var name: String {
            switch self {
            case .topK: return "topk"
            case .batchTopK: return "batchtopk"
            case .jumpReLU: return "jumprelu"
            case .relu: return "standard"
            case .gated: return "gated"
            }
        }

        /// That it can have.
        var tensors: [String] {
            let common = ["W_enc", "W_dec", "b_dec"]
            switch self {
            case .topK, .relu: return common + ["b_enc"]
            case .batchTopK: return common + ["b_enc", "topk_threshold"]
            case .jumpReLU: return common + ["b_enc", "threshold", "log_threshold"]
            case .gated: return common + ["b_gate", "b_mag", "r_mag"]
            }
        }
    }

    let kind: Kind
    let dIn: Int
    let dSAE: Int
    let subtractsDecoderBias: Bool
    let rescalesByDecoderNorm: Bool
    let normalization: Normalization
    let metadata: Metadata
    /// Written by this library from a BatchTopK SAE.
    let wasBatchTopK: Bool
    /// k of BatchTopK, if it is a whole number: SAELens has a mean, which need not be one.
    let batchK: Int?
    /// Whether what is known of latents lies beside it.
    let hasEvidence: Bool

    /// Members of a configuration from before version 6 that are metadata now.
    private static let metadataKeys: Set = [
        "hook_head_index", "neuronpedia_id", "hook_name", "context_size", "sae_lens_training_version",
        "model_from_pretrained_kwargs", "exclude_special_tokens", "sae_lens_version", "dataset_path",
        "hook_head_index_out",
        "prepend_bos", "model_class_name", "model_name", "hf_hook_name", "seqpos_slice", "hook_name_out",
        "hf_hook_name_out",
    ]

    init(_ config: Metadata, path: String) throws {
        func problem(_ key: String, _ value: JSON?, _ expected: String) -> SutureError {
            .format("\(path): \(key) is \(value?.text() ?? "missing"), expected \(expected)")
        }
        func size(_ key: String) throws -> Int {
            guard let value = config.integer(key), value >= 1, value <= SAE.sizeLimit else {
                throw problem(key, config[key], "1 to \(SAE.sizeLimit)")
            }
            return value
        }
        func flag(_ key: String, default defaultValue: Bool) throws -> Bool {
            guard let value = config[key] else { return defaultValue }
            guard let flag = value.bool else { throw problem(key, value, "true or false") }
            return flag
        }
        dIn = try size("d_in")
        dSAE = try size("d_sae")
        var metadata = Metadata()
        if let value = config["metadata"] {
            guard case .object(let members) = value else { throw problem("metadata", value, "an object") }
            metadata = Metadata(unique: members)
        }
        let version = config.text("sae_lens_version") ?? metadata.text("sae_lens_version")
        let isOld = SAELensFormat.isOld(version)
        if isOld {
            for (key, value) in config.members where Self.metadataKeys.contains(key) { metadata[key] = value }
            if metadata["hook_name"] == nil { metadata["hook_name"] = config["hook_point"] }
            if metadata["hook_head_index"] == nil { metadata["hook_head_index"] = config["hook_point_head_index"] }
        }
        let own = config[SAELensFormat.ownKey]
        if case .array(let added)? = own?["added"] {
            for key in added { if let key = key.string { metadata[key] = nil } }
        }
        hasEvidence = own?[SAELensFormat.evidenceKey] != nil
        wasBatchTopK = own?["architecture"]?.string == "batchtopk"
        if let reshape = config.text("reshape_activations"), reshape != "none" {
            metadata[SAELensFormat.reshapeKey] = .string(reshape)
        }

        var name = config.text("architecture") ?? (isOld ? "standard" : "")
        var k = config["k"]
        if isOld {
            let key = config["activation_fn_str"] == nil ? "activation_fn" : "activation_fn_str"
            switch config[key] {
            case nil, .null?, .string("relu")?: break
            case .string("topk")?:
                guard name == "standard" || name == "topk" else {
                    throw SutureError.unsupported(
                        "\(path): \(key) is \"topk\" with architecture \"\(name)\", expected standard")
                }
                guard let oldK = config["activation_fn_kwargs"]?["k"] else {
                    throw problem("activation_fn_kwargs", config["activation_fn_kwargs"], "one with k")
                }
                (name, k) = ("topk", oldK)
            case let other:
                throw SutureError.unsupported(
                    "\(path): \(key) is \(other?.text() ?? "missing"), expected \"relu\" or \"topk\"")
            }
        }
        let mean = (wasBatchTopK ? own?["k"] : k)?.wholeNumber ?? 0
        batchK = mean >= 1 && mean <= dSAE ? mean : nil
        var rescalesByDefault = false
        switch name {
        case "topk":
            // SAELens' own default is 100.
            guard let count = (k ?? .integer(100)).wholeNumber, count >= 1, count <= dSAE else {
                throw problem("k", k, "1 to d_sae = \(dSAE)")
            }
            kind = .topK(k: count)
        case "batchtopk":
            kind = .batchTopK
            rescalesByDefault = true
        case "jumprelu": kind = .jumpReLU
        case "standard": kind = .relu
        case "gated": kind = .gated
        default:
            throw SutureError.unsupported(
                "\(path): architecture is \(config["architecture"]?.text() ?? "missing"), expected topk, batchtopk, jumprelu, "
                    + "standard or gated")
        }
        subtractsDecoderBias = try flag("apply_b_dec_to_input", default: true)
        switch kind {
        case .topK, .batchTopK:
            rescalesByDecoderNorm = try flag("rescale_acts_by_decoder_norm", default: rescalesByDefault)
        // SAELens has the option for those two only.
        case .jumpReLU, .relu, .gated: rescalesByDecoderNorm = false
        }
        switch config["normalize_activations"] {
        case nil, .null?, .bool?: normalization = .none
        case .string("none")?, .string("expected_average_only_in")?, .string("covariance_whitening")?:
            normalization = .none
        case .string("constant_norm_rescale")?: normalization = .tokenNorm
        case .string("layer_norm")?: normalization = .layerNorm
        case let other:
            throw SutureError.unsupported(
                "\(path): normalize_activations is \(other?.text() ?? "missing"), which is not known")
        }
        self.metadata = metadata
    }
}

extension JSON {
    /// A whole number, also where it is written with a fraction (32.0).
    fileprivate var wholeNumber: Int? { integer ?? double.flatMap { Int(exactly: $0) } }
}

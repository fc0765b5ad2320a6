// SPDX-License-Identifier: Apache-2.0

/// The folder layout of SAELens v6: `cfg.json` and `sae_weights.safetensors`.
enum SAELensFormat {
    static let configName = "cfg.json"
    static let weightsName = "sae_weights.safetensors"
    /// Ours: `LatentEvidence`, where there is any. cfg.json names it under `evidenceKey` in our own member,
    /// so that one left behind by another SAE is not taken for this one's.
    static let evidenceName = "latent_evidence.safetensors"
    static let evidenceKey = "latent_evidence"
    /// The version whose layout this is; readers take anything from 6 on as the new one.
    static let version = "6.54.12"
    /// Whether files that name this version have the layout from before version 6; those without do.
    static func isOld(_ version: String?) -> Bool { (version.flatMap { Int($0.prefix { $0 != "." }) } ?? 0) < 6 }
    /// Our own member of cfg.json, which SAELens ignores.
    static let ownKey = "suture"
    /// Member of the metadata that becomes one of the configuration.
    static let reshapeKey = "reshape_activations"
}

extension Normalization {
    /// The value of `normalize_activations`; a fixed scale has been folded by then.
    fileprivate var nameInSAELens: String {
        switch self {
        case .none, .fixedScale: return "none"
        case .tokenNorm: return "constant_norm_rescale"
        case .layerNorm: return "layer_norm"
        }
    }
}

extension SAE {
    /// Writes the SAE as a folder in SAELens' v6 layout, float32. SAELens computes the same from it,
    /// and `SAE(folder:)` gives back the same architecture, activations and metadata.
    ///
    /// What SAELens has no words for is written in its words, with the same activations: a fixed
    /// scale is folded, which SAELens would not apply at run time; decoder norms are folded except
    /// for TopK, the only architecture that SAELens rescales; BatchTopK becomes JumpReLU with a
    /// constant threshold, as SAELens' own export for inference does it.
    ///
    /// Missing folders are made. Each file appears whole or not at all, cfg.json last.
    ///
    /// - Throws: `SutureError.io` with the path and the system's reason.
    public func save(to folder: String) throws {
        try makeFolders(folder)
        let sae = try writableInSAELens()
        let weights = try AtomicFile(path: "\(folder)/\(SAELensFormat.weightsName)")
        try Safetensors.write(sae.namedTensors(), metadata: [("format", "pt")], to: weights)
        let config = try AtomicFile(path: "\(folder)/\(SAELensFormat.configName)")
        try config.write(sae.configuration().text(indent: 2) + "\n")
        let evidence = try self.evidence.map { evidence in
            let file = try AtomicFile(path: "\(folder)/\(SAELensFormat.evidenceName)")
            try evidence.write(to: file)
            return file
        }
        // All are on the disk before the first gets its name.
        let files = [weights, evidence, config].compactMap { $0 }
        for file in files { try file.finish() }
        for file in files { try file.commit() }
    }

    private func writableInSAELens() throws -> SAE {
        var mustFold = false
        if case .fixedScale = normalization { mustFold = true }
        if rescalesByDecoderNorm {
            if case .topK = architecture {} else { mustFold = true }
        }
        return mustFold ? try folded(subtraction: false) : self
    }

    private func namedTensors() throws -> [NamedTensor] {
        var tensors = [
            NamedTensor("W_enc", encoder), NamedTensor("W_dec", decoder), NamedTensor("b_dec", vector: decoderBias),
        ]
        switch architecture {
        case .topK, .relu: tensors.append(NamedTensor("b_enc", vector: encoderBias))
        case .batchTopK(let threshold, _):
            let constant = try FloatMatrix(rows: 1, cols: dSAE) { $0.update(repeating: threshold, count: dSAE) }
            tensors += [NamedTensor("b_enc", vector: encoderBias), NamedTensor("threshold", vector: constant)]
        case .jumpReLU(let threshold):
            tensors += [NamedTensor("b_enc", vector: encoderBias), NamedTensor("threshold", vector: threshold)]
        case .gated(let gateBias, let magnitudeBias, let magnitudeScale):
            tensors += [
                NamedTensor("b_gate", vector: gateBias), NamedTensor("b_mag", vector: magnitudeBias),
                NamedTensor("r_mag", vector: magnitudeScale),
            ]
        }
        return tensors
    }

    private func configuration() -> JSON {
        var written = metadata
        let reshape = metadata[SAELensFormat.reshapeKey] ?? .string("none")
        written[SAELensFormat.reshapeKey] = nil
        var own: [(key: String, value: JSON)] = [("version", .string(sutureVersion))]
        if SAELensFormat.isOld(written.text("sae_lens_version")) {
            // SAELens would take the file for one from before version 6.
            written["sae_lens_version"] = .string(SAELensFormat.version)
            own.append(("added", .array([.string("sae_lens_version")])))
        }
        var members: [(key: String, value: JSON)] = [
            ("d_in", .integer(Int64(dIn))), ("d_sae", .integer(Int64(dSAE))), ("dtype", .string("float32")),
            ("device", .string("cpu")), ("apply_b_dec_to_input", .bool(subtractsDecoderBias)),
            ("normalize_activations", .string(normalization.nameInSAELens)), ("reshape_activations", reshape),
        ]
        switch architecture {
        case .topK(let k):
            members.append(("architecture", .string("topk")))
            members.append(("k", .integer(Int64(k))))
            members.append(("rescale_acts_by_decoder_norm", .bool(rescalesByDecoderNorm)))
        case .batchTopK(_, let k):
            members.append(("architecture", .string("jumprelu")))
            own.append(("architecture", .string("batchtopk")))
            if let k { own.append(("k", .integer(Int64(k)))) }
        case .jumpReLU: members.append(("architecture", .string("jumprelu")))
        case .relu: members.append(("architecture", .string("standard")))
        case .gated: members.append(("architecture", .string("gated")))
        }
        if evidence != nil { own.append((SAELensFormat.evidenceKey, .string(SAELensFormat.evidenceName))) }
        members.append(("metadata", .object(written.members)))
        members.append((SAELensFormat.ownKey, .object(own)))
        return .object(members)
    }
}

// SPDX-License-Identifier: Apache-2.0

/// The names by which people call the streams of a language model, and what they mean.
///
/// TransformerLens' hooks, paths of modules in transformers (the stream that a module puts out), entries of
/// `hidden_states`, and the names that collections of SAEs have for their folders.
enum SiteName {
    struct Reading: Equatable {
        let stream: Site.Stream
        let layer: Int?

        static func residual(_ layer: Int) -> Reading { Reading(stream: .residual, layer: layer) }
        static func other(_ name: String, _ block: Int? = nil) -> Reading {
            Reading(stream: .other(name), layer: block)
        }
    }

    /// Longer names are not read.
    static let lengthLimit = 1024

    /// What a name means; nil where nobody can say. Folders in front of a name are allowed, as in
    /// `EleutherAI/sae-pythia-70m-32k/layers.4`.
    static func reading(of name: String, nLayers: Int?) -> Reading? {
        guard name.utf8.count <= lengthLimit, name.utf8.allSatisfy({ (0x20..<0x7f).contains($0) }) else { return nil }
        let parts = name.lowercased().split(separator: "/").map { trimmed($0) }
        let found = parts.compactMap { stream(of: $0, nLayers) }
        if let first = found.first { return found.allSatisfy { $0 == first } ? first : nil }
        return gemmaScope(parts)
    }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        return text
    }

    /// A name without folders.
    private static func stream(of part: Substring, _ nLayers: Int?) -> Reading? {
        if let found = llamaScope(part) ?? layerSuffix(part) { return found }
        // model.layers[3].output[0] is the same as model.layers.3.output.0, layers_3 as layers.3.
        var text = part.split(separator: "[", omittingEmptySubsequences: false).joined(separator: ".")
        text.removeAll { $0 == "]" }
        if let (list, number) = numbered(text, separator: "_"), blockLists.contains(list) { text = "\(list).\(number)" }
        let labels = text.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        guard labels.allSatisfy({ isIdentifier($0) || integer($0) != nil }) else { return nil }
        return block(labels) ?? hiddenState(labels, nLayers) ?? outside(labels, nLayers)
    }

    // MARK: Streams of a block

    /// What lists of blocks are called; `models/_residual.py` finds them by the same names.
    private static let blockLists: Set = ["blocks", "layers", "h"]
    /// In the path of a list of blocks: those of a model of images or sound, or of an encoder.
    private static let foreign = ["vision", "visual", "image", "audio", "speech", "encoder"]
    /// TransformerLens' hooks of a block beside the two of the residual stream; those of parts of a block
    /// have a dot (`attn.hook_z`).
    private static let otherHooks: Set = [
        "hook_resid_mid", "hook_attn_out", "hook_mlp_out", "hook_attn_in", "hook_mlp_in", "hook_q_input",
        "hook_k_input", "hook_v_input", "hook_z",
    ]

    /// `…layers.3`, `…h.3.mlp`, `blocks.3.hook_resid_pre`.
    private static func block(_ labels: [String]) -> Reading? {
        guard
            let at = labels.indices.dropFirst().first(where: {
                blockLists.contains(labels[$0 - 1]) && number(labels[$0]) != nil
            }),
            let index = number(labels[at]), labels[..<(at - 1)].allSatisfy(isIdentifier)
        else { return nil }
        let tail = Array(labels[(at + 1)...])
        let path = tail.joined(separator: ".")
        if labels[..<(at - 1)].contains(where: { label in foreign.contains { label.contains($0) } }) {
            return .other(labels.joined(separator: "."), index)
        }
        switch path {
        case "", "output", "output.0", "hook_out", "hook_resid_post": return .residual(index + 1)
        case "input", "input.0", "hook_in", "hook_resid_pre": return .residual(index)
        default: break
        }
        if tail.count == 1, path.hasPrefix("hook_") {
            // SAELens' collections append the width or the trainer to the hook's name.
            if path.hasPrefix("hook_resid_post_") { return isSuffix(path.dropFirst(15)) ? .residual(index + 1) : nil }
            if path.hasPrefix("hook_resid_pre_") { return isSuffix(path.dropFirst(14)) ? .residual(index) : nil }
            return otherHooks.contains(path) ? .other(String(path.dropFirst(5)), index) : nil
        }
        return isIdentifier(tail[0]) ? .other(path, index) : .other("output.\(path)", index)
    }

    /// `_24576`, `__trainer_0`, `__trainer_0_step_9764`.
    private static func isSuffix(_ text: Substring) -> Bool {
        let rest = text.drop { $0 == "_" }
        return number(String(rest)) != nil || rest.hasPrefix("trainer_")
    }

    /// dictionary_learning's `resid_post_layer_3`, and TransformerLens' short `resid_post.3`.
    private static func layerSuffix(_ part: Substring) -> Reading? {
        guard let (name, index) = numbered(String(part), separator: "_") ?? numbered(String(part), separator: ".")
        else {
            return nil
        }
        switch name.hasSuffix("_layer") ? String(name.dropLast(6)) : name {
        case "resid_post": return .residual(index + 1)
        case "resid_pre": return .residual(index)
        case let kind where ["resid_mid", "mlp_out", "attn_out", "attention_out"].contains(kind):
            return .other(kind, index)
        default: return nil
        }
    }

    // MARK: Streams of a model

    /// transformers' `hidden_states[l]`: what enters block l, but the last, which left the final norm.
    private static func hiddenState(_ labels: [String], _ nLayers: Int?) -> Reading? {
        guard labels.count >= 2, labels[labels.count - 2] == "hidden_states",
            labels.dropLast(2).allSatisfy(isIdentifier),
            var index = integer(labels[labels.count - 1])
        else { return nil }
        if index == -1 || index == nLayers { return .other("final_norm") }
        if index < 0 {
            guard let nLayers else { return nil }
            index += nLayers + 1
        }
        return index >= 0 ? .residual(index) : nil
    }

    private static let embeddings: Set = [
        "hook_embed", "embed", "embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings", "embeddings",
        "embedding",
    ]
    private static let positions: Set = [
        "hook_pos_embed", "pos_embed", "wpe", "embed_positions", "position_embeddings",
    ]
    private static let finalNorms: Set = [
        "ln_final", "ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f", "norm", "ln_out",
    ]
    private static let unembeddings: Set = ["lm_head", "unembed", "embed_out", "logits", "output_projection"]

    /// Embeddings, final norm, logits.
    private static func outside(_ labels: [String], _ nLayers: Int?) -> Reading? {
        guard labels.allSatisfy(isIdentifier) else { return nil }
        var labels = labels
        var entering = false
        if labels.count > 1, let end = labels.last {
            switch end {
            case "input", "hook_in": (entering, labels) = (true, labels.dropLast())
            case "output", "hook_out", "hook_normalized", "hook_scale": labels = labels.dropLast()
            default: break
            }
        }
        // GPT-2's and GPT-NeoX' dropout: what it puts out enters block 0.
        if !entering, ["transformer.drop", "gpt_neox.emb_dropout"].contains(labels.joined(separator: ".")) {
            return .residual(0)
        }
        guard let name = labels.last, labels.count <= 4 else { return nil }
        if finalNorms.contains(name) {
            return entering ? nLayers.map { .residual($0) } : .other("final_norm")
        }
        if name == "last_hidden_state" { return .other("final_norm") }
        if unembeddings.contains(name) { return .other(entering ? "final_norm" : "logits") }
        if entering { return nil }
        if embeddings.contains(name) { return .other("embed") }
        return positions.contains(name) ? .other("pos_embed") : nil
    }

    // MARK: Folders of collections

    /// Llama Scope: `l15r_8x`, `Llama3_1-8B-Base-L15R-8x`; R is what leaves the block.
    private static func llamaScope(_ part: Substring) -> Reading? {
        let words = part.split { $0 == "_" || $0 == "-" }
        let found = words.indices.dropLast().compactMap { at -> Reading? in
            guard words[at].first == "l", words[at + 1].last == "x", number(words[at + 1].dropLast()) != nil else {
                return nil
            }
            let digits = words[at].dropFirst().prefix { $0.isASCII && $0.isNumber }
            guard let index = number(digits) else { return nil }
            switch words[at].dropFirst(1 + digits.count) {
            case "r": return .residual(index + 1)
            case "a": return .other("attn_out", index)
            case "m": return .other("mlp_out", index)
            case "tc": return .other("transcoder", index)
            default: return nil
            }
        }
        return found.count == 1 ? found[0] : nil
    }

    /// Gemma Scope: `layer_20/width_16k/…` under a repository that says what of the layer, or
    /// `resid_post/layer_20_width_16k_l0_big`.
    private static func gemmaScope(_ parts: [Substring]) -> Reading? {
        let layers = parts.compactMap { part -> Int? in
            guard part.hasPrefix("layer_") else { return nil }
            return number(part.dropFirst(6).prefix { $0 != "_" })
        }
        let kinds = parts.compactMap { part -> String? in
            if part.hasPrefix("gemma-scope-") {
                return part.split(separator: "-").compactMap { scopeWords[String($0)] }.first
            }
            return scopeFolders.first { part == $0 || part == "\($0)_all" }
        }
        guard let kind = kinds.first, kinds.allSatisfy({ $0 == kind }) else { return nil }
        guard layers.count == 1 else { return nil }
        return kind == "resid_post" ? .residual(layers[0] + 1) : .other(kind, layers[0])
    }

    private static let scopeWords = [
        "res": "resid_post", "mlp": "mlp_out", "att": "attn.hook_z", "transcoders": "transcoder",
    ]
    private static let scopeFolders = ["resid_post", "mlp_out", "attn_out", "transcoder"]

    // MARK: Words

    /// A number that may be a layer's.
    private static func number(_ text: some StringProtocol) -> Int? {
        guard (1...6).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }

    private static func integer(_ text: String) -> Int? {
        text.hasPrefix("-") ? number(text.dropFirst()).map { -$0 } : number(text)
    }

    private static func isIdentifier(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return text.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x5f
        }
    }

    /// `layers_3` in its two parts.
    private static func numbered(_ text: String, separator: Character) -> (String, Int)? {
        guard let at = text.lastIndex(of: separator), let index = number(text[text.index(after: at)...]) else {
            return nil
        }
        return (String(text[..<at]), index)
    }
}

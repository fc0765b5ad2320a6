// SPDX-License-Identifier: Apache-2.0

/// The model and layer that something is carried from by a stitch, and those it is carried to.
struct TransferEnds {
    /// Name of the size of the source: "d_a" or "d_b".
    let sourceSize: String
    private let side: String
    /// What is carried, as messages call it.
    private let what: String
    private let source: (model: String?, layer: Int?)
    private let target: (model: String?, layer: Int?)

    init(_ stitch: Stitch, _ direction: Direction, of what: String) {
        self.what = what
        let a = (model: stitch.metadata.text("model_a"), layer: stitch.metadata.integer("layer_a"))
        let b = (model: stitch.metadata.text("model_b"), layer: stitch.metadata.integer("layer_b"))
        source = direction == .up ? a : b
        target = direction == .up ? b : a
        side = direction == .up ? "a" : "b"
        sourceSize = "d_\(side)"
    }

    /// What is true of one model only and so becomes part of the origin.
    private static let ofOneModel = [
        "model_name", "hook_name", "hook_layer", "hook_head_index", "hf_hook_name", "neuronpedia_id",
        "model_class_name", "model_from_pretrained_kwargs", "sae_lens_training_version",
    ]
    private static let originKey = "transferred_from"
    /// Origins of origins that are kept: they nest, and would outgrow what JSON parsers take.
    private static let mostOrigins = 8

    /// The metadata after the transfer: the new model and layer where the stitch knows them, the old
    /// ones in `transferred_from`, everything else as it was.
    ///
    /// - Throws: `SutureError.invalidArgument` where a known model or layer is not the stitch's.
    func metadata(of old: Metadata) throws -> Metadata {
        if let known = old.text("model_name"), let expected = source.model, known != expected {
            throw SutureError.invalidArgument(
                "\(what) comes from model \(known), expected \(expected), which is model_\(side) of the stitch")
        }
        if let hook = old.text("hook_name"), let layer = Self.layer(of: hook), let expected = source.layer,
            layer != expected
        {
            throw SutureError.invalidArgument(
                "\(what) comes from layer \(layer) (\(hook)), expected \(expected), which is layer_\(side) of the stitch"
            )
        }
        var origin: [(key: String, value: JSON)] = []
        var new = old
        for key in Self.ofOneModel {
            if let value = old[key] { origin.append((key, value)) }
            new[key] = nil
        }
        if let before = old[Self.originKey] {
            origin.append((Self.originKey, Self.shortened(before, Self.mostOrigins - 1)))
        }
        new["model_name"] = target.model.map { .string($0) }
        new["hook_name"] = target.layer.map { .string("blocks.\($0).hook_resid_pre") }
        new[Self.originKey] = .object(origin)
        return new
    }

    /// The number in "blocks.{layer}.…".
    private static func layer(of hook: String) -> Int? {
        let parts = hook.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count >= 2 && parts[0] == "blocks" ? Int(parts[1]) : nil
    }

    private static func shortened(_ origin: JSON, _ depth: Int) -> JSON {
        guard case .object(let members) = origin else { return origin }
        return .object(
            members.compactMap { member in
                guard member.key == originKey else { return member }
                return depth > 1 ? (member.key, shortened(member.value, depth - 1)) : nil
            })
    }
}

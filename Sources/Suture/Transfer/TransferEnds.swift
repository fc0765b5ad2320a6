// SPDX-License-Identifier: Apache-2.0

/// The site that something is carried from by a stitch, and that it is carried to.
struct TransferEnds {
    /// Name of the size of the source: "d_a" or "d_b".
    let sourceSize: String
    private let side: String
    /// What is carried, as messages call it.
    private let what: String
    private let source: Site
    private let target: Site
    /// The source's number of blocks, where the stitch knows it.
    private let nLayers: Int?

    /// - Throws: `SutureError.invalidArgument` where the stitch's own metadata name a layer that nobody can
    ///   read, or a stream other than the residual one.
    init(_ stitch: Stitch, _ direction: Direction, of what: String) throws {
        self.what = what
        side = direction == .up ? "a" : "b"
        source = try stitch.site(side)
        target = try stitch.site(direction == .up ? "b" : "a")
        nLayers = stitch.metadata.integer("n_layers_\(side)").flatMap {
            (1...Site.layerLimit).contains($0) ? $0 : nil
        }
        sourceSize = "d_\(side)"
    }

    /// What is true of one model only and so becomes part of the origin.
    private static let ofOneModel =
        ["model_name"] + Site.nameKeys + Site.outputKeys + [
            "hook_layer", "hook_head_index", "neuronpedia_id", "model_hint", "model_class_name",
            "model_from_pretrained_kwargs", "sae_lens_training_version",
        ]
    private static let originKey = "transferred_from"
    /// Origins of origins that are kept: they nest, and would outgrow what JSON parsers take.
    private static let mostOrigins = 8

    /// The metadata after the transfer: the new model and layer where the stitch knows them, the old
    /// ones in `transferred_from`, everything else as it was.
    ///
    /// - Parameter site: where the caller says that it comes from, in place of what the metadata say.
    /// - Throws: `SutureError.invalidArgument` where it comes from another model, layer or stream than the
    ///   stitch's, or from one whose name nobody can read.
    func metadata(of old: Metadata, from site: Site?) throws -> Metadata {
        try check(old, site)
        return Self.moved(old, from: site, to: target)
    }

    /// Metadata of what was carried to `target`, as far as that is known.
    static func moved(_ old: Metadata, from site: Site?, to target: Site?) -> Metadata {
        var origin: [(key: String, value: JSON)] = []
        var new = old
        for key in ofOneModel {
            if let value = old[key] { origin.append((key, value)) }
            new[key] = nil
        }
        if let name = site?.hookName { origin.append(("site", .string(name))) }
        if let before = old[originKey] {
            origin.append((originKey, shortened(before, mostOrigins - 1)))
        }
        new["model_name"] = target?.model.map { .string($0) }
        new["hook_name"] = target?.hookName.map { .string($0) }
        new[originKey] = .object(origin)
        return new
    }

    private func check(_ old: Metadata, _ site: Site?) throws {
        if let known = site?.model ?? old.text("model_name"), !known.isEmpty, let expected = source.model,
            !ModelName.areSame(known, expected)
        {
            throw SutureError.invalidArgument(
                "\(what) comes from model \(known), expected \(expected), which is model_\(side) of the stitch")
        }
        // A stitch that knows none of its layers may be of streams of any kind.
        guard source.layer != nil || target.layer != nil else { return }
        let insists = site != nil && (site?.layer != nil || site?.stream != .residual)
        let insistence = insists ? "" : "; if it does come from there, say so by site"
        let (found, named): (Site, String)
        if insists, let site {
            (found, named) = (site, "site")
        } else {
            do {
                found = try Site(of: old, what, nLayers: nLayers)
            } catch SutureError.invalidArgument(let message) {
                throw SutureError.invalidArgument("\(message), or the site that it comes from said by site")
            }
            named = Site.nameKeys.lazy.compactMap { old.text($0) }.first { !$0.isEmpty }.map(Site.quoted) ?? ""
        }
        let expected = source.hookName.map { "\($0), layer_\(side) of the stitch" } ?? "the residual stream"
        guard found.stream == .residual else {
            throw SutureError.invalidArgument(
                "\(what) comes from \(named): \(found.description), not the residual stream; expected \(expected)"
                    + insistence)
        }
        if let layer = found.layer, let wanted = source.layer, layer != wanted {
            throw SutureError.invalidArgument(
                "\(what) comes from layer \(layer) (\(named)), expected \(wanted), which is layer_\(side) of the stitch"
                    + insistence)
        }
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

extension Stitch {
    /// Model and layer of one side, "a" or "b", as far as the metadata know them; a layer may be said by any
    /// name of its stream.
    fileprivate func site(_ side: String) throws -> Site {
        let (model, key) = (metadata.text("model_\(side)"), "layer_\(side)")
        switch metadata[key] {
        case nil, .null?: return try Site(model: model, layer: nil)
        case .integer(let layer)?:
            guard (0...Int64(Site.layerLimit)).contains(layer) else {
                throw SutureError.invalidArgument("\(key) of the stitch is \(layer), expected 0 to \(Site.layerLimit)")
            }
            return try Site(model: model, layer: Int(layer))
        case .string(let name)?:
            let site = try Site(parsing: name, model: model, argument: "\(key) of the stitch")
            guard site.stream == .residual else {
                throw SutureError.invalidArgument(
                    "\(key) of the stitch is \(Site.quoted(name)): \(site.description), expected the residual stream")
            }
            return site
        case let other?:
            throw SutureError.invalidArgument(
                "\(key) of the stitch is \(Site.quoted(other.text())), expected a layer's number or name")
        }
    }
}

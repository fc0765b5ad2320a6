// SPDX-License-Identifier: Apache-2.0

/// Which stream of which model: the one type for it, here, in C and in Python.
///
/// The residual stream *before* block `layer` has many names, and all of them become the same value:
/// `blocks.4.hook_resid_pre` and `blocks.3.hook_resid_post` of TransformerLens, the output of
/// `model.layers.3` or `transformer.h.3` of transformers, sparsify's `layers.3`. `layer` is the number of
/// blocks that a token has passed: 0 is what enters the first block, the number of blocks what leaves the
/// last, before the final norm.
public struct Site: Sendable, Hashable {
    public enum Stream: Sendable, Hashable {
        /// The residual stream before block `layer`.
        case residual
        /// Something else, by name: `mlp_out`, `attn.hook_z`, `self_attn`, … of block `layer`; `embed`,
        /// `final_norm` or `logits` of no block.
        case other(String)
    }

    /// The model's name, where it is known; `ModelName` says which names are the same model's.
    public let model: String?
    /// Of the residual stream, the block it enters; of another stream, the block it belongs to. nil where
    /// it is not known, or for a stream of no block.
    public let layer: Int?
    public let stream: Stream

    /// Most layers that are believed: far more than models have, and far from overflow.
    static let layerLimit = 999_999
    /// The stream's name in `stream`.
    public static let residualName = "resid_pre"

    /// The residual stream before block `layer`, or another stream.
    ///
    /// - Throws: `SutureError.invalidArgument` for a layer below 0 or beyond belief.
    public init(model: String? = nil, layer: Int?, stream: Stream = .residual) throws {
        if let layer, !(0...Self.layerLimit).contains(layer) {
            throw SutureError.invalidArgument("layer is \(layer), expected 0 to \(Self.layerLimit)")
        }
        self.init(model: model, checked: layer, stream: stream)
    }

    /// By the name of the stream, `resid_pre` or another.
    ///
    /// - Throws: `SutureError.invalidArgument` also for `resid_post`, which is no name of a layer of ours.
    public init(model: String? = nil, layer: Int?, streamName: String) throws {
        switch streamName {
        case Self.residualName: try self.init(model: model, layer: layer)
        case "":
            throw SutureError.invalidArgument("stream is \"\", expected \"\(Self.residualName)\" or another name")
        case "resid_post":
            throw SutureError.invalidArgument(
                "stream is \"resid_post\", expected \"\(Self.residualName)\": what leaves block l is the stream before "
                    + "block l + 1, layer l + 1")
        default: try self.init(model: model, layer: layer, stream: .other(streamName))
        }
    }

    private init(model: String?, checked layer: Int?, stream: Stream) {
        // An empty name says nothing.
        self.model = model?.isEmpty == true ? nil : model
        self.layer = layer
        self.stream = stream
    }

    /// From a name of any of the kinds that `Site.understood` lists.
    ///
    /// - Parameters:
    ///   - argument: what the name is, for error messages.
    ///   - nLayers: the model's number of blocks, where it is known: then the last entry of
    ///     `hidden_states` is seen to be what left the final norm, and layers beyond are refused.
    /// - Throws: `SutureError.invalidArgument` for a name that nobody can read.
    public init(
        parsing name: String, model: String? = nil, nLayers: Int? = nil, argument: String = "name"
    ) throws {
        if let nLayers, !(1...Self.layerLimit).contains(nLayers) {
            throw SutureError.invalidArgument("n_layers is \(nLayers), expected 1 to \(Self.layerLimit)")
        }
        guard let reading = SiteName.reading(of: name, nLayers: nLayers), reading.layer ?? 0 <= Self.layerLimit else {
            throw SutureError.invalidArgument("\(argument) is \(Self.quoted(name)), expected \(Self.understood)")
        }
        if let layer = reading.layer, let nLayers, layer > nLayers {
            throw SutureError.invalidArgument(
                "\(argument) is \(Self.quoted(name)), expected a layer of 0 to \(nLayers), the number of blocks")
        }
        self.init(model: model, checked: reading.layer, stream: reading.stream)
    }

    /// What `init(parsing:)` takes, as messages say it; `l` is the layer.
    public static let understood =
        "a name of the residual stream before block l (blocks.{l}.hook_resid_pre, blocks.{l - 1}.hook_resid_post, "
        + "a block's output such as model.layers.{l - 1}, transformer.h.{l - 1} or gpt_neox.layers.{l - 1}, "
        + "hidden_states.{l}) or of another stream of a block (blocks.{i}.hook_mlp_out, model.layers.{i}.self_attn)"

    public var streamName: String {
        switch stream {
        case .residual: Self.residualName
        case .other(let name): name
        }
    }

    /// `blocks.{layer}.hook_resid_pre`: the one name that is written; nil for other streams, or where the
    /// layer is not known.
    public var hookName: String? {
        guard stream == .residual, let layer else { return nil }
        return "blocks.\(layer).hook_resid_pre"
    }

    /// Whether nothing that is known of both says that they differ.
    public func matches(_ other: Site) -> Bool {
        if let mine = model, let its = other.model, !ModelName.areSame(mine, its) { return false }
        if let mine = layer, let its = other.layer, mine != its { return false }
        return stream == other.stream
    }

    /// The stream in words.
    var description: String {
        switch stream {
        case .residual: hookName ?? "the residual stream"
        case .other("embed"):
            "the token embeddings, which are the stream before block 0 only where a model adds no positions to them"
        case .other("final_norm"): "what left the final norm"
        case .other(let name): layer.map { "\(name) of block \($0)" } ?? name
        }
    }

    /// A name as messages show it, not too long.
    static func quoted(_ name: String) -> String {
        name.utf8.count <= 120 ? "\"\(name)\"" : "\"\(name.prefix(100))…\""
    }
}

// MARK: Metadata

extension Site {
    /// Keys that name a stream: SAELens' (two generations) and sparsify's.
    static let nameKeys = ["hook_name", "hf_hook_name", "hookpoint", "hook_point"]
    /// Keys that name the stream that comes out, where it is another one (transcoders).
    static let outputKeys = ["hook_name_out", "hf_hook_name_out"]

    /// What the metadata of a SAE, a probe or a steering vector say about where it comes from, with a
    /// `layer` of nil where they name no stream.
    ///
    /// - Parameters:
    ///   - what: the object, for error messages.
    ///   - nLayers: as for `init(parsing:)`.
    /// - Throws: `SutureError.invalidArgument` where no name can be read, or two contradict each other.
    public init(of metadata: Metadata, _ what: String = "metadata", nLayers: Int? = nil) throws {
        let model = metadata.text("model_name")
        let names = try Self.nameKeys.compactMap { try Self.name(of: metadata, $0, what) }
        var found: (key: String, name: String, site: Site)?
        var unreadable: SutureError?
        for (key, name) in names {
            let site: Site
            do {
                site = try Site(parsing: name, model: model, nLayers: nLayers, argument: "\(key) of \(what)")
            } catch let error as SutureError {
                unreadable = unreadable ?? error
                continue
            }
            // Names of other streams are not compared: nobody says which are the same.
            if let before = found, before.site.stream == .residual || site.stream == .residual,
                before.site.stream != site.stream || before.site.layer != site.layer
            {
                throw SutureError.invalidArgument(
                    "\(what) has the \(before.key) \(Self.quoted(before.name)) and the \(key) \(Self.quoted(name)), "
                        + "expected names of one stream")
            }
            found = found ?? (key, name, site)
        }
        guard let found else {
            if let unreadable { throw unreadable }
            self.init(model: model, checked: nil, stream: .residual)
            return
        }
        if let number = metadata.integer("hook_layer"), let layer = found.site.layer, number != layer,
            found.site.stream != .residual || number != layer - 1
        {
            throw SutureError.invalidArgument(
                "\(what) has the hook_layer \(number) and the \(found.key) \(Self.quoted(found.name)), "
                    + "expected a name of that block")
        }
        for key in Self.outputKeys {
            guard let (_, name) = try Self.name(of: metadata, key, what) else { continue }
            let output = try? Site(parsing: name, nLayers: nLayers)
            guard found.site.stream == .residual, output?.stream == .residual, output?.layer == found.site.layer else {
                self.init(model: model, checked: nil, stream: .other("transcoder from \(found.name) to \(name)"))
                return
            }
        }
        self = found.site
    }

    /// The text behind a key, with hook_layer in the place of {layer}; nil where there is none.
    private static func name(of metadata: Metadata, _ key: String, _ what: String) throws -> (String, String)? {
        switch metadata[key] {
        case nil, .null?, .string("")?: return nil
        case .string(let name)?:
            guard let number = metadata.integer("hook_layer"), name.utf8.count <= SiteName.lengthLimit else {
                return (key, name)
            }
            return (key, name.pieces(between: "{layer}").joined(separator: "\(number)"))
        case let other?:
            throw SutureError.invalidArgument("\(key) of \(what) is \(quoted(other.text())), expected text")
        }
    }
}

extension String {
    /// What stands between the occurrences of a text that is not empty.
    func pieces(between separator: String) -> [String] {
        let (bytes, needle) = (Array(utf8), Array(separator.utf8))
        var (pieces, start, at) = ([String](), 0, 0)
        while at + needle.count <= bytes.count {
            if bytes[at..<(at + needle.count)].elementsEqual(needle) {
                pieces.append(String(decoding: bytes[start..<at], as: UTF8.self))
                at += needle.count
                start = at
            } else {
                at += 1
            }
        }
        return pieces + [String(decoding: bytes[start...], as: UTF8.self)]
    }
}

// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

/// What a stitch takes, and from where; SAEs, probes and vectors alike.
@Suite struct TransferSiteTests {
    enum Kind: CaseIterable, Sendable { case sae, probe, vector }

    /// Model, layer and widths of the two sides.
    static func stitch(_ changes: [(String, JSON?)] = []) throws -> Stitch {
        var metadata = Metadata([
            ("model_a", .string("EleutherAI/pythia-70m")), ("layer_a", .integer(4)),
            ("model_b", .string("EleutherAI/pythia-160m")), ("layer_b", .integer(7)),
        ])
        for (key, value) in changes { metadata[key] = value }
        return try TransferTests.stitch(6, 6, metadata)
    }

    /// Metadata after a transfer.
    static func moved(
        _ kind: Kind, _ json: String, _ stitch: Stitch, _ direction: Direction = .up, site: Site? = nil
    ) throws -> Metadata {
        let metadata = try Metadata(parsing: json, name: "json")
        func ones(_ rows: Int, _ cols: Int) throws -> FloatMatrix {
            try FloatMatrix(Matrix<Float>(rows: rows, cols: cols, elements: [Float](repeating: 1, count: rows * cols)))
        }
        switch kind {
        case .sae:
            var sae = try SAE.random(dIn: 6, dSAE: 8, architecture: .relu, seed: 4)
            sae.metadata = metadata
            return try stitch.transfer(sae, direction: direction, site: site).metadata
        case .probe:
            let probe = try Probe(weights: ones(1, 6), bias: ones(1, 1), metadata: metadata)
            return try stitch.transfer(probe, direction: direction, site: site).metadata
        case .vector:
            let vector = try SteeringVector(vector: ones(1, 6), zMean: 1, mean: ones(1, 6), metadata: metadata)
            return try stitch.transfer(vector, direction: direction, site: site).metadata
        }
    }

    @Test(
        arguments: Kind.allCases,
        [
            "blocks.4.hook_resid_pre", "blocks.3.hook_resid_post", "gpt_neox.layers.3", "layers.3", "hidden_states.4",
        ])
    func namesOfTheSameStreamAreTaken(kind: Kind, name: String) throws {
        let found = try Self.moved(kind, #"{"model_name":"pythia-70m","hook_name":"\#(name)"}"#, Self.stitch())
        // One name is written, and the model's as the stitch has it.
        #expect(found.text("hook_name") == "blocks.7.hook_resid_pre")
        #expect(found.text("model_name") == "EleutherAI/pythia-160m")
        #expect(found["transferred_from"]?["hook_name"] == .string(name))
        #expect(found["transferred_from"]?["model_name"] == .string("pythia-70m"))
        #expect(found["transferred_from"]?["site"] == nil)
    }

    @Test(
        arguments: Kind.allCases,
        [
            ("blocks.4.hook_resid_post", "layer 5"), ("model.layers.4", "layer 5"),
            ("blocks.3.hook_resid_pre", "layer 3"),
            ("blocks.4.hook_resid_mid", "resid_mid of block 4"), ("blocks.4.hook_mlp_out", "mlp_out of block 4"),
            ("blocks.4.hook_attn_out", "attn_out of block 4"), ("blocks.4.attn.hook_z", "attn.hook_z of block 4"),
            ("hook_embed", "token embeddings"), ("ln_final.hook_normalized", "final norm"), ("somewhere", "somewhere"),
        ])
    func otherStreamsAreRefusedByName(kind: Kind, name: (String, String)) throws {
        let json = #"{"model_name":"pythia-70m","hook_name":"\#(name.0)"}"#
        #expect {
            try Self.moved(kind, json, Self.stitch())
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return [name.0, name.1, "expected", "site"].allSatisfy(message.contains)
        }
        // The one way to insist.
        let found = try Self.moved(kind, json, Self.stitch(), site: Site(layer: 4))
        #expect(found.text("hook_name") == "blocks.7.hook_resid_pre")
        #expect(found["transferred_from"]?["hook_name"] == .string(name.0))
        #expect(found["transferred_from"]?["site"] == .string("blocks.4.hook_resid_pre"))
    }

    @Test(arguments: Kind.allCases)
    func theOtherWayRound(kind: Kind) throws {
        let json = #"{"model_name":"pythia-125m","hookpoint":"layers.6","model_hint":"gptneox","note":1}"#
        let found = try Self.moved(kind, json, Self.stitch(), .down)
        #expect(
            found.text()
                == #"{"note":1,"model_name":"EleutherAI/pythia-70m","hook_name":"blocks.4.hook_resid_pre","#
                + #""transferred_from":{"model_name":"pythia-125m","hookpoint":"layers.6","model_hint":"gptneox"}}"#)
        #expect(throws: SutureError.self) { try Self.moved(kind, #"{"hookpoint":"layers.7"}"#, Self.stitch(), .down) }
        #expect(throws: SutureError.self) {
            try Self.moved(kind, #"{"model_name":"pythia-70m"}"#, Self.stitch(), .down)
        }
    }

    @Test(arguments: Kind.allCases)
    func insistingIsComparedToo(kind: Kind) throws {
        #expect {
            try Self.moved(kind, "{}", Self.stitch(), site: Site(layer: 5))
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains("layer 5 (site), expected 4") && !message.contains("say so")
        }
        #expect(throws: SutureError.self) {
            try Self.moved(kind, "{}", Self.stitch(), site: Site(layer: 4, streamName: "mlp_out"))
        }
        #expect(throws: SutureError.self) {
            try Self.moved(kind, #"{"model_name":"pythia-70m-deduped"}"#, Self.stitch(), site: Site(layer: 4))
        }
        let found = try Self.moved(
            kind, #"{"model_name":"pythia-70m-deduped"}"#, Self.stitch(), site: Site(model: "pythia-70m", layer: nil))
        #expect(found["transferred_from"]?["model_name"] == .string("pythia-70m-deduped"))
    }

    @Test(arguments: Kind.allCases)
    func whatIsNotKnownIsNotCompared(kind: Kind) throws {
        #expect(try Self.moved(kind, "{}", Self.stitch()).text("hook_name") == "blocks.7.hook_resid_pre")
        let silent = try Self.stitch([("layer_a", nil), ("layer_b", nil), ("model_a", nil), ("model_b", nil)])
        let found = try Self.moved(kind, #"{"model_name":"m","hook_name":"blocks.4.hook_mlp_out"}"#, silent)
        #expect(found["hook_name"] == nil && found["model_name"] == nil)
        // One known side is a residual stream, so the other is.
        let half = try Self.stitch([("layer_a", nil)])
        #expect(try Self.moved(kind, #"{"hook_name":"layers.9"}"#, half).text("hook_name") == "blocks.7.hook_resid_pre")
        #expect(throws: SutureError.self) { try Self.moved(kind, #"{"hook_name":"blocks.4.hook_mlp_out"}"#, half) }
    }

    /// Only with the number of blocks can the last of hidden_states be seen to have passed the final norm.
    @Test func theLastOfHiddenStates() throws {
        let last = #"{"hook_name":"hidden_states.6"}"#
        let blind = try Self.stitch([("layer_a", .integer(6))])
        #expect(try Self.moved(.sae, last, blind).text("hook_name") == "blocks.7.hook_resid_pre")
        let seeing = try Self.stitch([("layer_a", .integer(6)), ("n_layers_a", .integer(6))])
        #expect {
            try Self.moved(.sae, last, seeing)
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains("final norm")
        }
        #expect(try Self.moved(.sae, #"{"hook_name":"layers.5"}"#, seeing)["hook_name"] != nil)
        for odd: JSON in [.integer(0), .integer(-1), .string("x"), .integer(.max)] {
            let stitch = try Self.stitch([("n_layers_a", odd)])
            #expect(throws: SutureError.self) { try Self.moved(.sae, #"{"hook_name":"hidden_states.-2"}"#, stitch) }
            #expect(try Self.moved(.sae, #"{"hook_name":"layers.3"}"#, stitch)["hook_name"] != nil)
        }
    }

    @Test func stitchesMayNameTheirLayers() throws {
        let named = try Self.stitch([
            ("layer_a", .string("blocks.3.hook_resid_post")), ("layer_b", .string("layers.6")),
        ])
        let found = try Self.moved(.sae, #"{"hook_name":"blocks.4.hook_resid_pre"}"#, named)
        #expect(found.text("hook_name") == "blocks.7.hook_resid_pre")
        for bad: JSON in [.string("here"), .string("blocks.4.hook_mlp_out"), .integer(-1), .integer(.max), .bool(true)]
        {
            #expect {
                try Self.moved(.sae, "{}", Self.stitch([("layer_b", bad)]))
            } throws: { error in
                guard case .invalidArgument(let message)? = error as? SutureError else { return false }
                return message.contains("layer_b of the stitch is")
            }
        }
    }
}

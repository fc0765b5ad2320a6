// SPDX-License-Identifier: Apache-2.0
import Suture
import SutureTestSupport
import Testing

@Suite struct SiteTests {
    /// Names of the residual stream before block 5.
    static let namesOfFive = [
        "blocks.5.hook_resid_pre", "blocks.4.hook_resid_post", "blocks.5.hook_in", "blocks.4.hook_out",
        // Modules of transformers by what they put out; the paths of `models/_residual.py`.
        "gpt_neox.layers.4", "transformer.h.4", "model.layers.4", "model.decoder.layers.4", "transformer.blocks.4",
        "transformer.layers.4", "backbone.layers.4", "model.language_model.layers.4", "language_model.model.layers.4",
        "decoder.layers.4", "layers.4", "h.4", "model.layers.4.output", "model.layers.5.input",
        "model.layers[4].output[0]", "base_model.model.model.layers.4", "_orig_mod.model.layers.4",
        // sparsify's hookpoints and folders.
        "layers_4", "runs/sae-pythia-70m-32k/layers.4",
        "hidden_states.5", "hidden_states[5]", "outputs.hidden_states[5]",
        // Folders of collections, and identifiers of SAELens.
        "resid_post_layer_4", "x/resid_post_layer_4/trainer_0", "resid_post/layer_4_width_16k_l0_big",
        "resid_post_all/layer_4_width_16k_l0_small", "google/gemma-scope-2b-pt-res/layer_4/width_16k/average_l0_71",
        "gemma-scope-2b-pt-res-canonical/layer_4/width_16k/canonical", "l4r_8x", "Llama3_1-8B-Base-L4R-32x",
        "blocks.5.hook_resid_pre_24576", "blocks.4.hook_resid_post__trainer_3_step_9764", "resid_post.4",
        "  blocks.5.hook_resid_pre ",
    ]

    @Test(arguments: namesOfFive)
    func namesOfOneStream(name: String) throws {
        let site = try Site(parsing: name, nLayers: 12)
        #expect(site.stream == .residual && site.layer == 5)
        #expect(site.hookName == "blocks.5.hook_resid_pre")
        #expect(try Site(parsing: name) == site)
        // What is written is read again.
        #expect(try Site(parsing: #require(site.hookName)) == site)
    }

    static let otherStreams: [(String, String, Int?)] = [
        ("blocks.4.hook_resid_mid", "resid_mid", 4), ("blocks.4.hook_mlp_out", "mlp_out", 4),
        ("blocks.4.hook_attn_out", "attn_out", 4), ("blocks.4.attn.hook_z", "attn.hook_z", 4),
        ("blocks.4.ln1.hook_normalized", "ln1.hook_normalized", 4), ("layers.4.mlp", "mlp", 4),
        ("model.layers.4.self_attn.o_proj.input", "self_attn.o_proj.input", 4),
        ("model.layers.4.output.1", "output.1", 4), ("hook_embed", "embed", nil), ("model.embed_tokens", "embed", nil),
        ("transformer.wte", "embed", nil), ("transformer.wpe", "pos_embed", nil),
        ("ln_final.hook_normalized", "final_norm", nil), ("model.norm", "final_norm", nil),
        ("transformer.ln_f", "final_norm", nil), ("gpt_neox.final_layer_norm", "final_norm", nil),
        ("hidden_states.-1", "final_norm", nil), ("last_hidden_state", "final_norm", nil), ("lm_head", "logits", nil),
        ("vision_tower.encoder.layers.4", "vision_tower.encoder.layers.4", 4), ("l4m_8x", "mlp_out", 4),
        ("mlp_out/layer_4_width_16k_l0_big", "mlp_out", 4),
        ("gemma-scope-2b-pt-att/layer_4/width_16k", "attn.hook_z", 4),
        ("transcoder_all/layer_4_width_16k_l0_big", "transcoder", 4), ("mlp_out_layer_4", "mlp_out", 4),
    ]

    @Test func otherStreamsKeepTheirNames() throws {
        for (name, stream, layer) in Self.otherStreams {
            let site = try Site(parsing: name)
            #expect(site.streamName == stream && site.layer == layer && site.hookName == nil, "\(name)")
        }
    }

    @Test func theEndsOfAModel() throws {
        #expect(try Site(parsing: "transformer.drop").layer == 0)
        #expect(try Site(parsing: "hidden_states.0").layer == 0)
        // The last block's output is the stream before the final norm; the last of hidden_states is behind it.
        #expect(try Site(parsing: "model.layers.11", nLayers: 12).layer == 12)
        #expect(try Site(parsing: "model.norm.input", nLayers: 12) == Site(layer: 12))
        #expect(try Site(parsing: "hidden_states.11", nLayers: 12).layer == 11)
        #expect(try Site(parsing: "hidden_states.12", nLayers: 12).streamName == "final_norm")
        #expect(try Site(parsing: "hidden_states.-2", nLayers: 12).layer == 11)
        #expect(throws: SutureError.self) { try Site(parsing: "hidden_states.-14", nLayers: 12) }
        #expect(throws: SutureError.self) { try Site(parsing: "hidden_states.-2") }
        #expect(throws: SutureError.self) { try Site(parsing: "model.layers.12", nLayers: 12) }
    }

    static let unreadable = [
        "", " ", "4", "foo", "blocks", "blocks.", "blocks.x", "blocks.-1.hook_resid_pre", "blocks.4.hook_foo",
        "blocks.{layer}.hook_resid_pre", "blocks..4", ".layers.4", "layers.1234567", "layers.99999999999999999999",
        "layer_20/width_16k/average_l0_71", "layer5.sae.pt", "layers.3/layers.4", "gemma-scope-2b-pt-res", "läyers.4",
        "hidden_states", "hidden_states.x", "model.layers.٤", "blocks.4.hook_resid_pre_", "l15r", "norm.4.x.y.z",
        String(repeating: "layers.4/", count: 1000), String(repeating: "[", count: 900),
    ]

    @Test(arguments: unreadable)
    func unreadableNamesAreErrors(name: String) {
        #expect {
            try Site(parsing: name)
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains("expected a name of the residual stream") && message.contains("hook_resid_post")
                && message.utf8.count < 700
        }
    }

    /// Whatever the name, it is read or refused, and what is read is written such that it reads the same.
    @Test func noNameTraps() throws {
        let pieces = [
            "blocks", "layers", "h", ".", "/", "[", "]", "4", "-1", "999999", "9223372036854775807", "hook_resid_post",
            "hook_resid_pre", "hidden_states", "_", "-", " ", "l15r", "8x", "layer_", "gemma-scope-", "res", "encoder",
            "output", "input", "norm", "embed", "é", "\u{0}", "{layer}", "resid_post_layer_", "model", "x", "\u{301}",
        ]
        var random = RandomSource(seed: 5)
        var read = 0
        for _ in 0..<40_000 {
            let name = (0..<(1 + random.below(8))).map { _ in pieces[random.below(pieces.count)] }.joined(
                separator: ["", ".", "/"][random.below(3)])
            let count = random.below(3) == 0 ? random.below(40) : nil
            guard let site = try? Site(parsing: name, nLayers: count) else { continue }
            read += 1
            if let hook = site.hookName { #expect(try Site(parsing: hook) == site) }
        }
        #expect(read > 1000)
    }

    @Test func impossibleSitesAreErrors() {
        #expect(throws: SutureError.self) { try Site(layer: -1) }
        #expect(throws: SutureError.self) { try Site(layer: .max) }
        #expect(throws: SutureError.self) { try Site(layer: 3, streamName: "resid_post") }
        #expect(throws: SutureError.self) { try Site(layer: 3, streamName: "") }
        #expect(throws: SutureError.self) { try Site(parsing: "h.0", nLayers: 0) }
        for huge in [Int.max, .min] {
            #expect(throws: SutureError.self) { try Site(parsing: "hidden_states.-2", nLayers: huge) }
        }
    }

    // MARK: Models

    static let sameModels = [
        ("pythia-70m", "EleutherAI/pythia-70m"), ("gpt2-small", "gpt2"), ("gpt2", "openai-community/gpt2"),
        ("gemma-2-2b", "google/gemma-2-2b"), ("qwen3-0.6b", "Qwen/Qwen3-0.6B"),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1"),
        ("EleutherAI/pythia-19m", "pythia-70m"), ("pythia-1.3b-deduped-v0", "EleutherAI/pythia-1.4b-deduped-v0"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/data/models/pythia-70m/", "EleutherAI/pythia-70m"),
        ("./small", "small"), ("examples/models/pair/small", "small"), ("C:\\models\\small", "small"),
        ("/data/.cache/huggingface/hub/models--EleutherAI--pythia-70m/snapshots/0123abc", "EleutherAI/pythia-70m"),
        ("/cache/models--gpt2/snapshots/1", "gpt2-small"), ("llama-2-7b", "meta-llama/Llama-2-7b-hf"),
    ]
    static let otherModels = [
        ("pythia-70m", "EleutherAI/pythia-70m-deduped"), ("pythia-70m", "pythia-70m-v0"), ("small", "large"),
        ("someone/pythia-70m", "EleutherAI/pythia-70m"), ("gpt2", "gpt2-medium"), ("someone/gpt2-small", "gpt2"),
        ("gemma-2-2b", "gemma-2-2b-it"), ("gemma-2b", "gemma-2-2b"), ("pythia-70m", "pythia-7m"),
        ("/cache/models--someone--pythia-70m/snapshots/1", "EleutherAI/pythia-70m"), ("pythia-160m", "pythia-70m"),
    ]

    @Test func modelsByTheirNames() {
        for (a, b) in Self.sameModels {
            #expect(ModelName.areSame(a, b) && ModelName.areSame(b, a), "\(a) and \(b)")
        }
        for (a, b) in Self.otherModels {
            #expect(!ModelName.areSame(a, b) && !ModelName.areSame(b, a), "\(a) and \(b)")
        }
        for odd in ["", "/", "//", "models--", "models----", ".", "~", "\\", "é/è", ":"] {
            #expect(ModelName.areSame(odd, odd) && !ModelName.areSame(odd, "gpt2"))
        }
    }

    // MARK: Metadata

    static func site(_ json: String) throws -> Site { try Site(of: Metadata(parsing: json, name: "json")) }

    @Test func metadataSayWhereSomethingIsFrom() throws {
        let five = try Site(model: "m", layer: 5)
        for names in [
            #""hook_name":"blocks.4.hook_resid_post""#, #""hookpoint":"layers.4""#,
            #""hook_point":"blocks.5.hook_resid_pre""#,
            #""hook_name":null,"hf_hook_name":"model.layers.4.output""#,
            // SAELens' loader of Qwen Scope writes both.
            #""hook_name":"blocks.4.hook_resid_post","hf_hook_name":"model.layers.4","hook_layer":4"#,
            #""hook_name":"blocks.{layer}.hook_resid_post","hook_layer":4"#,
            // One readable name is enough.
            #""hook_name":"my favourite","hookpoint":"layers.4""#,
            #""hook_name":"blocks.4.hook_resid_post","hook_name_out":"blocks.5.hook_resid_pre""#,
        ] {
            #expect(try Self.site("{\"model_name\":\"m\",\(names)}") == five, "\(names)")
        }
        #expect(try Self.site("{}") == Site(layer: nil))
        #expect(try Self.site(#"{"hook_layer":4,"hook_name":""}"#).layer == nil)
        // A transcoder is of no one stream.
        #expect(
            try Self.site(#"{"hook_name":"blocks.4.hook_resid_pre","hook_name_out":"blocks.4.hook_mlp_out"}"#).stream
                != .residual)
    }

    @Test(arguments: [
        (#""hook_name":"blocks.4.hook_resid_post","hf_hook_name":"model.layers.5""#, "names of one stream"),
        (#""hook_name":"blocks.4.hook_mlp_out","hookpoint":"layers.4""#, "names of one stream"),
        (#""hook_name":"blocks.4.hook_resid_post","hook_layer":6"#, "hook_layer 6"),
        (#""hook_name":"blocks.4.hook_mlp_out","hook_layer":3"#, "hook_layer 3"),
        (#""hook_name":4"#, "hook_name of metadata is \"4\", expected text"), (#""hookpoint":"here""#, "hookpoint"),
        (#""hook_name":"blocks.{layer}.hook_resid_post""#, "hook_name"),
    ])
    func contradictionsAreErrors(names: String, words: String) {
        #expect {
            try Self.site("{\(names)}")
        } throws: { error in
            guard case .invalidArgument(let message)? = error as? SutureError else { return false }
            return message.contains(words)
        }
    }
}

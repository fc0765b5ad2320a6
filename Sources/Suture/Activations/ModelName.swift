// SPDX-License-Identifier: Apache-2.0

/// When two names are the same model's.
///
/// Names are compared without case. `EleutherAI/pythia-70m` and `pythia-70m` are the same, as are a folder of
/// that name and a snapshot in Hugging Face's cache; `EleutherAI/pythia-70m-deduped` is another model, and
/// so is `someone/pythia-70m`. TransformerLens' short names stand for the models that it loads by them.
public enum ModelName {
    public static func areSame(_ a: String, _ b: String) -> Bool {
        let (a, b) = (Parts(a), Parts(b))
        guard a.name == b.name else { return false }
        guard let mine = a.owner, let its = b.owner else { return true }
        return mine == its
    }

    private struct Parts {
        var owner: String?
        var name: String

        init(_ text: String) {
            let folded = String(text.lowercased().map { $0 == "\\" ? "/" : $0 })
            let parts = folded.split(separator: "/").filter { $0 != "." }.map(String.init)
            let isPath =
                folded.hasPrefix("/") || folded.hasPrefix(".") || folded.hasPrefix("~") || parts.count > 2
                || folded.dropFirst().hasPrefix(":")
            // models--EleutherAI--pythia-70m/snapshots/…
            if let cached = parts.last(where: { $0.hasPrefix("models--") }) {
                let pieces = String(cached.dropFirst(8)).pieces(between: "--")
                (owner, name) = (pieces.count > 1 ? pieces[0] : nil, pieces.last ?? cached)
            } else {
                (owner, name) = (parts.count == 2 && !isPath ? parts[0] : nil, parts.last ?? folded)
            }
            let whole = owner.map { "\($0)/\(name)" } ?? name
            if let official = ModelName.official[whole] ?? ModelName.renamed(whole) {
                let pieces = official.split(separator: "/", maxSplits: 1).map(String.init)
                (owner, name) = (pieces.count > 1 ? pieces[0] : nil, pieces.last ?? official)
            }
        }
    }

    /// Pythia's names from before January 2023, which counted parameters without embeddings.
    private static let pythiaSizes = [
        "19m": "70m", "125m": "160m", "350m": "410m", "800m": "1b", "1.3b": "1.4b", "2.7b": "2.8b", "6.7b": "6.9b",
        "13b": "12b",
    ]

    private static func renamed(_ name: String) -> String? {
        let bare = name.hasPrefix("eleutherai/") ? name.dropFirst(11) : name[...]
        guard bare.hasPrefix("pythia-") else { return nil }
        let size = bare.dropFirst(7).prefix { $0 != "-" }
        return pythiaSizes[String(size)].map { "eleutherai/pythia-\($0)\(bare.dropFirst(7 + size.count))" }
    }

    /// By short or former name: the official one.
    private static let official: [String: String] = {
        var found: [String: String] = [:]
        for line in table.lowercased().split(separator: "\n") {
            let names = line.split(separator: " ").map(String.init)
            for other in names.dropFirst() { found[other] = names[0] }
        }
        return found
    }()

    /// Official name, then its other names: TransformerLens' aliases (3.9, `supported_models.py`) of causal
    /// language models, as far as they are not the last part of the official name, and repositories that
    /// Hugging Face has moved.
    private static let table = """
        openai-community/gpt2 gpt2 gpt2-small
        openai-community/gpt2-medium gpt2-medium
        openai-community/gpt2-large gpt2-large
        openai-community/gpt2-xl gpt2-xl
        distilbert/distilgpt2 distilgpt2 distillgpt2 distill-gpt2 distil-gpt2 gpt2-xs
        EleutherAI/pythia-70m pythia
        EleutherAI/pythia-70m-v0 pythia-v0
        EleutherAI/gpt-neo-125M gpt-neo-small neo-small neo
        EleutherAI/gpt-neo-1.3B gpt-neo-medium neo-medium
        EleutherAI/gpt-neo-2.7B gpt-neo-large neo-large
        EleutherAI/gpt-j-6B gpt-j gptj
        EleutherAI/gpt-neox-20b gpt-neox neox
        facebook/opt-125m opt-small opt
        facebook/opt-1.3b opt-medium
        facebook/opt-2.7b opt-large
        facebook/opt-6.7b opt-xl
        facebook/opt-13b opt-xxl
        facebook/opt-30b opt-xxxl
        facebook/opt-66b opt-xxxxl
        meta-llama/Llama-2-7b-hf llama-2-7b
        meta-llama/Llama-2-7b-chat-hf llama-2-7b-chat
        meta-llama/Llama-2-13b-hf llama-2-13b
        meta-llama/Llama-2-13b-chat-hf llama-2-13b-chat
        meta-llama/Llama-2-70b-chat-hf llama-2-70b-chat meta-llama-2-70b-chat-hf
        meta-llama/Llama-3.1-8B meta-llama/Meta-Llama-3.1-8B meta-llama-3.1-8b
        meta-llama/Llama-3.1-8B-Instruct meta-llama/Meta-Llama-3.1-8B-Instruct meta-llama-3.1-8b-instruct
        meta-llama/Llama-3.1-70B meta-llama/Meta-Llama-3.1-70B meta-llama-3.1-70b
        meta-llama/Llama-3.1-70B-Instruct meta-llama/Meta-Llama-3.1-70B-Instruct meta-llama-3.1-70b-instruct
        llama-7b-hf llama-7b
        llama-13b-hf llama-13b
        llama-30b-hf llama-30b
        llama-65b-hf llama-65b
        codellama/CodeLlama-7b-hf codellamallama-2-7b
        codellama/CodeLlama-7b-Instruct-hf codellama-7b-instruct
        codellama/CodeLlama-7b-Python-hf codellama-7b-python
        mistralai/Mistral-7B-v0.1 mistral-7b
        mistralai/Mistral-7B-Instruct-v0.1 mistral-7b-instruct
        mistralai/Mixtral-8x7B-v0.1 mixtral mixtral-8x7b
        mistralai/Mixtral-8x7B-Instruct-v0.1 mixtral-instruct mixtral-8x7b-instruct
        microsoft/Phi-3-mini-4k-instruct phi-3
        Qwen/Qwen-1_8B qwen-1.8b
        Qwen/Qwen-1_8B-Chat qwen-1.8b-chat
        Qwen/QwQ-32B-Preview qwen-32b-preview
        openai/gpt-oss-20b gpt-oss
        allenai/OLMo-1B-hf olmo-1b
        allenai/OLMo-7B-hf olmo-7b
        allenai/OLMo-2-0425-1B olmo-2-1b
        allenai/OLMo-2-1124-7B olmo-2-7b
        allenai/OLMoE-1B-7B-0924 olmoe
        swiss-ai/Apertus-8B-2509 apertus-8b apertus
        swiss-ai/Apertus-8B-Instruct-2509 apertus-8b-instruct apertus-instruct
        stabilityai/stablelm-base-alpha-3b stablelm-base-3b
        stabilityai/stablelm-base-alpha-7b stablelm-base-7b
        stabilityai/stablelm-tuned-alpha-3b stablelm-tuned-3b
        stabilityai/stablelm-tuned-alpha-7b stablelm-tuned-7b
        roneneldan/TinyStories-1M tiny-stories-1m
        roneneldan/TinyStories-3M tiny-stories-3m
        roneneldan/TinyStories-8M tiny-stories-8m
        roneneldan/TinyStories-28M tiny-stories-28m
        roneneldan/TinyStories-33M tiny-stories-33m
        roneneldan/TinyStories-1Layer-21M tiny-stories-1l-21m
        roneneldan/TinyStories-2Layers-33M tiny-stories-2l-33m
        roneneldan/TinyStories-Instruct-1M tiny-stories-instruct-1m
        roneneldan/TinyStories-Instruct-3M tiny-stories-instruct-3m
        roneneldan/TinyStories-Instruct-8M tiny-stories-instruct-8m
        roneneldan/TinyStories-Instruct-28M tiny-stories-instruct-28m
        roneneldan/TinyStories-Instruct-33M tiny-stories-instruct-33m
        roneneldan/TinyStories-Instruct-2Layers-33M tiny-stories-instruct-2l-33m
        roneneldan/TinyStories-Instuct-1Layer-21M tiny-stories-instruct-1l-21m
        stanford-crfm/alias-gpt2-small-x21 stanford-gpt2-small-a gpt2-mistral-small-a gpt2-stanford-small-a
        stanford-crfm/battlestar-gpt2-small-x49 stanford-gpt2-small-b gpt2-mistral-small-b
        stanford-crfm/caprica-gpt2-small-x81 stanford-gpt2-small-c gpt2-mistral-small-c gpt2-stanford-small-c
        stanford-crfm/darkmatter-gpt2-small-x343 stanford-gpt2-small-d gpt2-mistral-small-d
        stanford-crfm/expanse-gpt2-small-x777 stanford-gpt2-small-e gpt2-mistral-small-e
        stanford-crfm/arwen-gpt2-medium-x21 stanford-gpt2-medium-a gpt2-medium-small-a gpt2-stanford-medium-a
        stanford-crfm/beren-gpt2-medium-x49 stanford-gpt2-medium-b gpt2-medium-small-b gpt2-stanford-medium-b
        stanford-crfm/celebrimbor-gpt2-medium-x81 stanford-gpt2-medium-c gpt2-medium-small-c
        stanford-crfm/durin-gpt2-medium-x343 stanford-gpt2-medium-d gpt2-medium-small-d gpt2-stanford-medium-d
        stanford-crfm/eowyn-gpt2-medium-x777 stanford-gpt2-medium-e gpt2-medium-small-e gpt2-stanford-medium-e
        Baidicoot/Othello-GPT-Transformer-Lens othello-gpt
        NeelNanda/Attn_Only_1L512W_C4_Code attn-only-1l attn-only-1l-new attn-only-1l-c4-code
        NeelNanda/Attn_Only_2L512W_C4_Code attn-only-2l attn-only-2l-new attn-only-2l-c4-code
        NeelNanda/Attn_Only_3L512W_C4_Code attn-only-3l attn-only-3l-new attn-only-3l-c4-code
        NeelNanda/Attn_Only_4L512W_C4_Code attn-only-4l attn-only-4l-new attn-only-4l-c4-code
        NeelNanda/Attn-Only-2L512W-Shortformer-6B-big-lr attn-only-2l-demo attn-only-2l-shortformer-6b-big-lr \
        attn-only-2l-induction-demo attn-only-demo
        NeelNanda/GELU_1L512W_C4_Code gelu-1l gelu-1l-new gelu-1l-c4-code
        NeelNanda/GELU_2L512W_C4_Code gelu-2l gelu-2l-new gelu-2l-c4-code
        NeelNanda/GELU_3L512W_C4_Code gelu-3l gelu-3l-new gelu-3l-c4-code
        NeelNanda/GELU_4L512W_C4_Code gelu-4l gelu-4l-new gelu-4l-c4-code
        NeelNanda/SoLU_1L512W_C4_Code solu-1l solu-1l-new solu-1l-c4-code
        NeelNanda/SoLU_1L512W_Wiki_Finetune solu-1l-wiki solu-1l-wiki-finetune solu-1l-finetune
        NeelNanda/SoLU_1L_v9_old solu-1l-pile solu-1l-old
        NeelNanda/SoLU_2L512W_C4_Code solu-2l solu-2l-new solu-2l-c4-code
        NeelNanda/SoLU_2L_v10_old solu-2l-pile solu-2l-old
        NeelNanda/SoLU_3L512W_C4_Code solu-3l solu-3l-new solu-3l-c4-code
        NeelNanda/SoLU_4L512W_C4_Code solu-4l solu-4l-new solu-4l-c4-code
        NeelNanda/SoLU_4L512W_Wiki_Finetune solu-4l-wiki solu-4l-wiki-finetune solu-4l-finetune
        NeelNanda/SoLU_4L_v11_old solu-4l-pile solu-4l-old
        NeelNanda/SoLU_6L768W_C4_Code solu-6l solu-6l-new solu-6l-c4-code
        NeelNanda/SoLU_6L_v13_old solu-6l-pile solu-6l-old
        NeelNanda/SoLU_8L1024W_C4_Code solu-8l solu-8l-new solu-8l-c4-code
        NeelNanda/SoLU_8L_v21_old solu-8l-pile solu-8l-old
        NeelNanda/SoLU_10L1280W_C4_Code solu-10l solu-10l-new solu-10l-c4-code
        NeelNanda/SoLU_10L_v22_old solu-10l-pile solu-10l-old
        NeelNanda/SoLU_12L1536W_C4_Code solu-12l solu-12l-new solu-12l-c4-code
        NeelNanda/SoLU_12L_v23_old solu-12l-pile solu-12l-old
        """
}

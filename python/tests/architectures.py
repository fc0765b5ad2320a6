# SPDX-License-Identifier: Apache-2.0
"""Tiny models of any architecture of transformers, and what suture.models makes of them.

As a program it tries all causal language models that the installed transformers has and prints a
line for each: what docs/models.md lists. It takes some minutes of one core.

    python python/tests/architectures.py [MODEL_TYPE …]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import suture
from suture.models import extract, next_token_loss, steer
from suture.models._residual import find_blocks, stream_width

WIDTH, BLOCKS, HEADS, VOCABULARY = 32, 4, 4, 64
# What a size may be called in a configuration. Whatever of these one has as a number is set.
SIZES: dict[str, int | float] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "embedding_size",
         "out_hidden_size", "word_embed_proj_dim", "lru_width", "projection_dim"), WIDTH,
    ),
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "n_inner", "d_inner", "dff", "d_ff", "ffn_hidden_size",
         "inner_dim", "encoder_ffn_dim", "decoder_ffn_dim", "dim_ff", "feed_forward_size"), 64,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_blocks",
         "num_decoder_layers"), BLOCKS,
    ),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "depth"), 2),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
         "encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads",
         "attention_heads"), HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "dim_head", "d_head", "attention_head_size", "kv_channels"), 8),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "n_ctx",
         "max_source_positions", "max_sequence_length", "original_max_position_embeddings"), 128,
    ),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size",
         "moe_shared_expert_intermediate_size", "shared_intermediate_size"), 32,
    ),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4,
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2,
    ),
    **dict.fromkeys(
        ("n_group", "topk_group", "num_expert_group", "n_shared_experts", "first_k_dense_replace",
         "mamba_n_groups", "n_groups", "num_random_blocks"), 1,
    ),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(
        ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "o_lora_rank", "index_head_dim",
         "index_topk", "mamba_d_state", "state_size", "ssm_state_size", "linear_key_head_dim",
         "linear_value_head_dim", "hidden_size_per_layer_input", "sliding_window", "num_buckets",
         "attention_window_size", "patch_size", "segment_types"), 8,
    ),
    **dict.fromkeys(
        ("mamba_d_head", "mamba_head_dim", "mamba_headdim", "chunk_size", "mamba_chunk_size",
         "block_size", "image_size"), 16,
    ),
    **dict.fromkeys(
        ("mamba_n_heads", "mamba_num_heads", "time_step_rank", "mamba_dt_rank", "laurel_rank",
         "linear_num_value_heads", "prompt_length", "prompt_types"), 4,
    ),
    **dict.fromkeys(("index_n_heads", "linear_num_key_heads", "num_codebooks", "n_mamba_heads"), 2),
    "mamba_d_ssm": 64, "num_kv_shared_layers": 0,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 3,
    "image_token_id": 60, "image_token_index": 60, "audio_token_id": 61, "video_token_id": 62,
    # Large, so that attention does something.
    "initializer_range": 0.2, "init_std": 0.2,
}  # fmt: skip
KINDS = ["full_attention", "sliding_attention"] * 2
# What the rules above leave wrong.
MORE: dict[str, dict[str, Any]] = {
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [2, 3]},
    "codegen": {"rotary_dim": 4},
    "cpmant": {"position_bias_num_buckets": 8},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gemma3n_text": {
        "intermediate_size": [64] * BLOCKS, "layer_types": KINDS,
        "activation_sparsity_pattern": [0.0] * BLOCKS,
    },
    "gptj": {"rotary_dim": 4},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "longcat_flash": {"num_layers": 2},
    "mamba2": {"head_dim": 16, "num_heads": 4},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "prophetnet": {"add_cross_attention": False, "is_encoder_decoder": False},
    "reformer": {
        "attn_layers": ["local", "lsh"] * 2, "axial_pos_shape": (8, 8), "num_buckets": 2,
        "axial_pos_embds_dim": (16, 16), "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4, "is_decoder": True, "max_position_embeddings": 64,
    },
    "xmod": {"languages": ["en_XX"]},
}  # fmt: skip
LEFT = {
    "gemma4_text": ("head_dim",), "prophetnet": ("num_hidden_layers",),
    "xlnet": ("max_position_embeddings",), "zaya": ("num_experts_per_tok",),
}  # fmt: skip
ENCODERS = (
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie",
    "megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "beam",
)  # fmt: skip
LARGEST = 20_000_000


def build(model_type: str) -> Any:
    """A tiny model with random weights, always the same, in eval mode.

    Raises:
        Exception: the rules above do not make a sound configuration.
    """
    config = _config(model_type)
    auto = transformers.AutoModelForCausalLM
    with torch.device("meta"):
        size = sum(p.numel() for p in auto.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size} parameters")
    torch.manual_seed(3)
    model = auto.from_config(config).eval()
    if model_type == "xmod":
        model.set_default_language("en_XX")
    return model


def _config(model_type: str) -> Any:
    kind = transformers.CONFIG_MAPPING[model_type]
    plain = kind()
    parts = {
        name: {"model_type": part.model_type, **_sizes(part)}
        for name in getattr(kind, "sub_configs", {})
        if (part := getattr(plain, name, None)) is not None
    }
    values = _sizes(plain) | parts | MORE.get(model_type, {})
    if model_type in ENCODERS:
        values["is_decoder"] = True
    for name in LEFT.get(model_type, ()):
        values.pop(name, None)
    while True:
        try:
            return kind(**values)
        except AttributeError as error:
            # A size that follows from the others.
            fixed = re.search(r"property '(\w+)' of", str(error))
            if fixed is None:
                raise
            for target in (values, *parts.values()):
                target.pop(fixed[1], None)


def _sizes(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, size in SIZES.items():
        try:
            value = getattr(config, name, None)
        except Exception:  # what varies from layer to layer says so with an error of its own
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = size
    if "kv_lora_rank" in found:
        found["num_key_value_heads"] = HEADS
    deep = getattr(config, "num_hidden_layers", None)
    for name, value in config.to_dict().items():
        if isinstance(value, (list, tuple)) and len(value) == deep != BLOCKS:
            kinds = list(dict.fromkeys(value)) if name == "layer_types" else list(value)
            found[name] = [kinds[i % len(kinds)] for i in range(BLOCKS)]
    return found


@dataclass(frozen=True)
class Found:
    """What became of a model: "works", or the words that refused it."""

    extract: str
    loss: str
    steer: str

    @property
    def works(self) -> bool:
        return self.extract == self.loss == self.steer == "works"


def look(model: Any) -> Found:
    """Tries a model; an error that is not one of Suture's own passes through."""
    random = np.random.default_rng(5)
    ids = [random.integers(5, 55, n).tolist() for n in (9, 4, 11, 7)]
    return Found(
        _words(lambda: _reads(model, ids)),
        _words(lambda: _loses(model, ids)),
        _words(lambda: _steers(model, ids[0])),
    )


def _words(attempt: Any) -> str:
    try:
        attempt()
    except ValueError as error:
        if not str(error).startswith(("model: ", "layers: ", "layer: ")):
            raise
        return str(error)
    return "works"


def _reads(model: Any, ids: list[list[int]]) -> None:
    """Rows are the model's hidden states, in whatever batch."""
    layers = range(len(find_blocks(model)) + 1)
    acts = extract(model, None, ids, layers, batch_size=3, progress=False)
    alone = extract(model, None, ids, layers, batch_size=1, progress=False)
    for layer in layers:
        np.testing.assert_allclose(acts[layer], alone[layer], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        runs = [
            model(input_ids=torch.tensor([s]), output_hidden_states=True, use_cache=False)
            for s in ids
        ]
    hidden = [np.concatenate(part) for part in zip(*(_numbers(run) for run in runs), strict=True)]
    # Recurrent models list the streams after their blocks.
    shift = 0 if np.allclose(hidden[0], acts[0], rtol=1e-3, atol=1e-4) else 1
    for layer in range(shift, layers[-1]):
        np.testing.assert_allclose(acts[layer], hidden[layer - shift], rtol=1e-3, atol=1e-4)


def _numbers(run: Any) -> list[Any]:
    return [stream[0].float().numpy() for stream in run.hidden_states]


def _loses(model: Any, ids: list[list[int]]) -> None:
    """The loss is the model's own."""
    batch = torch.tensor(ids[2:3])
    with torch.no_grad():
        logits = model(input_ids=batch, use_cache=False).logits[0, :-1].float()
    expected = torch.nn.functional.cross_entropy(logits, batch[0, 1:]).item()
    found = next_token_loss(model, ids[2:3], score_special=True, progress=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def _steers(model: Any, ids: list[int]) -> None:
    """Steering has an effect, none where no row counts, and is gone afterwards."""
    vector = suture.SteeringVector(np.eye(stream_width(model))[3], z_mean=25.0)
    batch = torch.tensor([ids])

    def logits() -> Any:
        with torch.no_grad():
            return model(input_ids=batch, use_cache=False).logits.float()

    plain = logits()
    with steer(model, vector, 2):
        assert (logits() - plain).abs().max() > 1e-3, "steering has no effect"
    with steer(model, vector, 2, rows=suture.Rows(leave_out=ids, norm_bound=None)):
        torch.testing.assert_close(logits(), plain)
    torch.testing.assert_close(logits(), plain)


def main(model_types: list[str]) -> None:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    for name in model_types or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            model = build(name)
        except Exception as error:
            print(f"{name}: not built: {_line(error)}", flush=True)
            continue
        try:
            found = look(model)
        except Exception as error:
            print(f"{name}: FAILS: {_line(error)}", flush=True)
            continue
        words: Mapping[str, str] = found.__dict__
        print(f"{name}: {'works' if found.works else words}", flush=True)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


if __name__ == "__main__":
    main(sys.argv[1:])

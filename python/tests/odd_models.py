# SPDX-License-Identifier: Apache-2.0
"""Tiny models, with random weights, of architectures that are not plain stacks of blocks."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCABULARY, WIDTH, BLOCKS = 60, 16, 4
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def _text(kind: str, **more: Any) -> dict[str, Any]:
    return {"model_type": kind, **SIZES, **more}


def _gemma3n(**more: Any) -> Any:
    return transformers.Gemma3nTextConfig(
        **SIZES | {"intermediate_size": [32] * BLOCKS},
        layer_types=["sliding_attention", "full_attention"] * 2,
        activation_sparsity_pattern=[0.0] * BLOCKS, vocab_size_per_layer_input=VOCABULARY,
        hidden_size_per_layer_input=4, laurel_rank=4, num_kv_shared_layers=0, sliding_window=8,
    )  # fmt: skip


def _deepseek_v4() -> Any:
    return transformers.DeepseekV4Config(
        **SIZES, hc_mult=2, q_lora_rank=8, o_lora_rank=8, qk_rope_head_dim=4, n_routed_experts=4,
        num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=16, index_n_heads=2,
        index_head_dim=8, index_topk=8, sliding_window=8,
    )  # fmt: skip


def _paligemma() -> Any:
    return transformers.PaliGemmaConfig(
        text_config=_text("gemma"), vision_config={"model_type": "siglip_vision_model", **VISION},
        image_token_id=59, projection_dim=WIDTH,
    )  # fmt: skip


def _llava() -> Any:
    """Its vision tower is as deep as its language model."""
    return transformers.LlavaConfig(
        text_config=_text("llama"), vision_config={"model_type": "clip_vision_model", **VISION},
        image_token_index=59,
    )  # fmt: skip


def _mllama() -> Any:
    return transformers.models.mllama.configuration_mllama.MllamaTextConfig(
        **{name: size for name, size in SIZES.items() if name != "head_dim"},
        cross_attention_layers=[2], rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip


def _reformer() -> Any:
    return transformers.ReformerConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, attn_layers=["local", "lsh"] * 2,
        axial_pos_shape=(4, 8), axial_pos_embds_dim=(8, 8), local_attn_chunk_length=4,
        lsh_attn_chunk_length=4, is_decoder=True, num_hashes=1, num_buckets=2,
        max_position_embeddings=32, num_attention_heads=2, attention_head_size=8,
        feed_forward_size=32,
    )  # fmt: skip


def _prophetnet() -> Any:
    return transformers.ProphetNetConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_encoder_layers=2, num_decoder_layers=BLOCKS,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_encoder_attention_heads=2,
        num_decoder_attention_heads=2, max_position_embeddings=32, init_std=0.3,
        is_encoder_decoder=False, is_decoder=True, add_cross_attention=False,
    )  # fmt: skip


def _cpmant() -> Any:
    return transformers.CpmAntConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_attention_heads=2, dim_head=8, dim_ff=32,
        num_hidden_layers=BLOCKS, prompt_length=4, prompt_types=4, segment_types=8,
        position_bias_num_buckets=8, init_std=0.3,
    )  # fmt: skip


def _blip() -> Any:
    text = {name: size for name, size in SIZES.items() if name != "head_dim"}
    return transformers.BlipConfig(
        text_config=text | {"encoder_hidden_size": WIDTH, "projection_dim": WIDTH},
        vision_config=VISION, projection_dim=WIDTH,
    )  # fmt: skip


def _t5() -> Any:
    return transformers.T5Config(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=BLOCKS, num_heads=2,
        decoder_start_token_id=0,
    )  # fmt: skip


def _xlnet() -> Any:
    return transformers.XLNetConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_layer=BLOCKS, n_head=2, d_inner=32,
        initializer_range=0.3,
    )  # fmt: skip


def _bert(decoder: bool) -> Any:
    sizes = {k: v for k, v in SIZES.items() if k not in ("head_dim", "num_key_value_heads")}
    return transformers.BertConfig(**sizes, is_decoder=decoder)


MAKERS: dict[str, tuple[str, Any]] = {
    "gemma3n": ("Gemma3nForCausalLM", _gemma3n),
    "deepseek_v4": ("DeepseekV4ForCausalLM", _deepseek_v4),
    "paligemma": ("PaliGemmaForConditionalGeneration", _paligemma),
    "llava": ("LlavaForConditionalGeneration", _llava),
    "mllama": ("MllamaForCausalLM", _mllama),
    "reformer": ("ReformerModelWithLMHead", _reformer),
    "prophetnet": ("ProphetNetForCausalLM", _prophetnet),
    "cpmant": ("CpmAntForCausalLM", _cpmant),
    "blip": ("BlipForConditionalGeneration", _blip),
    "t5": ("T5ForConditionalGeneration", _t5),
    "xlnet": ("XLNetLMHeadModel", _xlnet),
    "bert": ("BertLMHeadModel", lambda: _bert(False)),
    "bert decoder": ("BertLMHeadModel", lambda: _bert(True)),
}


def build(name: str) -> Any:
    """A tiny model of a kind, in eval mode, always with the same weights."""
    class_name, config = MAKERS[name]
    torch.manual_seed(3)
    return getattr(transformers, class_name)(config()).eval()

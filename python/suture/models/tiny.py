# SPDX-License-Identifier: Apache-2.0
"""A pair of random language models, small enough for examples and tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast


def tiny_pair(seed: int = 0) -> tuple[Any, Any, Any]:
    """Two untrained GPT-NeoX models (width 16 and 24, 3 and 4 blocks) and a byte tokenizer.

    They know nothing: their losses are near log(259). What they are for is to try a call, or to
    test code, in a moment and without a download. The global random state is left alone.

    >>> model_a, model_b, tokenizer = tiny_pair()
    >>> model_a.config.hidden_size, model_b.config.hidden_size, tokenizer.bos_token
    (16, 24, '<bos>')
    >>> tokenizer.decode(tokenizer("two bytes: é")["input_ids"])
    'two bytes: é'
    """
    specials = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    vocabulary = {token: number for number, token in enumerate(specials.values())}
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[byte] = len(vocabulary)
    byte_level = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    build: Any = PreTrainedTokenizerFast  # untyped, like the whole of transformers
    tokenizer = build(tokenizer_object=byte_level, **specials)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model_a = _model(len(vocabulary), width=16, blocks=3)
        model_b = _model(len(vocabulary), width=24, blocks=4)
    return model_a, model_b, tokenizer


def _model(vocab_size: int, width: int, blocks: int) -> Any:
    config = GPTNeoXConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    model: Any = GPTNeoXForCausalLM(config)
    return model.eval()

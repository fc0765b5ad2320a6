# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: RUF001
"""Small tokenizers of every kind, trained on a few lines, and texts that are hard for them."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

TEXTS = {
    "plain": "The quick brown fox jumps over the lazy dog.",
    "spaces": "  leading,  double   and trailing  ",
    "tabs": "\tint main(void)\t{\n\t\treturn 0;\n\t}\n",
    "crlf": "one line\r\nanother\r\n\r\nthe last",
    "cjk": "日本語のテキスト、漢字とかな。中文也有。",
    "emoji": "family 👩‍👩‍👧‍👦 and 🏳️‍🌈, ok 👍🏽!",
    "marks": "cafe\u0301 re\u0301sume\u0301 a\u0308",
    "composed": "café résumé straße İstanbul",
    "hebrew": "שלום עולם, مرحبا بالعالم",
    "ligatures": "…½ ﬁne ①② Ⅷ ㎏ ｆｕｌｌ",
    "control": "null\x00byte, zero\u200bwidth, nbsp\xa0here",
    "mixed": "naïve – “quotes” … 日本 fox👍 the\ttab\r\nEND",
}
"""Hard texts by what is hard about them."""

CORPUS = [
    *TEXTS.values(),
    "the dog and the fox sat on the mat, and then they ran over the hill",
    "a line of plain text with common words: the, and, of, to, in, that",
]

_SPECIALS = ["<unk>", "<s>", "</s>"]


def _wrapped(tokenizer: Tokenizer, **more: str) -> Any:
    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=tokenizer,
        **({"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"} | more),
    )


def _byte_level(vocab_size: int, trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=_SPECIALS,
            show_progress=False,
        ),
    )
    return tokenizer


def _byte_fallback() -> Tokenizer:
    """As SentencePiece's BPE in Llama: a prefix '▁', no pre-tokenizer, bytes of the unknown."""
    source = Tokenizer(models.BPE(unk_token="<unk>"))
    source.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    source.train_from_iterator(
        [text for text in CORPUS if text.isascii()],
        trainers.BpeTrainer(
            vocab_size=260,
            special_tokens=[*_SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
            show_progress=False,
        ),
    )
    state = json.loads(source.to_str())
    state["model"]["byte_fallback"] = True
    state["model"]["fuse_unk"] = True
    # Byte tokens are tokens of the model, not added ones that texts could spell out.
    state["added_tokens"] = state["added_tokens"][: len(_SPECIALS)]
    return Tokenizer.from_str(json.dumps(state))


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=260, special_tokens=_SPECIALS, show_progress=False),
    )
    return tokenizer


def _unigram() -> Tokenizer:
    """As SentencePiece's Unigram in T5 and XLM-R: NFKC, '…' to '...', Metaspace."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=240, special_tokens=_SPECIALS, unk_token="<unk>", show_progress=False
        ),
    )
    return tokenizer


def _characters() -> Tokenizer:
    letters = sorted({letter for text in CORPUS for letter in text})
    vocabulary = {token: at for at, token in enumerate([*_SPECIALS, *letters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return tokenizer


_KINDS = {
    "byte-level BPE": lambda: _byte_level(420, trim=False),
    "byte-level BPE, trimmed": lambda: _byte_level(330, trim=True),
    "BPE with byte fallback": _byte_fallback,
    "WordPiece": _word_piece,
    "Unigram": _unigram,
    "characters": _characters,
}
KINDS = tuple(_KINDS)


@cache
def tokenizer(kind: str) -> Any:
    """One of KINDS as a transformers tokenizer."""
    return _wrapped(_KINDS[kind]())


@cache
def model(kind: str, width: int = 16) -> Any:
    """A tiny model of two layers over the vocabulary of such a tokenizer, the same each time."""
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer(kind)),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(width)
        return GPTNeoXForCausalLM(config).eval()

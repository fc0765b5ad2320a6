# SPDX-License-Identifier: Apache-2.0
"""The pair's tokenizer: byte-level BPE that begins every sequence with BOS."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 2048
BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2


def train(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Learn the merges from ``texts``; ``context`` is the longest sequence of the models."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[BOS, EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
            ),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    if [fast.bos_token_id, fast.eos_token_id, fast.pad_token_id] != [BOS_ID, EOS_ID, PAD_ID]:
        raise RuntimeError("the special tokens did not get the first three ids")
    return fast


def load_or_train(folder: Path, texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """The tokenizer saved in ``folder``, trained first if it is not there."""
    if not (folder / "tokenizer.json").exists():
        train(texts, context).save_pretrained(str(folder))
    loaded = PreTrainedTokenizerFast.from_pretrained(str(folder))
    if not isinstance(loaded, PreTrainedTokenizerFast):
        raise TypeError("the saved tokenizer is not a fast one")
    return loaded

# SPDX-License-Identifier: Apache-2.0
"""Variants of a text written by an instruction model; see `suture.variants`."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .._arguments import integer, real
from .._words import pieces
from ..reports import SutureWarning
from ..variants import VariantMaker, checked_words
from ._borrowing import borrowed
from ._residual import text_config

INSTRUCTION = """\
Rewrite the text below. Replace every content word (nouns, verbs, adjectives, adverbs, names, \
numbers) by another content word of the same language and the same grammatical form. Keep every \
function word (articles, prepositions, pronouns, conjunctions, auxiliaries), all punctuation, \
capital letters and line breaks exactly where they are. The result may be nonsense. Answer with \
the rewritten text only.

Text: {text}"""

# What models put around an answer.
_LEAD = re.compile(
    r"^(?:(?:sure|certainly|here)\b[^\n]*:\s*\n+|(?:rewritten )?text:\s*|\d+[.)]\s+)", re.IGNORECASE
)
_QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"))


class ModelVariants:
    """Variants of a text by an instruction model of transformers, a `suture.variants.VariantMaker`.

    The model is asked, through its chat template if the tokenizer has one, to replace the content
    words and keep the function words and punctuation. What it answers is checked: the function
    words, punctuation and single letters must be those of the text, in order, and most content
    words must be others. What fails is asked for again; what is still missing after the last
    attempt comes from `fallback`, with a `suture.SutureWarning` that says how many.

    The model is borrowed, never changed; torch's random state is left alone, and the same call
    gives the same variants.

    Args:
        model: a causal language model of transformers that follows instructions.
        tokenizer: its tokenizer.
        function_words: a language's code, for `suture.variants.function_words`, or the words
            themselves; what an answer is checked by.
        instruction: what the model is asked, with {text} where the text goes.
        fallback: makes what the model could not, such as a `suture.variants.ContentWordSwapper`.
            None: then there are fewer variants, also with a warning.
        attempts: how often the model is asked for what is missing.
        temperature: of the sampling.
        replaced: the share of a text's content words that a variant must replace.
        seed: of the sampling; it depends on this and the text.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import warnings, suture.models, suture.variants
    >>> _, model, tokenizer = suture.models.tiny_pair()  # knows nothing: all falls back
    >>> swap = suture.variants.ContentWordSwapper(["one two three four"], ["and"])
    >>> maker = suture.models.ModelVariants(
    ...     model, tokenizer, ["and"], instruction="{text}", fallback=swap, attempts=1
    ... )
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", suture.SutureWarning)
    ...     maker("two and four", k=2) == swap("two and four", k=2)
    True
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        function_words: str | Iterable[str],
        *,
        instruction: str = INSTRUCTION,
        fallback: VariantMaker | None = None,
        attempts: int = 4,
        temperature: float = 1.0,
        replaced: float = 0.75,
        seed: int = 0,
    ) -> None:
        text_config(model)
        if not callable(getattr(model, "generate", None)):
            raise TypeError(
                f"model: {type(model).__name__} cannot generate, expected a causal language model"
            )
        if not hasattr(tokenizer, "decode") or not callable(tokenizer):
            raise TypeError(
                f"tokenizer: {type(tokenizer).__name__}, expected a transformers tokenizer"
            )
        if not isinstance(instruction, str) or "{text}" not in instruction:
            raise ValueError(f"instruction: {instruction!r}, expected a text with {{text}} in it")
        if fallback is not None and not callable(fallback):
            raise TypeError(
                f"fallback: {type(fallback).__name__}, expected a variant maker or None"
            )
        self._model: Any = model
        self._tokenizer = tokenizer
        self._kept = checked_words(function_words)
        self._instruction = instruction
        self._fallback = fallback
        self._attempts = integer("attempts", attempts, 1)
        self._temperature = real("temperature", temperature, above=True)
        self._replaced = real("replaced", replaced, most=1.0)
        self._seed = integer("seed", seed, 0)

    def __call__(self, text: str, k: int = 5) -> list[str]:
        """At most k distinct variants of a text, none of them the text itself; an empty list where
        the text has no content word, without asking the model."""
        if not isinstance(text, str):
            raise TypeError(f"text is a {type(text).__name__}, expected a text")
        wanted = integer("k", k, 1)
        if not any(piece.kind == "word" for piece in pieces(text, self._kept)):
            return []
        found: list[str] = []
        for attempt in range(self._attempts):
            for answer in self._ask(text, wanted - len(found), attempt):
                variant = parsed(answer)
                if variant not in found and self.accepts(text, variant):
                    found.append(variant)
            if len(found) == wanted:
                return found
        return found + self._rest(text, wanted, found)

    def accepts(self, text: str, variant: str) -> bool:
        """Whether a variant keeps what it must and replaces enough of the rest.

        >>> import suture.models
        >>> _, model, tokenizer = suture.models.tiny_pair()
        >>> maker = suture.models.ModelVariants(model, tokenizer, ["the"])
        >>> [maker.accepts("Open the file.", new) for new in ("Shut the door.", "Shut it.")]
        [True, False]
        """
        old, new = pieces(text, self._kept), pieces(variant, self._kept)
        if _skeleton(old) != _skeleton(new):
            return False
        words = [
            (a.text.lower(), b.text.lower())
            for a, b in zip(old, new, strict=True)
            if a.kind == "word"
        ]
        changed = sum(a != b for a, b in words)
        return changed > 0 and changed >= self._replaced * len(words)

    def _ask(self, text: str, count: int, attempt: int) -> list[str]:
        """So many answers, sampled."""
        inputs = self._prompt(text)
        digest = hashlib.blake2b(
            f"{self._seed} {attempt} {text}".encode("utf-8", "surrogatepass"), digest_size=8
        ).digest()
        length = inputs["input_ids"].shape[1]
        # Other words may take more tokens.
        room = 2 * len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) + 16
        longest = getattr(text_config(self._model), "max_position_embeddings", None)
        if longest is not None:
            room = min(room, longest - length)
            if room < 1:
                raise ValueError(
                    f"text has too many tokens: {length} with the instruction, expected less than "
                    f"{longest}, the model's maximum"
                )
        pad = getattr(self._tokenizer, "pad_token_id", None)
        with borrowed(self._model) as where:
            devices = [where] if where.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(int.from_bytes(digest, "little") >> 1)
                output = self._model.generate(
                    **{name: tensor.to(where) for name, tensor in inputs.items()},
                    do_sample=True,
                    temperature=self._temperature,
                    num_return_sequences=count,
                    max_new_tokens=room,
                    pad_token_id=getattr(self._tokenizer, "eos_token_id", 0)
                    if pad is None
                    else pad,
                )
        return [
            self._tokenizer.decode(row[length:], skip_special_tokens=True) for row in output.cpu()
        ]

    def _prompt(self, text: str) -> dict[str, Tensor]:
        asked = self._instruction.replace("{text}", text)
        if getattr(self._tokenizer, "chat_template", None):
            encoded = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": asked}],
                add_generation_prompt=True,
                return_tensors="pt",
                return_dict=True,
            )
        else:
            encoded = self._tokenizer(f"{asked}\n\nRewritten text: ", return_tensors="pt")
        ids = encoded["input_ids"]
        mask = encoded["attention_mask"] if "attention_mask" in encoded else torch.ones_like(ids)
        return {"input_ids": ids, "attention_mask": mask}

    def _rest(self, text: str, wanted: int, found: list[str]) -> list[str]:
        more: list[str] = []
        if self._fallback is not None:
            # As many as are wanted in all: some may be what the model wrote too.
            more = [v for v in self._fallback(text, wanted) if v not in found]
            more = more[: wanted - len(found)]
        shown = text if len(text) <= 60 else text[:57] + "..."
        end = f"{len(more)} are from the fallback" if self._fallback else "there is no fallback"
        warnings.warn(
            f"the model made {len(found)} of {wanted} variants of {shown!r} that keep its function "
            f"words and punctuation, in {self._attempts} attempts; {end}",
            SutureWarning,
            stacklevel=3,
        )
        return more


def parsed(answer: str) -> str:
    """The text in a model's answer, without fences, quotes, numbers and what leads up to it.

    >>> parsed('Here is the rewritten text:\\n\\n"Close the door."')
    'Close the door.'
    >>> parsed("```\\nClose the door.\\n```")
    'Close the door.'
    """
    text = answer.strip()
    text = _LEAD.sub("", text, count=1).strip()
    fence = re.fullmatch(r"```\w*\n(.*?)\n?```", text, re.DOTALL)
    if fence:
        text = fence[1].strip()
    text = _LEAD.sub("", text, count=1).strip()
    for start, end in _QUOTES:
        if len(text) > 1 and text.startswith(start) and text.endswith(end):
            inner = text[1:-1]
            # Not where the quotes are those of the text itself.
            if start not in inner and end not in inner:
                return inner.strip()
    return text


def _skeleton(parts: Any) -> list[str]:
    """What stays of a text, and where words and numbers are; spaces count as one."""
    return [
        " ".join(part.text.lower().split()) if part.kind == "kept" else part.kind for part in parts
    ]

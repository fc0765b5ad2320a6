# SPDX-License-Identifier: Apache-2.0
"""How well an instruction model of 135 million parameters writes variants of a sentence."""

from __future__ import annotations

import re
import warnings
from typing import Any

import suture
import suture.models
from suture.paper.experiments.steering import in_chat
from suture.paper.ground import Ground
from suture.variants import ContentWordSwapper

#: Sentences of held-out English text that are tried, variants of each, and attempts at them.
SENTENCES, WANTED, ATTEMPTS = 6, 2, 2
#: Words that a sentence must have at least and at most.
LEAST, MOST = 5, 14
LANGUAGE = "en"

#: A plainer request than the default one, which is long for a model of this size.
SIMPLE = """\
Rewrite this sentence with other nouns and verbs. Keep the small words and the punctuation. Answer \
with the sentence only.

{text}"""


def measure(ground: Ground) -> dict[str, Any]:
    """Variants by SmolLM2 (A of the pair), by the default instruction and by a simple one, and what
    a swapper of words makes of the rest.

    Returns:
        "sentences", "wanted"; "asked": for each instruction how many of the wanted variants the
        model itself wrote; "examples": sentence, variant, who wrote it; "answers": what it says
        to each sentence, fit or not.
    """
    texts = [r["text"] for r in ground.records("held_out") if r["lang"] == LANGUAGE]
    chosen = sentences(texts)[:SENTENCES]
    corpus = [r["text"] for r in ground.records("fit") if r["lang"] == LANGUAGE]
    swap = ContentWordSwapper(corpus, LANGUAGE)
    asked = {}
    examples = []
    answers = suture.models.generate(
        ground.model("a"),
        ground.tokenizer("a"),
        in_chat(ground.tokenizer("a"), chosen, SIMPLE),
        max_new_tokens=32,
        seed=ground.settings.seed,
        progress=ground.progress,
    )
    for name, options in (("default", {}), ("simple", {"instruction": SIMPLE})):
        maker = suture.models.ModelVariants(
            ground.model("a"), ground.tokenizer("a"), LANGUAGE, attempts=ATTEMPTS, **options
        )
        written = 0
        with warnings.catch_warnings():
            # It says how many are missing: that is counted here.
            warnings.simplefilter("ignore", suture.SutureWarning)
            for text in chosen:
                found = maker(text, WANTED)
                written += len(found)
                examples += [{"text": text, "variant": v, "by": name} for v in found]
        asked[name] = written
    swapped = [{"text": t, "variant": v, "by": "swapper"} for t in chosen for v in swap(t, 1)]
    return {
        "sentences": len(chosen),
        "wanted": WANTED * len(chosen),
        "attempts": ATTEMPTS,
        "asked": asked,
        "examples": examples + swapped[:3],
        "answers": [
            {"text": text, "answer": answer} for text, answer in zip(chosen, answers, strict=True)
        ],
    }


def sentences(texts: list[str]) -> list[str]:
    """Plain sentences of moderate length.

    >>> sentences(["It lists all files of a folder. x = 3; No."])
    ['It lists all files of a folder.']
    """
    found = []
    for text in texts:
        for sentence in re.findall(r"(?<![^\s])[A-Z][A-Za-z ,'-]+\.(?=\s|$)", text):
            if LEAST <= len(sentence.split()) <= MOST:
                found.append(sentence)
    return found

# SPDX-License-Identifier: Apache-2.0
"""Binary tasks for probes, made from documents that say their language and their manual page."""

from __future__ import annotations

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Test = Callable[["Sample"], bool]

#: Shortest and longest sample, in characters; longer paragraphs are cut at a space.
SHORTEST, LONGEST = 40, 320
#: Share of the groups of documents that is kept for testing: one in so many.
TEST_EVERY = 5
#: A task with fewer samples of a class to train or to test on is left out.
FEWEST_TRAIN, FEWEST_TEST = 100, 25


@dataclass(frozen=True)
class Sample:
    """A piece of a document, and what is known of it; empty texts where nothing is.

    Attributes:
        text: a paragraph, or a part of a long one.
        lang: the document's language.
        section: first digit of a manual page's section, such as "3" of "printf.3".
        group: documents of one group are not parted between training and testing.
        kind: "option" (of a list of options), "code", "prose" or "".
    """

    text: str
    lang: str
    section: str
    group: str
    kind: str


@dataclass(frozen=True)
class Task:
    """Two classes of samples, as many of each, parted between training and testing.

    Attributes:
        name: what the classes are, positive first.
        train, test: places in the list of samples.
        y_train, y_test: whether each is of the positive class.
    """

    name: str
    train: Indices
    y_train: npt.NDArray[np.bool_]
    test: Indices
    y_test: npt.NDArray[np.bool_]


def cut(records: Iterable[dict[str, Any]]) -> list[Sample]:
    """Paragraphs of documents.

    Args:
        records: each with "text", and "lang" and "page" where they are known. A page is a name and
            a section, "printf.3"; its translations and other sections of it make one group.

    >>> text = "-v, --verbose\\n    Say what is done, at length."
    >>> [sample] = cut([{"text": text, "page": "cp.1"}])
    >>> sample.section, sample.group, sample.kind
    ('1', 'cp', 'option')
    """
    samples = []
    for number, record in enumerate(records):
        page = str(record.get("page", ""))
        name, dot, section = page.rpartition(".")
        group = (name if dot else page).lower() or f"document {number}"
        for paragraph in re.split(r"\n\s*\n", record["text"]):
            for text in _pieces(paragraph.strip("\n")):
                samples.append(
                    Sample(
                        text,
                        str(record.get("lang", "")),
                        section[:1] if dot and section[:1].isdigit() else "",
                        group,
                        kind_of(text),
                    )
                )
    return samples


def _pieces(paragraph: str) -> Iterable[str]:
    while len(paragraph) > LONGEST:
        end = paragraph.rfind(" ", SHORTEST, LONGEST)
        end = LONGEST if end < 0 else end
        yield paragraph[:end]
        paragraph = paragraph[end:].lstrip()
    if len(paragraph) >= SHORTEST:
        yield paragraph


def kind_of(text: str) -> str:
    """What a paragraph looks like: "option", "code", "prose", or "" where that is not clear.

    >>> kind_of("      if (x == NULL) {\\n        return -1;  /* no memory */\\n      }")
    'code'
    """
    start = text.lstrip()
    if re.match(r"--?[A-Za-z?]", start):
        return "option"
    if sum(c in "{};=()<>#*|\\$&" for c in text) > 0.08 * len(text):
        return "code"
    plain = sum(c.isalpha() or c == " " for c in text)
    # Prose of more than a line: a short one may be a heading.
    if start[0].isalpha() and len(text) > 2 * SHORTEST and plain > 0.9 * len(text):
        return "prose"
    return ""


def tasks(
    samples: list[Sample], train: int, test: int, seed: int = 0
) -> tuple[list[Task], dict[str, str]]:
    """All tasks that the samples allow, and why the others are left out.

    Tasks are on languages (each pair of neighbours in a ring of the most frequent five), on
    sections of the manual, and on what a paragraph looks like. In the latter two the classes have
    as many samples of each language, so that the language tells nothing; where that leaves too
    few, the task has "languages differ" in its name, and its language tells much.

    Args:
        samples: see :func:`cut`.
        train, test: most samples of a task, of both classes together.
        seed: of the choice among more.
    """
    languages = [lang for lang, _ in Counter(s.lang for s in samples if s.lang).most_common(5)]
    ring = list(pairwise(languages)) + (
        [(languages[-1], languages[0])] if len(languages) > 2 else []
    )
    wanted: list[tuple[str, Test, Test, bool]] = [
        (f"{one} / {other}", _is("lang", one), _is("lang", other), False) for one, other in ring
    ]
    for name, positive, negative in (
        ("command / library page", "18", "23"),
        ("library / system call", "3", "2"),
        ("format / overview page", "5", "7"),
        ("user / admin command", "1", "8"),
    ):
        wanted.append((name, _of_section(positive), _of_section(negative), True))
    for name, positive, negative in (
        ("option list / prose", "option", "prose"),
        ("code / prose", "code", "prose"),
    ):
        wanted.append((name, _is("kind", positive), _is("kind", negative), True))
    found, left_out = [], {}
    if not ring:
        left_out["languages"] = 'the texts have less than two languages ("lang")'
    # One order for all tasks: where they can, they share their samples, which are then run once.
    order = np.random.default_rng(seed).permutation(len(samples)).tolist()
    for name, first, second, by_language in wanted:
        pools = [[i for i in order if belongs(samples[i])] for belongs in (first, second)]
        task = _task(name, samples, pools, by_language, (train, test))
        if by_language and not isinstance(task, Task):
            # Such as library pages, where only English ones were taken.
            left_out[name] = f"{task} in one language"
            name = f"{name}, languages differ"
            task = _task(name, samples, pools, False, (train, test))
        if isinstance(task, Task):
            found.append(task)
        else:
            left_out[name] = task
    return found, left_out


def _of_section(digits: str) -> Test:
    """Whether a sample is of one of these sections."""
    return lambda sample: sample.section != "" and sample.section in digits


def _is(attribute: str, value: str) -> Test:
    return lambda sample: bool(getattr(sample, attribute) == value)


def _task(
    name: str,
    samples: list[Sample],
    pools: list[list[int]],
    by_language: bool,
    most: tuple[int, int],
) -> Task | str:
    """The task, or why it is not possible. Pools are samples of each class, first ones first."""
    parts = []
    for testing, count, fewest in ((False, most[0], FEWEST_TRAIN), (True, most[1], FEWEST_TEST)):
        kept = [[i for i in pool if _tests(samples[i].group) == testing] for pool in pools]
        one, other = _balanced(kept, samples, by_language, count // 2)
        if len(one) < fewest:
            what = "test" if testing else "train"
            return f"{len(one)} samples of each class to {what} on, expected at least {fewest}"
        both = np.array(one + other, np.int64)
        parts.append((both, np.arange(len(both)) < len(one)))
    return Task(name, *parts[0], *parts[1])


@functools.cache
def _tests(group: str) -> bool:
    """Whether a group is for testing; the same on every machine and for every task."""
    return hashlib.sha256(group.encode()).digest()[0] % TEST_EVERY == 0


def _balanced(
    pools: list[list[int]], samples: list[Sample], by_language: bool, count: int
) -> tuple[list[int], list[int]]:
    """As many of each class, at most `count`; of each language as well, if so asked."""

    def strata(pool: list[int]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place in pool:
            found.setdefault(samples[place].lang if by_language else "", []).append(place)
        return found

    one, other = (strata(pool) for pool in pools)
    both = sorted(set(one) & set(other))
    sizes = {lang: min(len(one[lang]), len(other[lang])) for lang in both}
    # Every language gives the same share of what it has.
    share = min(1.0, count / max(1, sum(sizes.values())))
    taken = {lang: round(size * share) for lang, size in sizes.items()}
    chosen = [[i for lang in both for i in side[lang][: taken[lang]]] for side in (one, other)]
    # Rounding may give a few more.
    return chosen[0][:count], chosen[1][:count]

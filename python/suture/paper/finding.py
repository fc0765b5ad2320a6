# SPDX-License-Identifier: Apache-2.0
"""What an experiment found, beside what the paper found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Verdict = Literal["reproduced", "partly", "differs"]


@dataclass(frozen=True)
class Finding:
    """One figure or table of the paper, and what the same experiment gives here.

    Attributes:
        figure: its name in the paper, such as "Fig. 3b".
        title: what it shows, in a few words.
        paper: the paper's own numbers, or its claim.
        here: ours, in words with numbers.
        verdict: whether the claim holds here; computed from the numbers.
        why: how it differs, or why; a sentence.

    >>> Finding("Fig. 1", "A title", "30 %", "35 %", "reproduced").verdict
    'reproduced'
    """

    figure: str
    title: str
    paper: str
    here: str
    verdict: Verdict
    why: str = ""

    def __post_init__(self) -> None:
        if self.verdict not in get_args(Verdict):
            raise ValueError(
                f"verdict is {self.verdict!r}, expected one of {', '.join(get_args(Verdict))}"
            )


def verdict(*, reproduced: bool, partly: bool = False) -> Verdict:
    """The first word that holds.

    >>> verdict(reproduced=False, partly=True)
    'partly'
    """
    return "reproduced" if reproduced else "partly" if partly else "differs"

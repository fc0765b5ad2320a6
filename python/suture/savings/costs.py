# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of everything that an arm of the experiment spends before training.

Training itself is counted by the core, as the paper counts: 12 d_in d_sae a token (`flops` in the
history). Products count 2 a multiplication and addition; symmetric ones count in full.
"""

from __future__ import annotations

__all__ = ["forward", "moments", "paper_stitch", "solver", "training", "transfer"]


def training(d_in: int, d_sae: int, tokens: int) -> float:
    """Of a TopK SAE, as torch's counter counts a dense step.

    >>> training(2, 3, 10)
    720.0
    """
    return 12.0 * d_in * d_sae * tokens


def moments(d_a: int, d_b: int, tokens: int) -> float:
    """Of the three second-moment matrices that a stitch needs.

    >>> moments(2, 3, 10)  # 2 (4 + 6 + 9) a token
    380.0
    """
    return 2.0 * (d_a * d_a + d_a * d_b + d_b * d_b) * tokens


def solver(d_a: int, d_b: int, iterations: int) -> float:
    """Upper estimate for the fit: whitening is two eigenproblems at 25 d³; an iteration at most 40
    products of (n, m) and (m, m) and four eigenproblems of size n, n the smaller width.

    >>> solver(2, 3, 0), solver(2, 3, 1)
    (875.0, 3115.0)
    """
    n, m = sorted((d_a, d_b))
    return 25.0 * (n**3 + m**3) + iterations * (40 * 2.0 * n * m * m + 4 * 25.0 * n**3)


def paper_stitch(d_a: int, d_b: int, tokens: int, epochs: int = 2) -> float:
    """The paper's stitch, trained by gradients: four products forward and six backward a token.

    It agrees with the paper's Table 3 (1.4e15 for widths 512 and 768):

    >>> f"{paper_stitch(512, 768, 180_000 * 512):.2g}"
    '1.4e+15'
    """
    return 20.0 * d_a * d_b * tokens * epochs


def forward(parameters: int, d: int, layers: int, context: int, tokens: int) -> float:
    """Of running a model's first blocks: their weights, and attention over half the context.

    >>> forward(parameters=100, d=4, layers=2, context=8, tokens=10)
    3280.0
    """
    return (2.0 * parameters + 2.0 * layers * context * d) * tokens


def transfer(d_a: int, d_b: int, d_sae: int) -> float:
    """Of both matrix products of a transfer.

    >>> transfer(2, 3, 10)
    240.0
    """
    return 4.0 * d_a * d_b * d_sae

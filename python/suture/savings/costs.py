# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of everything that an arm of the experiment spends before training.

Training itself is counted by the core, as the paper counts: 12 d_in d_sae a token (`flops` in the
history). Products count 2 a multiplication and addition; symmetric ones count in full.
"""

from __future__ import annotations

__all__ = [
    "carry",
    "encoding",
    "forward",
    "moments",
    "paper_stitch",
    "solver",
    "training",
    "transfer",
]

#: Of `suture.carry`, as its core has them (Sources/Suture/Transfer/Carry): rows whose scores
#: calibrate, looks at them before the first round, in a round, after the last; ridges tried.
CALIBRATION_ROWS, FIRST_LOOKS, ROUND_LOOKS, LAST_LOOKS, RIDGES = 20_000, 6, 2, 2, 73
#: Widest dictionary whose decoder is solved by Cholesky, and most steps of conjugate gradients.
DIRECT_LIMIT, MOST_ITERATIONS = 4096, 200


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


def encoding(d_in: int, d_sae: int, tokens: int) -> float:
    """Of the dense product of an encoder.

    >>> encoding(2, 3, 10)
    120.0
    """
    return 2.0 * d_in * d_sae * tokens


def carry(
    d_a: int,
    d_b: int,
    d_sae: int,
    k: int,
    *,
    fitted: int,
    held_out: int,
    sample: int,
    rounds: int,
) -> dict[str, float]:
    """Of each part of `suture.carry(…, refit=False)` with a TopK SAE.

    Encoders and covariances count dense and in full; what touches active latents only, k a token,
    counts as carried out, as in a decoder refit.

    Args:
        fitted: pairs that the regression rests on.
        held_out: pairs that it leaves out and judges by.
        sample: pairs that are kept for calibration and rounds, at most `fitted`.
        rounds: of `suture.carry`.

    >>> found = carry(2, 3, 10, 1, fitted=90, held_out=10, sample=40, rounds=1)
    >>> found["codes_a"], found["sums"]  # 2 d_a d_sae; 2 d_b² and 2 k d_b a token
    (4000.0, 2160.0)
    >>> found["regression"]  # 25 d_b³; d_sae d_b (2 d_b + 2 ridges) to choose; 4 d_sae d_b²
    5595.0
    >>> found["calibration"]  # ten looks at 40 rows, (2 d_b + 3) d_sae each
    36000.0
    >>> found["rounds"]  # codes of the sample, 2 sums of 2 k d_b, and a solution
    3240.0
    """
    looked = min(sample, CALIBRATION_ROWS)
    looks = FIRST_LOOKS + ROUND_LOOKS * rounds + (LAST_LOOKS if rounds else 0)
    solution = 4.0 * d_sae * d_b * d_b
    return {
        "codes_a": encoding(d_a, d_sae, fitted + held_out),
        "sums": (2.0 * d_b * d_b + 2.0 * k * d_b) * fitted,
        "regression": 25.0 * d_b**3 + 2.0 * d_sae * d_b * (d_b + RIDGES) + solution,
        # A score is multiplied by its gain, and compared with a bar and a bias.
        "calibration": looks * (2.0 * d_b + 3) * d_sae * looked,
        "rounds": rounds * (encoding(d_b, d_sae, sample) + 4.0 * k * d_b * sample + solution),
        "first_decoder": _first_decoder(d_b, d_sae, k, sample),
        "comparison": encoding(d_b, d_sae, held_out),
    }


def _first_decoder(d_b: int, d_sae: int, k: int, sample: int) -> float:
    """The regression of B's rows on A's codes, as `suture.refit_decoder` counts its solutions; at
    most, where the solver is iterative."""
    active = float(k) * sample
    if d_sae <= DIRECT_LIMIT:
        matrix = 2 * active * k + 2.0 * d_sae**2 + d_sae**3 / 3
        return 4 * active * d_b + matrix + 2.0 * d_sae**2 * d_b
    return 4 * active * d_b + MOST_ITERATIONS * d_b * (4 * active + 18.0 * d_sae)

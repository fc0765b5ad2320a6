# SPDX-License-Identifier: Apache-2.0
"""Rows for `suture.analysis`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from bad_input_table import D_A, D_B, D_SAE, A, B, bad_activations, bad_numbers, codes, row, sae

import suture
from suture import analysis

VOCABULARY = 7
RNG = np.random.default_rng(1)
HEAD_A = RNG.normal(size=(D_A, VOCABULARY))
HEAD_B = RNG.normal(size=(D_B, VOCABULARY))
DEC_B = RNG.normal(size=(D_SAE, D_B))
SAE_B = suture.SAE(
    W_enc=RNG.normal(size=(D_B, D_SAE)), b_enc=np.zeros(D_SAE), W_dec=DEC_B, b_dec=np.zeros(D_B),
    k=3,
)  # fmt: skip
NEXT = np.arange(80) % VOCABULARY
OTHER_CODES = suture.SparseCodes([[1], [2]], [[2.0], [1.0]], D_SAE + 1)
WIDE = 2**31


def bad_heads(target: str, name: str, good: np.ndarray, given: Any) -> None:
    d, wide = good.shape
    row(target, lambda _: given(None), TypeError, name, "None", "expected an array")
    row(target, lambda _: given(good.astype(int)), TypeError, name, "int64", "expected float32")
    row(target, lambda _: given(good[0]), ValueError, name, f"({wide},)", "expected (")
    row(target, lambda _: given(good[None]), ValueError, name, "(1,", "expected (d, vocabulary)")
    row(target, lambda _: given(good.T), ValueError, name, f"({wide}, {d})", "the transpose")
    row(target, lambda _: given(good[:-1]), ValueError, name, f"expected ({d}, vocabulary)")
    row(target, lambda _: given(good[:, :0]), ValueError, name, "expected")
    broken = good.copy()
    broken[2, 4] = np.nan
    row(target, lambda _: given(broken), ValueError, f"{name}[2, 4]", "nan", "expected finite")


def bad_decoders(target: str, name: str, good: np.ndarray, given: Any) -> None:
    row(target, lambda _: given(None), TypeError, name, "None", "expected an array")
    row(target, lambda _: given(good.astype(int)), TypeError, name, "int64", "expected float32")
    row(target, lambda _: given(good[0]), ValueError, name, "expected")
    row(target, lambda _: given(good[:0]), ValueError, name, "expected")
    broken = good.copy()
    broken[3, 1] = np.inf
    row(target, lambda _: given(broken), ValueError, f"{name}[3, 1]", "inf", "expected finite")


# -- Attribution correlations ------------------------------------------------------------------


def correlation(
    a: Any = None, head_a: Any = HEAD_A, b: Any = DEC_B, head_b: Any = HEAD_B
) -> analysis.AttributionCorrelation:
    return analysis.AttributionCorrelation(sae() if a is None else a, head_a, b, head_b)


DEC_A = np.array(sae().W_dec)
target = "analysis.AttributionCorrelation"
bad_heads(target, "W_U_a", HEAD_A, lambda v: correlation(head_a=v))
bad_heads(target, "W_U_b", HEAD_B, lambda v: correlation(head_b=v))
bad_decoders(target, "W_dec_b", DEC_B, lambda v: correlation(b=v))
row(target, lambda _: correlation(a=DEC_A[:, :3]), ValueError, "W_U_a", "expected (3, vocabulary)")
row(target, lambda _: correlation(b=DEC_B[:-1]), ValueError, "W_dec_b", "11", "expected d_sae = 12")
row(
    target, lambda _: correlation(head_b=HEAD_B[:, :6]), ValueError,
    "W_U_b", "6 tokens", "expected that of W_U_a, 7",
)  # fmt: skip

target = "analysis.AttributionCorrelation.update"


def update(a: Any = None, b: Any = None, following: Any = (1, 2), **more: Any) -> object:
    return correlation().update(
        codes() if a is None else a, codes() if b is None else b, following, **more
    )


row(target, lambda _: update(a=A), TypeError, "codes_a", "ndarray", "expected suture.SparseCodes")
row(target, lambda _: update(b=3), TypeError, "codes_b", "int", "expected suture.SparseCodes")
row(target, lambda _: update(a=OTHER_CODES), ValueError, "codes_a", "d_sae = 13", "expected 12")
row(target, lambda _: update(b=OTHER_CODES), ValueError, "codes_b", "d_sae = 13", "expected 12")
row(target, lambda _: update(b=codes()[:1]), ValueError, "codes_b", "1 rows", "expected 2")
row(target, lambda _: update(following=[1]), ValueError, "next_tokens", "1 tokens", "expected 2")
row(target, lambda _: update(following=[]), ValueError, "next_tokens", "0 tokens", "expected 2")
row(
    target, lambda _: update(following=[1, 7]), ValueError,
    "next_tokens[1]", "7", "expected less than 7",
)  # fmt: skip
row(target, lambda _: update(following=[1, 2**62]), ValueError, "next_tokens[1]", "expected less")
row(target, lambda _: update(following=[1.0, 2]), TypeError, "next_tokens", "float64", "whole")
row(target, lambda _: update(following=[[1, 2]]), ValueError, "next_tokens", "(1, 2)", "(N,)")
row(target, lambda _: update(following=None), ValueError, "next_tokens", "expected")
row(target, lambda _: update(progress=3), TypeError, "progress", "3", "expected True")

target = "analysis.AttributionCorrelation.merge"
row(target, lambda _: correlation().merge(3), TypeError, "other", "int", "expected")
row(
    target,
    lambda _: correlation().merge(correlation(head_a=HEAD_A[:, :5], head_b=HEAD_B[:, :5])),
    ValueError, "other", "vocabulary of 5", "expected 12 and 7",
)  # fmt: skip

target = "analysis.attribution_correlation"


def correlated(
    sae_a: Any = None, a: Any = A, head_a: Any = HEAD_A, b: Any = B, head_b: Any = HEAD_B,
    following: Any = NEXT, sae_b: Any = SAE_B,
) -> object:  # fmt: skip
    return analysis.attribution_correlation(
        sae() if sae_a is None else sae_a, a, head_a, sae_b, b, head_b, following, progress=False
    )


row(target, lambda _: correlated(sae_a=DEC_A), TypeError, "sae_a", "ndarray", "expected suture.SAE")
row(target, lambda _: correlated(sae_b=3), TypeError, "sae_b", "int", "expected suture.SAE")
bad_activations(target, "acts_a", A, "d_in", lambda v: correlated(a=v))
bad_heads(target, "W_U_b", HEAD_B, lambda v: correlated(head_b=v))
row(target, lambda _: correlated(b=B[:-1]), ValueError, "acts_b", "79", "expected 80")
row(target, lambda _: correlated(following=NEXT[:5]), ValueError, "next_tokens", "5", "80")
row(
    target, lambda _: correlated(a=iter([A]), b=[B], following=[*NEXT, 1]), ValueError,
    "next_tokens", "81", "expected 80",
)  # fmt: skip
row(target, lambda _: correlated(following=NEXT + 1), ValueError, "next_tokens[", "7", "expected")
row(target, lambda _: correlated(following=None), TypeError, "next_tokens", "None", "Activations")

target = "analysis.next_tokens"
whole = {"token_ids": [1, 2], "positions": [0, 1], "sequence": [0, 0]}


def following_of(**changes: Any) -> object:
    return analysis.next_tokens(SimpleNamespace(**(whole | changes)))


row(target, lambda _: analysis.next_tokens(A), TypeError, "acts", "ndarray", "token_ids")
row(
    target,
    lambda _: analysis.next_tokens(suture.Activations({0: A}, token_ids=NEXT)),
    TypeError, "acts", "without positions", "expected",
)  # fmt: skip
row(target, lambda _: following_of(positions=[1]), ValueError, "acts", "1 positions", "expected 2")
row(
    target, lambda _: following_of(sequence=[[1, 2]]), ValueError, "acts.sequence", "(1, 2)", "(N,)"
)
row(target, lambda _: following_of(token_ids=[0.5, 1]), TypeError, "acts.token_ids", "float64")

# -- Structural scores -------------------------------------------------------------------------

target = "analysis.StructuralScore"
bad_numbers(target, "d_sae", analysis.StructuralScore, 0, -1, WIDE, "8", None)
target = "analysis.StructuralScore.update"


def scored(given: Any = None, lengths: Any = (1, 1), variants: Any = 2) -> object:
    score = analysis.StructuralScore(D_SAE)
    return score.update(codes() if given is None else given, lengths, variants)


row(target, lambda _: scored(A), TypeError, "codes", "ndarray", "expected suture.SparseCodes")
row(target, lambda _: scored(OTHER_CODES), ValueError, "codes", "d_sae = 13", "expected 12")
bad_numbers(target, "variants", lambda v: scored(variants=v), 0, 1, -2, WIDE, "2", None)
row(target, lambda _: scored(lengths=[]), ValueError, "lengths", "0 texts", "expected 2")
row(target, lambda _: scored(lengths=[1, 1, 0]), ValueError, "lengths", "3 texts", "expected 2")
row(target, lambda _: scored(lengths=[1, 0]), ValueError, "lengths", "1 tokens", "expected 2")
row(target, lambda _: scored(lengths=[1, 2]), ValueError, "lengths[1]", "2", "expected 0 to 1")
row(target, lambda _: scored(lengths=[-1, 3]), ValueError, "lengths[0]", "-1", "expected 0 to 2")
row(target, lambda _: scored(lengths=[2**62, 2**62]), ValueError, "lengths[0]", "expected 0 to 2")
row(target, lambda _: scored(lengths=[1.0, 1]), TypeError, "lengths", "float64", "whole numbers")
row(target, lambda _: scored(lengths=2), ValueError, "lengths", "()", "expected (N,)")

# -- Statistics --------------------------------------------------------------------------------

target = "analysis.FeatureStatistics"
bad_numbers(target, "d_sae", analysis.FeatureStatistics, 0, -1, WIDE, "8", None)
bad_numbers(target, "top", lambda v: analysis.FeatureStatistics(8, v), -1, 10_001, "8", None)
target = "analysis.FeatureStatistics.update"
for given, error, word in ((A, TypeError, "ndarray"), (OTHER_CODES, ValueError, "d_sae = 13")):
    row(
        target, lambda _, g=given: analysis.FeatureStatistics(D_SAE).update(g), error,
        "codes", word, "expected",
    )  # fmt: skip
target = "analysis.label_overlap"


def statistics(d_sae: int = D_SAE, top: int = 2, rows: int = 1) -> analysis.FeatureStatistics:
    found = analysis.FeatureStatistics(d_sae, top)
    for _ in range(rows):
        found.update(suture.SparseCodes([[1]], [[2.0]], d_sae))
    return found


def overlap(a: Any, b: Any) -> object:
    return analysis.label_overlap(a, b)


for name, given in (
    ("statistics_a", lambda v: overlap(v, statistics())),
    ("statistics_b", lambda v: overlap(statistics(), v)),
):
    row(target, lambda _, g=given: g(codes()), TypeError, name, "SparseCodes", "FeatureStatistics")
    row(target, lambda _, g=given: g(None), TypeError, name, "NoneType", "FeatureStatistics")
row(
    target, lambda _: overlap(statistics(), statistics(5)), ValueError,
    "statistics_b", "d_sae = 5", f"expected {D_SAE}",
)  # fmt: skip
row(
    target, lambda _: overlap(statistics(), statistics(top=3)), ValueError,
    "statistics_b", "top = 3", "expected 2",
)  # fmt: skip
row(
    target, lambda _: overlap(statistics(), statistics(rows=2)), ValueError,
    "statistics_b", "tokens = 2", "expected 1",
)  # fmt: skip
row(
    target, lambda _: overlap(statistics(top=0), statistics(top=0)), ValueError,
    "statistics_a", "top = 0", "expected at least 1",
)  # fmt: skip
row(
    target, lambda _: overlap(statistics(rows=0), statistics(rows=0)), ValueError,
    "statistics_a", "tokens = 0", "expected at least 1",
)  # fmt: skip
target = "analysis.feature_statistics"
bad_activations(target, "acts", A, "d_in", lambda v: analysis.feature_statistics(sae(), v))
row(target, lambda _: analysis.feature_statistics(A, A), TypeError, "sae", "ndarray", "expected")
bad_numbers(
    target, "top", lambda v: analysis.feature_statistics(sae(), A, v), -1, 10_001, "8", None
)

# -- Logit weights and null spaces -------------------------------------------------------------

for target, call in (
    ("analysis.logit_weights", lambda W_dec, W_U: analysis.logit_weights(W_dec, W_U, 2)),
    ("analysis.null_space_fraction", analysis.null_space_fraction),
):
    bad_heads(target, "W_U", HEAD_A, lambda v, c=call: c(sae(), v))
    bad_decoders(target, "W_dec", DEC_A, lambda v, c=call: c(v, HEAD_A))
bad_numbers(
    "analysis.logit_weights", "count", lambda v: analysis.logit_weights(sae(), HEAD_A, v),
    0, -1, VOCABULARY + 1, 2**70, "8", None,
)  # fmt: skip
target = "analysis.null_space_fraction"
for share in (0, -0.1, 1.5, np.nan, np.inf):
    row(
        target, lambda _, s=share: analysis.null_space_fraction(sae(), HEAD_A, s), ValueError,
        "share", "expected a finite number above 0 and at most 1",
    )  # fmt: skip
row(
    target, lambda _: analysis.null_space_fraction(sae(), HEAD_A, "2 %"), TypeError,
    "share", "'2 %'", "expected a number",
)  # fmt: skip
row(
    target, lambda _: analysis.null_space_fraction(sae(), 0 * HEAD_A), ValueError,
    "W_U", "zero everywhere", "expected",
)  # fmt: skip

# -- Examples, summaries, pages ----------------------------------------------------------------

ACTS = suture.Activations(
    {1: A, 2: A}, token_ids=NEXT, positions=np.arange(80), sequence=np.zeros(80, int)
)


class Letters:
    def decode(self, ids: list[int]) -> str:
        return "".join(chr(97 + i) for i in ids)


target = "analysis.feature_examples"


def examples(
    sae_: Any = None, acts: Any = ACTS, features: Any = (1, 2), rows: Any = ((3,), (4,)),
    tokenizer: Any = None, **more: Any,
) -> object:  # fmt: skip
    return analysis.feature_examples(
        sae() if sae_ is None else sae_, acts, features, rows,
        Letters() if tokenizer is None else tokenizer, **({"layer": 1} | more),
    )  # fmt: skip


row(target, lambda _: examples(sae_=3), TypeError, "sae", "int", "expected suture.SAE")
row(target, lambda _: examples(acts=A), TypeError, "acts", "ndarray", "expected suture.Activations")
row(target, lambda _: examples(features=[1, 12]), ValueError, "features", "12", "expected 0 to 11")
row(target, lambda _: examples(features=[-1, 2]), ValueError, "features", "-1", "expected 0 to 11")
row(target, lambda _: examples(features=[0.5, 2]), TypeError, "features", "float64", "expected")
row(target, lambda _: examples(rows=[[3]]), ValueError, "rows", "(1, 1)", "expected")
row(target, lambda _: examples(rows=[[3], [80]]), ValueError, "rows", "80", "expected less than 80")
row(target, lambda _: examples(rows=[[0.5], [1]]), ValueError, "rows", "float64", "whole numbers")
row(target, lambda _: examples(tokenizer=3), TypeError, "tokenizer", "int", "decode")
row(target, lambda _: examples(layer=None), ValueError, "layer", "None", "expected one of [1, 2]")
row(target, lambda _: examples(layer=3), KeyError, "layer", "3", "expected one of [1, 2]")
row(target, lambda _: examples(layer="1"), TypeError, "layer", "'1'", "expected")
row(target, lambda _: examples(sae_=SAE_B), ValueError, "acts", "d = 4", "expected 6")
bad_numbers(target, "count", lambda v: examples(count=v), 0, -1, "8", None)
bad_numbers(target, "before", lambda v: examples(before=v), -1, "8", None)
bad_numbers(target, "after", lambda v: examples(after=v), -1, "8", None)

target = "analysis.token_texts"
row(target, lambda _: analysis.token_texts(None, [1]), TypeError, "tokenizer", "NoneType", "decode")
row(target, lambda _: analysis.token_texts(Letters(), [1.5]), TypeError, "ids", "float64", "whole")
row(target, lambda _: analysis.token_texts(Letters(), 3), ValueError, "ids", "()", "expected (N,)")

target = "analysis.summarise_features"


def summarised(sae_: Any = None, acts: Any = ACTS, features: Any = (1,), **more: Any) -> object:
    return analysis.summarise_features(
        sae() if sae_ is None else sae_, acts, features, more.pop("head", HEAD_A), Letters(),
        **({"layer": 1, "progress": False, "words": 2} | more),
    )  # fmt: skip


row(target, lambda _: summarised(sae_=3), TypeError, "sae", "int", "expected suture.SAE")
row(target, lambda _: summarised(acts=A), TypeError, "acts", "ndarray", "suture.Activations")
row(target, lambda _: summarised(features=[]), ValueError, "features", "nothing", "expected some")
row(target, lambda _: summarised(features=[12]), ValueError, "features", "12", "expected some of 0")
row(target, lambda _: summarised(layer=None), ValueError, "layer", "None", "expected one of")
row(target, lambda _: summarised(statistics=3), TypeError, "statistics", "int", "expected")
row(
    target, lambda _: summarised(statistics=analysis.FeatureStatistics(5)), ValueError,
    "statistics", "d_sae = 5", "expected 12",
)  # fmt: skip
row(target, lambda _: summarised(null_space=[1.0]), ValueError, "null_space", "(1,)", "(12,)")
bad_numbers(target, "count", lambda v: summarised(words=v), 0, 8, "8")
bad_heads(target, "W_U", HEAD_A, lambda v: summarised(head=v))

PAIR = analysis.FeaturePair(analysis.FeatureSummary(3, 0.0, 0.0, 0.0))
target = "analysis.feature_page"
row(target, lambda _: analysis.feature_page(3), TypeError, "pair", "int", "expected FeaturePair")
row(
    target, lambda _: analysis.feature_page(PAIR, names=("a",)), TypeError,
    "names", "('a',)", "expected two texts",
)  # fmt: skip
target = "analysis.write_feature_pages"
for pairs, error, words in (
    ([], ValueError, ("pairs", "empty", "expected at least one")),
    ([PAIR, 3], TypeError, ("pairs[1]", "int", "expected FeaturePair")),
    ([PAIR, PAIR], ValueError, ("pairs", "feature 3 twice", "expected each once")),
):
    row(target, lambda f, p=pairs: analysis.write_feature_pages(p, f / "new"), error, *words)
row(target, lambda _: analysis.write_feature_pages([PAIR], 3), TypeError, "path", "3", "expected")
row(
    target, lambda f: analysis.write_feature_pages([PAIR], __file__), OSError, "bad_inputs_analysis"
)

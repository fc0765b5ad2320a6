# SPDX-License-Identifier: Apache-2.0
"""What features do, before and after a transfer (arXiv 2506.06609, section 5).

Everything here works on sparse codes, decoders and unembeddings, and needs numpy only;
`suture.models.unembedding` reads W_U of a Hugging Face model. Pages need jinja2.
"""

from __future__ import annotations

from .attribution import AttributionCorrelation, attribution_correlation, next_tokens
from .examples import Example, feature_examples, token_texts
from .labels import LabelOverlap, label_overlap
from .logits import LogitWeights, logit_weights, null_space_fraction
from .pages import feature_page, write_feature_pages
from .statistics import FeatureStatistics, feature_statistics
from .structural import StructuralScore
from .summaries import FeaturePair, FeatureSummary, summarise_features

__all__ = [
    "AttributionCorrelation",
    "Example",
    "FeaturePair",
    "FeatureStatistics",
    "FeatureSummary",
    "LabelOverlap",
    "LogitWeights",
    "StructuralScore",
    "attribution_correlation",
    "feature_examples",
    "feature_page",
    "feature_statistics",
    "label_overlap",
    "logit_weights",
    "next_tokens",
    "null_space_fraction",
    "summarise_features",
    "token_texts",
    "write_feature_pages",
]

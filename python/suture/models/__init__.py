# SPDX-License-Identifier: Apache-2.0
"""Hugging Face language models: read their residual stream, write into it, measure the loss.

Needs torch and transformers (`pip install 'suture[models]'`). Everywhere in this package layer
`l` means the residual stream *before* block `l`: 0 is what the first block reads (embeddings,
with positions or scaling where the architecture has them), `n_layers` is the output of the last
block before the final norm.

Models are borrowed, never changed: hooks, training flags and the device are put back after each
call, also after an error; no gradients are recorded and no cache is kept.
"""

from __future__ import annotations

try:
    import torch as _torch
    import transformers as _transformers
except ImportError as error:
    raise ImportError(
        f"suture.models needs torch and transformers, and {error.name or error} is missing: "
        "pip install 'suture[models]'"
    ) from error

from ._paths import FeatureHead
from .ablation import PathAblation, ablate_paths
from .attention import DeactivationScores, deactivation_scores
from .effects import AblationEffects, AblationSummary, ablation_effects
from .extraction import extract
from .heads import unembedding
from .languages import LanguageSteering, language_steering
from .losses import next_token_loss
from .pairs import extract_pair
from .splicing import SplicedLoss, spliced_loss
from .steering import generate, steer
from .stitching import StitchedLoss, stitched_loss
from .tiny import tiny_pair
from .variants import ModelVariants

__all__ = [
    "AblationEffects",
    "AblationSummary",
    "DeactivationScores",
    "FeatureHead",
    "LanguageSteering",
    "ModelVariants",
    "PathAblation",
    "SplicedLoss",
    "StitchedLoss",
    "ablate_paths",
    "ablation_effects",
    "deactivation_scores",
    "extract",
    "extract_pair",
    "generate",
    "language_steering",
    "next_token_loss",
    "spliced_loss",
    "steer",
    "stitched_loss",
    "tiny_pair",
    "unembedding",
]

del _torch, _transformers

# SPDX-License-Identifier: Apache-2.0
"""Whether what is put into a running model says that it is of this model and layer."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from ..reports import SutureWarning
from ..site import Site
from ._residual import unwrapped


def warn_of_another_site(
    function: str, argument: str, given: Any, model: nn.Module, layer: int
) -> None:
    """Warns where the metadata of a SAE or a vector name another model, layer or stream than that
    before block `layer` of `model`. A transfer refuses it; here it computes, on what it was not
    made for. What they do not say, or say in words that nobody can read, is no reason."""
    try:
        known = Site.of(given)
        here = Site(getattr(unwrapped(model), "name_or_path", "") or None, layer)
    except ValueError:
        return
    if known.matches(here):
        return
    warnings.warn(
        f"{function}: {argument} says that it is of {known}, expected {here}; it is used all the "
        "same",
        SutureWarning,
        stacklevel=3,
    )

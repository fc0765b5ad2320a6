# SPDX-License-Identifier: Apache-2.0
"""The settings that `Trainer` and `train` share, and their checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypedDict

import numpy as np

from ._arguments import integer, real, word

__all__ = ["DEFAULT_BATCH_SIZE", "TrainOptions", "core_settings", "with_total_steps"]

DEFAULT_BATCH_SIZE = 4096

LRScheduler = Literal["constant", "linear", "cosine"]
DecoderNorm = Literal["unit", "unit_unprojected", "free"]
BDecInit = Literal["keep", "zero", "mean", "geometric_median"]
NormalizeActivations = Literal["none", "expected_average_only_in"]
LR_SCHEDULERS = ("constant", "linear", "cosine")
DECODER_NORMS = ("unit", "unit_unprojected", "free")
B_DEC_INITS = ("keep", "zero", "mean", "geometric_median")
NORMALIZATIONS = ("none", "expected_average_only_in")

_STEPS = 2**52
_BELOW_ONE = float(np.nextafter(1.0, 0.0))


class TrainOptions(TypedDict, total=False):
    """Settings of training, as keywords of `Trainer` and `train`; each has a default.

    Attributes:
        batch_size: tokens a step, 4096.
        lr: Adam's step size, 1e-4.
        lr_scheduler: "constant" (default), "linear" or "cosine": how the learning rate goes from
            `lr` to `lr_end`, between the warm-up and `total_steps`; it stays at `lr_end` then.
        lr_warm_up_steps: steps in which the learning rate rises in a straight line from
            `lr / lr_warm_up_steps` to `lr`; 0.
        lr_end: where the linear and the cosine scheduler end; 0.
        total_steps: steps of the whole training, warm-up included, for the linear and the cosine
            scheduler. `train` takes it from `tokens`.
        betas: Adam's decay rates, each above 0 and below 1; (0.9, 0.999).
        epsilon: added to the root of Adam's second moment; 1e-8.
        max_grad_norm: larger gradients (their norm over all weights together) are scaled down to
            it, as by torch.nn.utils.clip_grad_norm_; None.
        decoder_norm: "unit_unprojected" (default): decoder rows are divided by their norms after
            each step, and nothing else. "unit": so too, and a row's gradient loses its component
            along the row before it is clipped and enters Adam. "free": rows keep whatever norms
            they get, and latents are ranked by pre-activation times the norm of their row (SAELens'
            rescale_acts_by_decoder_norm, which the trained SAE has set).
        b_dec_init: where b_dec begins: "keep" (default), as it is in the SAE; "zero"; "mean" or
            "geometric_median" of up to 65,536 of the activations, drawn evenly over what the first
            run or step gets.
        normalize_activations: "none" (default), or "expected_average_only_in": training sees
            activations times sqrt(d_in) / mean norm, one number from the same sample, and losses
            are those of scaled activations; `Trainer.sae` has the number folded into its weights.
        l0_coefficient: for jumprelu: weight of the mean number of active latents in the loss; 1.
        l1_coefficient: for relu: weight of the mean sum of activations in the loss; 1.
        bandwidth: for jumprelu: width of the window around a threshold in which pre-activations
            count for its gradient; 0.05.
        sparsity_warm_up_steps: for jumprelu and relu: steps in which the coefficient rises from 0
            in a straight line; 0.
        aux_loss_coefficient: for topk and batchtopk: weight of the auxiliary loss, in which dead
            latents reconstruct what the active ones leave; None: without.
        aux_k: dead latents a token in the auxiliary loss; None: d_in // 2.
        dead_feature_window: latents that have not fired for so many tokens are dead; 1,000,000.
        seed: of the order of the tokens, 0 to 2**64 - 1; 0.
        pull: weight of a pull towards codes of another model, so that latents of a carried SAE stay
            what they are: `pull` times the mean over tokens of the sum over latents of (f - t)²,
            where t are the activations of the SAE in `like`, and both are multiplied by the norm
            that the latent's decoder row began with. A latent that should be active and is not gets
            the gradient of its pre-activation. 0.1 to 1 do; None: without.

    >>> import numpy as np, suture
    >>> options: suture.TrainOptions = {"lr_scheduler": "cosine", "lr_warm_up_steps": 2}
    >>> x = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    >>> sae = suture.SAE.init(8, 32, k=4)
    >>> run = suture.train(sae, x, batch_size=100, log_every=1, lr=1e-3, **options)
    >>> [round(row["lr"], 6) for row in run.history]
    [0.0005, 0.001, 0.001, 0.0005]
    """

    batch_size: int
    lr: float
    lr_scheduler: LRScheduler
    lr_warm_up_steps: int
    lr_end: float
    total_steps: int
    betas: tuple[float, float]
    epsilon: float
    max_grad_norm: float | None
    decoder_norm: DecoderNorm
    b_dec_init: BDecInit
    normalize_activations: NormalizeActivations
    l0_coefficient: float
    l1_coefficient: float
    bandwidth: float
    sparsity_warm_up_steps: int
    aux_loss_coefficient: float | None
    aux_k: int | None
    dead_feature_window: int
    seed: int
    pull: float | None


# What each option becomes among the settings of the core.
_CHECKS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "batch_size": lambda v: {"batch_size": integer("batch_size", v, 1, 2**31 - 1)},
    "lr": lambda v: {"lr": real("lr", v, above=True)},
    "lr_scheduler": lambda v: {"lr_scheduler": word("lr_scheduler", v, LR_SCHEDULERS)},
    "lr_warm_up_steps": lambda v: {"lr_warm_up_steps": integer("lr_warm_up_steps", v, 0, _STEPS)},
    "lr_end": lambda v: {"lr_end": real("lr_end", v)},
    "total_steps": lambda v: {"total_steps": integer("total_steps", v, 1, _STEPS)},
    "betas": lambda v: _betas(v),
    "epsilon": lambda v: {"epsilon": real("epsilon", v, above=True)},
    "max_grad_norm": lambda v: (
        {} if v is None else {"max_grad_norm": real("max_grad_norm", v, above=True)}
    ),
    "decoder_norm": lambda v: {"decoder_norm": word("decoder_norm", v, DECODER_NORMS)},
    "b_dec_init": lambda v: {"b_dec_init": word("b_dec_init", v, B_DEC_INITS)},
    "normalize_activations": lambda v: {
        "normalize_activations": word("normalize_activations", v, NORMALIZATIONS)
    },
    "l0_coefficient": lambda v: {"l0_coefficient": real("l0_coefficient", v, above=True)},
    "l1_coefficient": lambda v: {"l1_coefficient": real("l1_coefficient", v, above=True)},
    "bandwidth": lambda v: {"bandwidth": real("bandwidth", v, above=True)},
    "sparsity_warm_up_steps": lambda v: {
        "sparsity_warm_up_steps": integer("sparsity_warm_up_steps", v, 0, _STEPS)
    },
    "aux_loss_coefficient": lambda v: (
        {} if v is None else {"aux_loss_coefficient": real("aux_loss_coefficient", v, above=True)}
    ),
    "aux_k": lambda v: {} if v is None else {"aux_k": integer("aux_k", v, 1, _STEPS)},
    "dead_feature_window": lambda v: {
        "dead_feature_window": integer("dead_feature_window", v, 1, _STEPS)
    },
    "seed": lambda v: {"seed": integer("seed", v, 0, 2**64 - 1)},
    "pull": lambda v: {} if v is None else {"pull": real("pull", v, above=True, most=1e6)},
}
assert set(_CHECKS) == set(TrainOptions.__annotations__)


def _betas(betas: Any) -> dict[str, Any]:
    try:
        beta1, beta2 = betas
    except (TypeError, ValueError):
        raise TypeError(f"betas is {betas!r}, expected two numbers") from None
    return {
        "beta1": real("betas[0]", beta1, above=True, most=_BELOW_ONE),
        "beta2": real("betas[1]", beta2, above=True, most=_BELOW_ONE),
    }


def core_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks `TrainOptions`, and gives the core's settings for those that are there.

    Raises:
        TypeError: an option of another name or type.
        ValueError: one out of range.
    """
    settings: dict[str, Any] = {}
    for name, value in options.items():
        if name not in _CHECKS:
            raise TypeError(f"{name} is no option of training, expected {', '.join(_CHECKS)}")
        settings |= _CHECKS[name](value)
    return settings


def with_total_steps(options: TrainOptions, tokens: int) -> TrainOptions:
    """The options, with the steps that `tokens` take where a scheduler needs them and they are not
    given."""
    if "total_steps" in options or options.get("lr_scheduler", "constant") == "constant":
        return options
    batch_size = integer("batch_size", options.get("batch_size", DEFAULT_BATCH_SIZE), 1)
    return {**options, "total_steps": -(-tokens // batch_size)}

# SPDX-License-Identifier: Apache-2.0
"""The sub-command ``train``: its options, and what it calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import suture
from suture import _train_options
from suture.cli import inputs

# Options of `suture.TrainOptions`: name, type, choices, help. Those not given keep their default.
_SETTINGS: tuple[tuple[str, Any, tuple[str, ...] | None, str], ...] = (
    ("batch_size", int, None, "tokens a step (4096)"),
    ("lr", float, None, "Adam's step size (1e-4)"),
    ("lr_scheduler", str, _train_options.LR_SCHEDULERS, "how the step size goes (constant)"),
    ("lr_warm_up_steps", int, None, "steps in which it rises (0)"),
    ("lr_end", float, None, "where linear and cosine end (0)"),
    ("max_grad_norm", float, None, "clip the norm of the gradients (no)"),
    ("decoder_norm", str, _train_options.DECODER_NORMS, "norms of decoder rows (unit_unprojected)"),
    ("b_dec_init", str, _train_options.B_DEC_INITS, "where b_dec begins (keep)"),
    (
        "normalize_activations",
        str,
        _train_options.NORMALIZATIONS,
        "scale activations while training (none)",
    ),
    ("l0_coefficient", float, None, "jumprelu: weight of L0 in the loss (1)"),
    ("l1_coefficient", float, None, "relu: weight of L1 in the loss (1)"),
    ("bandwidth", float, None, "jumprelu: window of the thresholds' gradient (0.05)"),
    ("sparsity_warm_up_steps", int, None, "steps in which that weight rises (0)"),
    (
        "aux_loss_coefficient",
        float,
        None,
        "topk, batchtopk: weight of the loss of dead latents (0)",
    ),
    ("aux_k", int, None, "dead latents a token in it (d_in / 2)"),
    ("dead_feature_window", int, None, "tokens without firing until a latent is dead (1000000)"),
)
_ARCHITECTURES = ("topk", "batchtopk", "jumprelu", "relu")


def train_options(parser: ArgumentParser) -> None:
    """The options of ``suture train``."""
    parser.add_argument("acts", type=Path, help="activations: .npy, or an extracted folder")
    parser.add_argument("--layer", type=inputs.layer, help="layer, where the folder holds several")
    parser.add_argument(
        "--init", type=Path, help="start from this SAE, a transferred one for example"
    )
    parser.add_argument("--d-sae", type=int, default=4096, help="latents of a random start (4096)")
    parser.add_argument(
        "--architecture", choices=_ARCHITECTURES, default="topk", help="of a random start (topk)"
    )
    parser.add_argument(
        "--k", type=int, default=32, help="active latents a token, for topk and batchtopk (32)"
    )
    parser.add_argument("--tokens", type=int, help="tokens to train on, in the whole run")
    parser.add_argument(
        "--explained-variance", type=float, help="stop where its moving average reaches this"
    )
    for name, kind, choices, text in _SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, choices=choices, help=text)
    inputs.add_norm_bound(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the start and the order (0)")
    parser.add_argument("--checkpoint", type=Path, help="folder for checkpoints and the history")
    parser.add_argument("--checkpoint-every", type=int, help="tokens between checkpoints")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder of --checkpoint"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the SAE")


def train(options: Namespace) -> dict[str, Any]:
    """Trains, saves and gives the last row of the history."""
    rows = inputs.rows(options.acts, options.layer, "layer")
    settings = {
        name: getattr(options, name) for name, *_ in _SETTINGS if getattr(options, name) is not None
    }
    run = _resumed(rows, options, settings) if options.resume else _new(rows, options, settings)
    run.sae.save(options.out)
    last = dict(run.history[-1]) if run.history else {}
    counted = {} if run.rows is None else {"rows": asdict(run.rows)}
    return {"out": str(options.out), "stopped": run.stopped} | last | counted


def _resumed(rows: Any, options: Namespace, settings: dict[str, Any]) -> suture.TrainRun:
    if options.checkpoint is None:
        raise ValueError("resume needs the folder of the run: say it by --checkpoint")
    if options.init is not None:
        raise ValueError("init has no use with --resume: the run has begun")
    run = suture.resume(
        options.checkpoint,
        rows,
        tokens=options.tokens,
        progress=not options.quiet,
        **settings,
    )
    if isinstance(run, list):
        raise ValueError(f"checkpoint {str(options.checkpoint)!r} holds several SAEs, expected one")
    return run


def _new(rows: Any, options: Namespace, settings: dict[str, Any]) -> suture.TrainRun:
    if options.tokens is None:
        raise ValueError("tokens is missing: say by --tokens how many to train on")
    if options.init is not None:
        start = suture.SAE.load(options.init)
    else:
        start = suture.SAE.init(
            d_in=suture.width(rows),
            d_sae=options.d_sae,
            architecture=options.architecture,
            k=options.k if options.architecture in ("topk", "batchtopk") else None,
            seed=options.seed,
        )
        start.metadata |= inputs.origin(options.acts, options.layer)
    if options.checkpoint_every is not None:
        settings = settings | {"checkpoint_every": options.checkpoint_every}
    return suture.train(
        start,
        rows,
        tokens=options.tokens,
        rows=inputs.counted(options),
        explained_variance=options.explained_variance,
        checkpoint=options.checkpoint,
        seed=options.seed,
        progress=not options.quiet,
        **settings,
    )

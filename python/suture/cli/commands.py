# SPDX-License-Identifier: Apache-2.0
"""The sub-commands: their options, and what each calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture.cli import (
    analysis,
    carrying,
    experiments,
    extraction,
    inputs,
    probing,
    steering,
    training,
)
from suture.cli.experiments import Command


def as_text(result: dict[str, Any], indent: str = "") -> str:
    """Results for people: one ``name  value`` a line, nested groups indented."""
    lines = []
    width = max(
        (len(name) for name, value in result.items() if not isinstance(value, dict)), default=0
    )
    for name, value in result.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}", as_text(value, indent + "  ")]
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            lines.append(f"{indent}{name:<{width}}  {shown}")
    return "\n".join(lines)


# -- fit -----------------------------------------------------------------------------------------


def _layer(text: str) -> int | str:
    return text if text == "auto" else inputs.layer(text)


def _fit_options(parser: ArgumentParser) -> None:
    parser.add_argument("acts_a", type=Path, help="activations of A: .npy, or an extracted folder")
    parser.add_argument("acts_b", type=Path, help="activations of B on the same texts")
    parser.add_argument(
        "--layer-a", type=inputs.layer, help="layer of A, where the folder holds several"
    )
    parser.add_argument(
        "--layer-b", type=_layer, help="layer of B; 'auto' picks the one most alike by SVCCA"
    )
    parser.add_argument(
        "--alpha", type=float, default=1.0, help="weight of the inversion terms (1)"
    )
    parser.add_argument(
        "--objective",
        choices=("scaled", "raw"),
        default="scaled",
        help="divide each stream's errors by its variance, or take them as the paper does (scaled)",
    )
    parser.add_argument(
        "--method",
        choices=("joint", "ridge", "procrustes"),
        default="joint",
        help="both directions together, or one of two simpler maps to compare with (joint)",
    )
    parser.add_argument("--ridge", type=float, help="relative to mean variances (chosen)")
    inputs.add_norm_bound(parser)
    parser.add_argument("--held-a", type=Path, help="held-out activations of A")
    parser.add_argument("--held-b", type=Path, help="held-out activations of B")
    parser.add_argument("--out", type=Path, required=True, help="stitch to write (.safetensors)")


def _pick_layer(options: Namespace, rows_a: Any, pairs: Any) -> tuple[int, dict[str, float]]:
    acts = suture.Activations.open(options.acts_b)
    candidates = [layer for layer in acts.layers if layer > 0]
    if not candidates:
        raise ValueError(f"acts_b {str(options.acts_b)!r} holds no layer but the embeddings")
    grid = suture.svcca_grid(
        {0: rows_a},
        {layer: acts.shards(layer) for layer in candidates},
        pairs=pairs,
        rows=inputs.counted(options),
        progress=not options.quiet,
    )
    scores = dict(zip(map(str, candidates), grid[0].tolist(), strict=True))
    return candidates[int(np.argmax(grid[0]))], scores


def _fit(options: Namespace) -> dict[str, Any]:
    if (options.held_a is None) != (options.held_b is None):
        raise ValueError("held-a and held-b go together, expected both or neither")
    result: dict[str, Any] = {}
    pairs = inputs.pairing(options.acts_a, options.acts_b)
    held_pairs = None
    if options.held_a is not None:
        held_pairs = inputs.pairing(options.held_a, options.held_b)
    if pairs is not None:
        result["pairing"] = inputs.shares(pairs)
    rows_a = inputs.rows(options.acts_a, options.layer_a, "layer-a")
    layer_b = options.layer_b
    if layer_b == "auto":
        layer_b, result["svcca"] = _pick_layer(options, rows_a, pairs)
    stitch = suture.Stitch.fit(
        rows_a,
        inputs.rows(options.acts_b, layer_b, "layer-b"),
        pairs=pairs,
        rows=inputs.counted(options),
        alpha=options.alpha,
        objective=options.objective,
        method=options.method,
        ridge=options.ridge,
        progress=not options.quiet,
    )
    for side, path, layer in (
        ("a", options.acts_a, options.layer_a),
        ("b", options.acts_b, layer_b),
    ):
        for key, value in inputs.source(path, layer).items():
            if value is not None:
                stitch.metadata |= {f"{key}_{side}": value}
    stitch.save(options.out)
    assert stitch.report is not None
    result |= {"out": str(options.out)} | asdict(stitch.report)
    if options.held_a is not None:
        held_out = stitch.evaluate(
            inputs.rows(options.held_a, options.layer_a, "layer-a"),
            inputs.rows(options.held_b, layer_b, "layer-b"),
            pairs=held_pairs,
            # The bounds of the fit, unless every row counts.
            rows=None if options.norm_bound is not None else suture.Rows.all(),
            alpha=options.alpha,
            progress=not options.quiet,
        )
        result["held_out"] = asdict(held_out)
    return result


# -- transfer ------------------------------------------------------------------------------------


def _transfer_options(parser: ArgumentParser) -> None:
    parser.add_argument("stitch", type=Path, help="stitch (.safetensors)")
    parser.add_argument("sae", type=Path, help="folder of the SAE to move")
    parser.add_argument("--direction", choices=["up", "down"], default="up", help="A to B, or back")
    parser.add_argument("--site", metavar="NAME", help=inputs.SITE)
    parser.add_argument(
        "--refit", type=Path, metavar="ACTS", help="solve the decoder anew on the new model's acts"
    )
    parser.add_argument(
        "--layer", type=inputs.layer, help="layer of ACTS, where the folder holds several"
    )
    parser.add_argument("--refit-tokens", type=int, help="tokens of ACTS at most (all)")
    parser.add_argument(
        "--tied-rounds", type=int, default=0, help="then tie the encoder and refit so often (0)"
    )
    carrying.add_held_out(parser)
    carrying.add_layers(parser, "held-out ")
    parser.add_argument("--out", type=Path, required=True, help="folder for the moved SAE")


def _transfer(options: Namespace) -> dict[str, Any]:
    stitch = suture.Stitch.load(options.stitch)
    sae = suture.SAE.load(options.sae)
    held = carrying.HeldOut.of(options, stitch.d_a, stitch.d_b, options.direction)
    moved = stitch.transfer(
        sae,
        direction=options.direction,
        site=options.site,
        refit=None if options.refit is None else inputs.rows(options.refit, options.layer, "layer"),
        refit_tokens=options.refit_tokens,
        tied_rounds=options.tied_rounds,
        progress=not options.quiet,
    )
    moved.save(options.out)
    result = {"out": str(options.out)} | _describe_sae(moved)
    return result if held is None else result | {"held_out": held.judge(sae, moved, options)}


# -- evaluate ------------------------------------------------------------------------------------


def _evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument("what", type=Path, help="folder of a SAE, or a stitch (.safetensors)")
    parser.add_argument(
        "acts", type=Path, nargs="+", help="activations; for a stitch those of A and of B"
    )
    parser.add_argument(
        "--layer", type=inputs.layer, nargs="+", help="layer of each folder of activations"
    )
    inputs.add_norm_bound(parser)


def _evaluate(options: Namespace) -> dict[str, Any]:
    wanted = 1 if options.what.is_dir() else 2
    if len(options.acts) != wanted:
        kind = "a SAE" if wanted == 1 else "a stitch"
        raise ValueError(f"acts has {len(options.acts)} entries, expected {wanted} for {kind}")
    layers = options.layer or [None] * wanted
    if len(layers) != wanted:
        raise ValueError(f"layer has {len(layers)} entries, expected {wanted}")
    rows = [
        inputs.rows(path, layer, "layer") for path, layer in zip(options.acts, layers, strict=True)
    ]
    if wanted == 1:
        sae = suture.SAE.load(options.what)
        return dict(sae.evaluate(rows[0], rows=inputs.counted(options), progress=not options.quiet))
    pairs = inputs.pairing(*options.acts)
    stitch = suture.Stitch.load(options.what)
    found = asdict(
        stitch.evaluate(
            *rows, pairs=pairs, rows=inputs.counted(options), progress=not options.quiet
        )
    )
    return found if pairs is None else found | {"pairing": inputs.shares(pairs)}


# -- info ----------------------------------------------------------------------------------------


def _info_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "path", type=Path, nargs="?", help="stitch, SAE, probe, steering vector or activations"
    )


def _describe_sae(sae: suture.SAE) -> dict[str, Any]:
    found = {
        "kind": "sae",
        "architecture": sae.architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        "k": sae.k,
        "metadata": dict(sae.metadata),
    }
    known = sae.evidence
    return found if known is None else found | {"evidence": _evidence(known)}


def _evidence(known: suture.LatentEvidence) -> str:
    """What carrying by pairs found of its latents, in a line."""
    judged = known.correlation[known.active_a >= 10]
    # As in a fidelity: a latent that has gone silent agrees with nothing.
    values = np.nan_to_num(judged)
    middle = f"median {np.median(values):.2f}, " if values.size else ""
    return (
        f"carried by {known.rows:,} pairs; correlation with the source {middle}above 0.5 for "
        f"{(values > 0.5).sum():,} of {values.size:,} latents that fire ten times on "
        f"{known.held_out_rows:,} held-out pairs"
    )


def _info(options: Namespace) -> dict[str, Any]:
    path: Path | None = options.path
    if path is None:
        return {"suture": suture.__version__} | asdict(suture.cpu_info())
    if (path / "manifest.json").is_file():
        acts = suture.Activations.open(path)
        return {
            "kind": "activations",
            "tokens": len(acts),
            "layers": list(acts.layers),
            "metadata": dict(acts.metadata),
        }
    if path.is_dir():
        return _describe_sae(suture.SAE.load(path))
    try:
        stitch = suture.Stitch.load(path)
    except suture.FormatError:
        found = _describe_feature(path)
        if found is None:
            raise
        return found
    return {
        "kind": "stitch",
        "d_a": stitch.d_a,
        "d_b": stitch.d_b,
        "metadata": dict(stitch.metadata),
    }


def _describe_feature(path: Path) -> dict[str, Any] | None:
    """What is in the file of a probe or a steering vector; None for any other."""
    try:
        probe = suture.Probe.load(path)
    except suture.FormatError:
        pass
    else:
        return {
            "kind": "probe",
            "d_in": probe.d_in,
            "classes": probe.classes.tolist(),
            "metadata": dict(probe.metadata),
        }
    try:
        vector = suture.SteeringVector.load(path)
    except suture.FormatError:
        return None
    return {
        "kind": "steering vector",
        "d": vector.d,
        "z_mean": vector.z_mean,
        "metadata": dict(vector.metadata),
    }


COMMANDS: dict[str, Command] = {
    "extract": (
        extraction.extract_options,
        extraction.extract,
        "extract residual-stream activations of a model",
        "suture extract models/small texts.jsonl --layers 2 --max-tokens 500000 --out acts/small",
    ),
    "fit": (
        _fit_options,
        _fit,
        "fit a stitch between two models' activations",
        "suture fit acts/small acts/large --layer-b auto --out stitch.safetensors",
    ),
    "transfer": (
        _transfer_options,
        _transfer,
        "move a SAE through a stitch",
        "suture transfer stitch.safetensors sae/small --out sae/large",
    ),
    "carry": (
        carrying.carry_options,
        carrying.carry,
        "carry a SAE to another model by paired rows, so that its features stay themselves",
        "suture carry sae/small acts/small acts/large --layer-b 3 "
        "--held-out acts/held-small acts/held-large --out sae/carried",
    ),
    "train": (
        training.train_options,
        training.train,
        "train a SAE on activations, or go on with a run",
        "suture train acts/small --d-sae 4096 --k 32 --tokens 4000000 --out sae/small",
    ),
    "evaluate": (
        _evaluate_options,
        _evaluate,
        "measure a SAE or a stitch on activations",
        "suture evaluate sae/large acts/held-out-large",
    ),
    "fidelity": (
        carrying.fidelity_options,
        carrying.fidelity,
        "say whether the features of a moved SAE still are the same features",
        "suture fidelity sae/small acts/held-small sae/large acts/held-large --layer-b 3",
    ),
    "analyse": (
        analysis.options,
        analysis.run,
        "say what features of a SAE do, before and after a transfer; write pages of some",
        "suture analyse sae/small acts/held-small models/small "
        "--transferred sae/large acts/held-large models/large --out features",
    ),
    "probe": (
        probing.probe_options,
        probing.probe,
        "fit a probe to labelled activations, evaluate it, carry it through a stitch",
        "suture probe acts/small labels.txt --pool --stitch s.safetensors --out probe.safetensors",
    ),
    "steer": (
        steering.options,
        steering.run,
        "fit a steering vector, carry it through a stitch, write steered text",
        "suture steer german.jsonl english.jsonl --model models/small --layer 2 "
        "--stitch stitch.safetensors --steered-model models/large --generate 'The file' "
        "--out german.safetensors",
    ),
    "info": (
        _info_options,
        _info,
        "say what a file holds, or what this machine runs",
        "suture info stitch.safetensors",
    ),
    "report": (
        experiments.report_options,
        experiments.report,
        "run the whole experiment on a pair of models and write a report",
        "suture report models/small models/large --texts t.jsonl --held-out h.jsonl --out out",
    ),
    "savings": (
        experiments.savings_options,
        experiments.savings,
        "measure what transferred starts save when SAEs are trained, and draw it",
        "suture savings models/small models/large --texts t.jsonl --held-out h.jsonl --out out",
    ),
    "paper": (
        experiments.paper_options,
        experiments.paper,
        "run the paper's experiments on a pair of models and write a report with verdicts",
        "suture paper models/small models/large --texts t.jsonl --held-out h.jsonl --out out",
    ),
}

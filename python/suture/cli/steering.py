# SPDX-License-Identifier: Apache-2.0
"""The sub-command ``steer``: its options, and what it calls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import suture
from suture.cli import inputs


def options(parser: ArgumentParser) -> None:
    """The options of ``suture steer``."""
    parser.add_argument(
        "sides", type=Path, nargs="*", metavar="POSITIVE NEGATIVE",
        help="activations (.npy, extracted folders), or with --model texts, to steer to and from",
    )  # fmt: skip
    parser.add_argument("--use", type=Path, metavar="VECTOR", help="steer by this one, fit none")
    parser.add_argument(
        "--use-layer", type=inputs.layer, help="its layer, in a GGUF file with several"
    )
    parser.add_argument("--model", type=Path, help="folder of the model that the vector is of")
    parser.add_argument(
        "--layer", type=inputs.layer, help="layer: of the texts, or of several in a folder"
    )
    parser.add_argument("--max-tokens", type=int, help="tokens of each text file at most (all)")
    parser.add_argument("--stitch", type=Path, help="carry the vector through this stitch")
    parser.add_argument("--direction", choices=["up", "down"], default="up", help="A to B, or back")
    parser.add_argument("--site", metavar="NAME", help=inputs.SITE)
    parser.add_argument(
        "--acts", type=Path, help="positive activations of the new model, for its z_mean"
    )
    parser.add_argument(
        "--acts-layer", type=inputs.layer, help="layer of ACTS, where there are several"
    )
    parser.add_argument(
        "--out", type=Path, help="vector to write (.safetensors, or .gguf for llama.cpp)"
    )
    own = parser.add_argument_group("steered text")
    own.add_argument("--generate", nargs="+", metavar="PROMPT", help="write on from these")
    own.add_argument(
        "--steered-model", type=Path, metavar="MODEL", help="model that writes (that of --model)"
    )
    own.add_argument(
        "--steered-layer", type=inputs.layer, help="where to steer (what the vector says)"
    )
    own.add_argument("--mode", choices=["clamp", "add", "ablate"], default="clamp")
    own.add_argument("--strength", type=float, default=1.0, help="factor of z_mean (1)")
    own.add_argument(
        "--positions", choices=["all", "last", "generated"],
        help="steer these rows, but no special tokens, chat markers or enormous norms (every row, "
        "those too)",
    )  # fmt: skip
    own.add_argument("--max-new-tokens", type=int, default=64, help="(64)")
    own.add_argument("--temperature", type=float, default=1.0, help="0: no sampling (1)")
    own.add_argument("--seed", type=int, default=0, help="(0)")


def run(options: Namespace) -> dict[str, Any]:
    """Runs ``suture steer``."""
    if (options.use is None) != (len(options.sides) == 2) or (options.use and options.sides):
        raise ValueError(
            f"POSITIVE NEGATIVE are {len(options.sides)} paths, expected 2, or none with --use"
        )
    steered_model = options.steered_model or options.model
    if options.generate is not None and steered_model is None:
        raise ValueError("steered-model is not given, expected one to --generate with")
    if options.acts is not None and options.stitch is None:
        raise ValueError("acts is given without --stitch, expected both or neither")
    vector = (
        suture.SteeringVector.load(options.use, layer=options.use_layer)
        if options.use is not None
        else _fitted(options)
    )
    if options.stitch is not None:
        acts = options.acts
        vector = suture.Stitch.load(options.stitch).transfer(
            vector,
            options.direction,
            site=options.site,
            acts=None if acts is None else inputs.rows(acts, options.acts_layer, "acts-layer"),
            progress=not options.quiet,
        )
    result: dict[str, Any] = {
        "d": vector.d,
        "z_mean": vector.z_mean,
        "metadata": dict(vector.metadata),
    }
    if options.generate is not None:
        result["texts"] = _texts(vector, steered_model, options)
    if options.out is not None:
        # Last, so that a wrong argument leaves no file behind.
        vector.save(options.out, "gguf" if options.out.suffix == ".gguf" else "safetensors")
        result["out"] = str(options.out)
    return result


def _fitted(options: Namespace) -> suture.SteeringVector:
    positive, negative = options.sides
    texts = [not path.is_dir() and path.suffix != ".npy" for path in options.sides]
    if not any(texts):
        return suture.SteeringVector.fit(
            *(inputs.rows(path, options.layer, "layer") for path in options.sides),
            metadata=inputs.origin(positive, options.layer),
            progress=not options.quiet,
        )
    if not all(texts):
        raise ValueError(
            f"{positive} and {negative} are texts and activations, expected the same of both"
        )
    if options.model is None or options.layer is None:
        raise ValueError("model and layer are not both given, expected them for texts")
    from suture.models import extract
    from suture.models.loading import load

    model, tokenizer = load(options.model)
    acts = [
        extract(
            model, tokenizer, suture.read_texts(path), options.layer,
            max_tokens=options.max_tokens, model_name=options.model.resolve().name,
            progress=not options.quiet,
        )
        for path in options.sides
    ]  # fmt: skip
    return suture.SteeringVector.fit(*acts, progress=not options.quiet)


def _texts(vector: suture.SteeringVector, folder: Path, options: Namespace) -> dict[str, str]:
    from suture.models import generate, steer
    from suture.models.loading import load

    layer = options.steered_layer
    if layer is None:
        site = suture.Site.of(vector)
        if site.stream != "resid_pre" or site.layer is None:
            raise ValueError(
                "steered-layer is not given, expected it for a vector that does not say which "
                "layer of the residual stream it is of"
            )
        layer = site.layer
    model, tokenizer = load(folder, "steered-model" if options.steered_model else "model")
    rows = None if options.positions is None else suture.Rows(positions=options.positions)
    with steer(
        model, vector, layer, options.mode, options.strength, rows=rows, tokenizer=tokenizer
    ):
        texts = generate(
            model, tokenizer, options.generate, max_new_tokens=options.max_new_tokens,
            temperature=options.temperature, seed=options.seed, progress=not options.quiet,
        )  # fmt: skip
    return dict(zip(options.generate, texts, strict=True))

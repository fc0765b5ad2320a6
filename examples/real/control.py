# SPDX-License-Identifier: Apache-2.0
"""A control vector in Suture and in llama.cpp: residual streams layer by layer, greedy text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import suture
import suture.models
import torch

import llama

#: Largest difference of the two shifts, relative to a row's shift. Both compute in float32, with
#: sums in other orders and other approximations of exp, and a row passes up to 30 blocks on its
#: way: that comes to 1e-5. The first position, whose norm is many times its shift, rounds coarser.
TOLERANCE = 1e-3

Streams = dict[int, npt.NDArray[Any]]


def compare(
    model: Any,
    tokenizer: Any,
    gguf: Path,
    vector: suture.SteeringVector,
    layer: int,
    prompts: Sequence[str],
    folder: Path,
    *,
    strength: float = 1.0,
    new_tokens: int = 40,
) -> dict[str, Any]:
    """Saves the vector for llama.cpp, and runs the prompts with and without it in both.

    Args:
        model, tokenizer: a Hugging Face model and its tokenizer.
        gguf: the same weights as GGUF.
        vector: what is added before block `layer`, times its z_mean and `strength`.
        prompts: texts as the model reads them, rendered by its chat template.
        folder: where the control vector and the float32 copy of `gguf` are written.
        new_tokens: most tokens of greedy text.

    Returns:
        "layers": for each layer the largest relative difference of the plain streams ("plain"), of
        the shifts ("shift"), and the mean length of a row's shift ("length"), of Suture; before
        `layer` shifts are zero in both, and "shift" is the largest value of llama.cpp's. "texts":
        for each prompt the greedy text of both, steered and not; "agree": whether all is as it
        should be.
    """
    control = folder / "control.gguf"
    vector.save(control, format="gguf", layer=layer)
    other = llama.Llama(llama.write_float32(gguf, folder / "float32.gguf"))
    try:
        plain: dict[int, list[float]] = {}
        shift: dict[int, list[float]] = {}
        length: dict[int, list[float]] = {}
        texts = []
        for prompt in prompts:
            ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
            if other.tokenise(prompt) != ids:
                raise ValueError(f"llama.cpp reads {prompt!r} as other tokens")
            ours, theirs = streams(model, ids), llama_streams(other, ids)
            with suture.models.steer(model, vector, layer, "add", strength):
                ours_steered = streams(model, ids)
                ours_text = greedy(model, ids, new_tokens)
            other.steer(control, strength)
            theirs_steered = llama_streams(other, ids)
            theirs_text = other.greedy(ids, new_tokens)
            other.steer(None)
            for number in ours:
                if number == 0:  # the embeddings: no block has them as its output
                    continue
                moved = ours_steered[number] - ours[number]
                moved_there = theirs_steered[number] - theirs[number]
                plain.setdefault(number, []).append(apart(theirs[number], ours[number]))
                shift.setdefault(number, []).append(
                    apart(moved_there, moved) if number >= layer else float(abs(moved_there).max())
                )
                length.setdefault(number, []).append(float(np.linalg.norm(moved, axis=1).mean()))
            decode = tokenizer.decode
            texts.append(
                {
                    "prompt": prompt,
                    "plain": [decode(greedy(model, ids, new_tokens)),
                              decode(other.greedy(ids, new_tokens))],
                    "steered": [decode(ours_text), decode(theirs_text)],
                }
            )  # fmt: skip
    finally:
        other.close()
        (folder / "float32.gguf").unlink()
    layers = [
        {
            "layer": number,
            "plain": max(plain[number]),
            "shift": max(shift[number]),
            "length": float(np.mean(length[number])),
        }
        for number in sorted(plain)
    ]
    agree = all(row["shift"] <= (TOLERANCE if row["layer"] >= layer else 0.0) for row in layers)
    same = all(len(set(row[kind])) == 1 for row in texts for kind in ("plain", "steered"))
    return {
        "layer": layer,
        "strength": strength,
        "z_mean": vector.z_mean,
        "tolerance": TOLERANCE,
        "layers": layers,
        "texts": texts,
        "agree": agree and same,
    }


def streams(model: Any, ids: Sequence[int]) -> Streams:
    """Residual streams before each block, and after the last, (tokens, d) in float64."""
    with torch.no_grad():
        seen: Streams = {}
        hooks = [
            block.register_forward_pre_hook(
                lambda _, inputs, number=number: seen.update({number: rows_of(inputs[0])})
            )
            for number, block in enumerate(model.model.layers)
        ]
        hooks.append(
            model.model.norm.register_forward_pre_hook(
                lambda _, inputs: seen.update({len(model.model.layers): rows_of(inputs[0])})
            )
        )
        try:
            model(torch.tensor([list(ids)]))
        finally:
            for hook in hooks:
                hook.remove()
    return seen


def rows_of(stream: Any) -> npt.NDArray[Any]:
    """One sequence's rows."""
    return np.array(stream[0].double())


def llama_streams(other: llama.Llama, ids: Sequence[int]) -> Streams:
    """The same of llama.cpp, whose block k gives the stream before block k + 1."""
    return {number + 1: rows.astype(np.float64) for number, rows in other.streams(ids).items()}


def greedy(model: Any, ids: Sequence[int], count: int) -> list[int]:
    """The likeliest tokens after these."""
    prompt = torch.tensor([list(ids)])
    written = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count
    )
    return list(written[0, len(ids) :].tolist())


def apart(found: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """The largest distance of two rows, relative to the second."""
    sizes = np.linalg.norm(wanted, axis=1)
    return float((np.linalg.norm(found - wanted, axis=1) / np.maximum(sizes, 1e-30)).max())

# SPDX-License-Identifier: Apache-2.0
"""Steering a language model along a vector while it runs, and the texts it then writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from .._arguments import instance, real
from ..rows import Rows, check_vocabulary
from ..site import Site
from ..steering import SteeringVector
from ._borrowing import borrowed
from ._passes import Passes
from ._progress import progress_bar
from ._residual import (
    check_layer,
    find_blocks,
    residual_hooks,
    stream_width,
    text_config,
)
from ._sites import warn_of_another_site
from ._tokens import check_count, longest_context, special_ids_of
from ._windows import bos_head, head_before

Mode = Literal["clamp", "add", "ablate"]


def steer(
    model: nn.Module,
    vector: SteeringVector,
    layer: int | str | Site,
    mode: Mode = "clamp",
    strength: float = 1.0,
    *,
    rows: Rows | None = None,
    tokenizer: Any = None,
) -> AbstractContextManager[None]:
    """Steers a Hugging Face model within a `with` block: the residual stream before block `layer`
    is changed along the vector v (arXiv 2506.06609, eq. 9), at every position unless `rows` says
    otherwise.

    - "clamp": `h + (strength · z_mean − <h, v>) v`, the paper's. Every token lies along v where the
      positive texts lie on average.
    - "add": `h + strength · z_mean · v`.
    - "ablate": `h − <h, v> v`; `strength` has no meaning.

    Works wherever the model runs: in plain calls, under `generate` with or without a cache, in
    padded batches, in any element type and on any device (the change itself is computed in float32
    or better). Blocks may be nested; at one layer the outer one acts first. The model is the
    caller's: nothing but the hooks is added, and they are gone after the block, also after an
    error. What went through `torch.compile`, the model, its parts, or a function that calls it,
    runs uncompiled within the block, for compiled code does not look for hooks.

    Args:
        model: a transformers model.
        vector: (d,) of the model's width.
        layer: layer l is the input of block l; n_layers is the output of the last block. Also a
            name of the stream, or a `suture.Site`, such as `suture.Site.of(vector)`.
        mode: see above.
        strength: factor of the vector's `z_mean`.
        rows: which rows are steered. None: all of them, as in the paper, BOS and padding too. A
            `suture.Rows` leaves out what it says: special tokens and chat markers, other token
            ids, first positions, rows of enormous norm (the median is that of the prompt's rows
            that count). "last" is the prompt's last row that counts, and what is generated after
            it; "generated" is what comes after the prompt, so that a single pass over a text is
            left alone. Both are the same with a cache and without.
        tokenizer: tells `rows` the special tokens and chat markers. None: BOS, EOS and PAD of the
            model's configuration.

    Raises:
        TypeError, ValueError: an argument is not usable; raised here, before the block begins. The
            message names it, its value and what was expected. Within the block, by a pass that
            does not run block `layer` at all, and by one that does not tell what `rows` needs,
            such as token ids where it is run on `inputs_embeds`.

    Warns:
        SutureWarning: the vector's metadata name another model, layer or stream.

    >>> import numpy as np, suture, suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> vector = suture.SteeringVector(np.eye(16)[3], z_mean=2.0)
    >>> with suture.models.steer(model, vector, layer=2):
    ...     acts = suture.models.extract(model, tokenizer, ["a text"], layers=2)
    >>> acts[2][:, 3].round(4).tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    >>> with suture.models.steer(
    ...     model, vector, 2, rows=suture.Rows(positions="generated"), tokenizer=tokenizer
    ... ):
    ...     texts = suture.models.generate(model, tokenizer, ["a prompt"], max_new_tokens=3)
    """
    blocks = find_blocks(model)
    at_layer = check_layer("layer", layer, blocks)
    instance("vector", vector, SteeringVector, "suture.SteeringVector")
    width = stream_width(model)
    if vector.d != width:
        raise ValueError(f"vector: d = {vector.d}, expected {width}, the width of the model")
    if mode not in get_args(Mode):
        raise ValueError(f"mode: {mode!r}, expected one of {', '.join(get_args(Mode))}")
    amount = real("strength", strength, least=-math.inf)
    passes = _passes(model, at_layer, rows, tokenizer)
    warn_of_another_site("steer", "vector", vector, model, at_layer)
    return _steered(blocks, at_layer, steering(vector, mode, amount), passes)


@contextmanager
def _steered(
    blocks: nn.ModuleList, layer: int, change: Callable[[Tensor], Tensor], passes: Passes
) -> Iterator[None]:
    def function(stream: Tensor) -> Tensor:
        counted = passes(stream)
        new = change(stream)
        return new if counted is None else torch.where(counted[..., None], new, stream)

    with residual_hooks(blocks, {layer: function}), passes.followed():
        yield


def _passes(model: nn.Module, layer: int, rows: Rows | None, tokenizer: Any) -> Passes:
    """What follows the model's passes, and knows which of their rows are steered."""
    special: frozenset[int] = frozenset()
    if rows is not None:
        if not isinstance(rows, Rows):
            raise TypeError(
                f"rows: {type(rows).__name__}, expected suture.Rows or None: which rows there will "
                "be is not known before the model runs"
            )
        if rows.mask is not None:
            raise ValueError(
                "rows.mask is given, expected None: which rows there will be is not known before "
                "the model runs"
            )
        check_vocabulary(rows, getattr(text_config(model), "vocab_size", None), "model")
        special = special_ids_of(tokenizer, [model])
    return Passes(model, layer, rows, special)


def steering(vector: SteeringVector, mode: Mode, strength: float) -> Callable[[Tensor], Tensor]:
    """What becomes of a (batch, position, d) residual stream."""
    unit = torch.tensor(vector.vector)
    target = strength * vector.z_mean
    # One copy for each device and type that the model turns out to compute in.
    copies: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def function(stream: Tensor) -> Tensor:
        kind = torch.promote_types(stream.dtype, torch.float32)
        key = (stream.device, kind)
        if key not in copies:
            copies[key] = unit.to(device=stream.device, dtype=kind)
        v = copies[key]
        h = stream.to(kind)
        if mode == "add":
            return (h + target * v).to(stream.dtype)
        along = (h * v).sum(-1, keepdim=True)
        wanted = target if mode == "clamp" else 0.0
        return (h + (wanted - along) * v).to(stream.dtype)

    return function


def generate(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 64,
    min_new_tokens: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 32,
    seed: int = 0,
    prepend_bos: bool | None = None,
    progress: bool | None = None,
    device: str | torch.device | None = None,
) -> list[str]:
    """What a causal language model writes after each prompt, without the prompt.

    Prompts begin with BOS where the tokenizer has one, once, and are padded on the left. The same
    call gives the same texts: sampling has a seed of its own for each batch, and torch's random
    state is left alone. Use it within `steer` to see what a vector does.

    Args:
        model: a transformers causal language model.
        tokenizer: its tokenizer.
        prompts: texts; none may be empty where the tokenizer has no BOS.
        max_new_tokens: most tokens to write; prompt and these must fit the model's maximum.
        min_new_tokens: do not end before so many.
        temperature: of the sampling; 0 always takes the likeliest token.
        top_p: sample from the likeliest tokens that have this probability together.
        batch_size: prompts in a forward pass. Sampled texts depend on it.
        seed: of the sampling.
        prepend_bos: begin prompts with BOS. None: if the tokenizer has a BOS and the prompt does
            not begin with that token already, as a rendered chat template does; True: in any
            case; False: never.
        progress: a bar on stderr; None: only when it takes more than two seconds.
        device: run there, and move the model back afterwards. None: where the model is.

    Returns:
        A text for each prompt, special tokens left out.

    Raises:
        TypeError, ValueError: an argument is not usable; the message names it, its value and what
            was expected.

    >>> import suture.models
    >>> model, _, tokenizer = suture.models.tiny_pair()
    >>> once, again = (
    ...     suture.models.generate(model, tokenizer, ["One", "A longer one"], max_new_tokens=5)
    ...     for _ in range(2)
    ... )
    >>> len(once), once == again
    (2, True)
    """
    text_config(model)
    if not callable(getattr(model, "generate", None)):
        raise TypeError(
            f"model: {type(model).__name__} cannot generate, expected a causal language model"
        )
    if not callable(tokenizer) or not hasattr(tokenizer, "batch_decode"):
        raise TypeError(f"tokenizer: {type(tokenizer).__name__}, expected a transformers tokenizer")
    check_count("max_new_tokens", max_new_tokens, 1)
    check_count("min_new_tokens", min_new_tokens, 0)
    if min_new_tokens > max_new_tokens:
        raise ValueError(
            f"min_new_tokens: {min_new_tokens}, expected at most max_new_tokens = {max_new_tokens}"
        )
    check_count("batch_size", batch_size, 1)
    check_count("seed", seed, 0)
    warmth = real("temperature", temperature)
    nucleus = real("top_p", top_p, above=True, most=1.0)
    sequences = _prompt_ids(tokenizer, prompts, prepend_bos)
    longest = longest_context(None, [model])
    for number, ids in enumerate(sequences):
        if longest and len(ids) + max_new_tokens > longest:
            raise ValueError(
                f"prompts[{number}]: {len(ids)} tokens, expected at most "
                f"{longest - max_new_tokens}, the model's maximum of {longest} without "
                f"max_new_tokens = {max_new_tokens}"
            )
    pad = next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "min_new_tokens": min_new_tokens,
        "pad_token_id": pad,
        "use_cache": True,
        "do_sample": warmth > 0,
    }
    if warmth > 0:
        # Whatever else the model's own settings would filter by is switched off.
        options |= {"temperature": warmth, "top_p": nucleus, "top_k": 0}
    texts: list[str] = []
    with (
        borrowed(model, device) as where,
        progress_bar(len(sequences), "generate", progress) as bar,
        torch.random.fork_rng(devices=[where] if where.type == "cuda" else []),
    ):
        for start in range(0, len(sequences), batch_size):
            group = sequences[start : start + batch_size]
            batch, mask = _left_padded(group, pad, where)
            torch.manual_seed(seed + start)
            written: Tensor = model.generate(  # type: ignore[operator]
                input_ids=batch, attention_mask=mask, **options
            )
            texts += tokenizer.batch_decode(written[:, batch.shape[1] :], skip_special_tokens=True)
            bar.update(len(group))
    return texts


def _prompt_ids(tokenizer: Any, prompts: Any, prepend_bos: bool | None) -> list[list[int]]:
    if isinstance(prompts, str) or not isinstance(prompts, Sequence):
        raise TypeError(f"prompts: {type(prompts).__name__}, expected a list of texts")
    if not prompts:
        raise ValueError("prompts: empty, expected at least one text")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"prompts[{number}]: {type(prompt).__name__}, expected a text")
    head = bos_head(tokenizer, prepend_bos, "prompts")
    found = [
        [*head_before(ids, head, prepend_bos), *ids]
        for ids in tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
    ]
    for number, ids in enumerate(found):
        if not ids:
            raise ValueError(
                f"prompts[{number}]: {prompts[number]!r} has no tokens, expected at least one, for "
                "the tokenizer has no BOS, or prepend_bos is False"
            )
    return found


def _left_padded(
    sequences: list[list[int]], pad: int, where: torch.device
) -> tuple[Tensor, Tensor]:
    length = max(map(len, sequences))
    ids = torch.full((len(sequences), length), pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, length - len(sequence) :] = torch.tensor(sequence)
        mask[row, length - len(sequence) :] = 1
    return ids.to(where), mask.to(where)

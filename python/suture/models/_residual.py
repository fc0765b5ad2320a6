# SPDX-License-Identifier: Apache-2.0
"""Finding a model's blocks, and hooks on its residual stream: the one place that reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from ..site import Site, residual_layer

# Where the block lists of the common families live, relative to the model with its head and to
# the bare model; tried in this order, before any search.
BLOCK_PATHS = (
    "gpt_neox.layers",
    "transformer.h",
    "model.layers",
    "model.decoder.layers",
    "transformer.blocks",
    "transformer.layers",
    "backbone.layers",
    "model.language_model.layers",
    "language_model.model.layers",
    "language_model.layers",
    "text_model.layers",
    "model.text_model.layers",
    "decoder.layers",
    "layers",
    "h",
)

# Blocks whose first input is not the one residual stream of the text, by the name of their class:
# their shapes would not always show it.
OTHER_STREAMS = {
    "CpmAntTransformerBlock": "puts rows of a prompt of its own before those of the text",
    "ProphetNetDecoderLayer": "runs streams for the tokens further ahead beside that of the text",
    "ReformerLayer": "splits its residual stream in two reversible ones, and hashes at random",
    "XLNetLayer": "reads in both directions, with a second stream for the words to predict",
}

# In the names of stacks that read something else than text.
OTHER_SENSES = ("vision", "visual", "image", "audio")

ResidualFunction = Callable[[Tensor], "Tensor | None"]


class StreamError(ValueError):
    """What a model was found to be, while it ran, that its streams cannot be used; in words."""


class _SeenEnoughError(Exception):
    """Ends a forward pass when everything asked for has been seen."""


def unwrapped(model: Any) -> Any:
    """The model itself, where `torch.compile` has put a wrapper around it."""
    return getattr(model, "_orig_mod", model) if isinstance(model, nn.Module) else model


def text_config(model: nn.Module, argument: str = "model") -> Any:
    """The configuration of the language model (of its text part where there are several)."""
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or config is None:
        raise TypeError(
            f"{argument}: {type(model).__name__}, expected a transformers model (PreTrainedModel)"
        )
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def stream_width(model: nn.Module, argument: str = "model") -> int:
    """d, the width of the residual stream."""
    width = getattr(text_config(model, argument), "hidden_size", None)
    if not isinstance(width, int):
        raise ValueError(
            f"{argument}: config.hidden_size of {type(unwrapped(model)).__name__} is {width!r}, "
            "expected the width of its residual stream"
        )
    return width


def check_decoder(model: nn.Module, argument: str = "model") -> Any:
    """The configuration of a model that is no encoder-decoder."""
    config = text_config(model, argument)
    if getattr(config, "is_encoder_decoder", False):
        name = type(unwrapped(model)).__name__
        raise ValueError(f"{argument}: {name} is an encoder-decoder, expected decoder-only")
    return config


def find_blocks(model: nn.Module, argument: str = "model") -> nn.ModuleList:
    """The list of decoder blocks of any decoder-only Hugging Face model.

    Of a model with several stacks, such as one that also sees or hears, it is the text's.
    """
    config = check_decoder(model, argument)
    name = type(unwrapped(model)).__name__
    for reason in several_streams(model, config):
        raise ValueError(f"{argument}: {name} {reason}, expected one residual stream, the text's")
    count = getattr(config, "num_hidden_layers", None)
    # LongCat counts two layers in each of its blocks.
    counts = {count, getattr(config, "num_layers", None)}
    for path in BLOCK_PATHS:
        found: Any = model
        for part in path.split("."):
            found = getattr(found, part, None)
        if isinstance(found, nn.ModuleList) and (count is None or len(found) in counts):
            return found
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    fitting = [name for name, module in lists.items() if count is not None and len(module) == count]
    if len(fitting) > 1:
        fitting = _of_the_text(model, lists, fitting)
    if len(fitting) == 1:
        return lists[fitting[0]]
    seen = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
    raise ValueError(
        f"{argument}: the blocks of {name} were not found; looked for "
        f"{', '.join(BLOCK_PATHS)}, then for exactly one ModuleList of length "
        f"config.num_hidden_layers = {count}; its module lists are: {seen}"
    )


def several_streams(model: nn.Module, config: Any) -> Iterator[str]:
    """What is known of streams beyond the one residual stream, in words."""
    for field, what in (("altup_num_inputs", "AltUp"), ("hc_mult", "hyper-connections")):
        number = getattr(config, field, None)
        if isinstance(number, int) and number > 1:
            yield f"keeps {number} residual streams side by side ({what}: config.{field})"
    for module in model.modules():
        if type(module).__name__ in OTHER_STREAMS:
            yield OTHER_STREAMS[type(module).__name__]


def _of_the_text(
    model: nn.Module, lists: Mapping[str, nn.ModuleList], fitting: Sequence[str]
) -> list[str]:
    """Of several module lists, those of the part that the model itself calls its decoder, or else
    those that are not named after another sense."""
    find: Any = getattr(model, "get_decoder", None)
    decoder = find() if callable(find) else None
    parts = {id(module) for module in decoder.modules()} if isinstance(decoder, nn.Module) else ()
    inside = [name for name in fitting if id(lists[name]) in parts]
    if 0 < len(inside) < len(fitting):
        return inside
    return [name for name in fitting if not any(sense in name for sense in OTHER_SENSES)]


def check_layer(argument: str, layer: Any, blocks: nn.ModuleList) -> int:
    """A layer number in 0 .. n_layers, also by a name of its stream or as a `suture.Site`."""
    if isinstance(layer, (str, Site)):
        return residual_layer(argument, layer, n_layers=len(blocks))
    if isinstance(layer, bool) or not hasattr(layer, "__index__"):
        raise TypeError(f"{argument}: {layer!r}, expected an integer, or a name of the layer")
    number = int(layer.__index__())
    if not 0 <= number <= len(blocks):
        raise ValueError(
            f"{argument}: {number}, expected 0 to {len(blocks)} (layer l is the residual stream "
            f"before block l; {len(blocks)} is the output of the last block)"
        )
    return number


@contextmanager
def residual_hooks(
    blocks: nn.ModuleList, functions: Mapping[int, ResidualFunction]
) -> Iterator[None]:
    """Show each layer's residual stream to its function; what it returns takes the stream's place.

    A function gets (batch, position, d) and returns a tensor of the same shape, or None to leave
    the stream alone. What is no stream of that form is refused when the block runs. Within the
    block, compiled code runs uncompiled: what `torch.compile` has made does not look for hooks.

    Raises:
        ValueError: a block is given, or returns, no (batch, position, d) tensor.
    """
    handles = []
    with uncompiled():
        try:
            for layer, function in functions.items():
                if layer < len(blocks):
                    before = _before(function, layer)
                    handles.append(
                        blocks[layer].register_forward_pre_hook(before, with_kwargs=True)
                    )
                else:
                    handles.append(blocks[-1].register_forward_hook(_after(function, layer)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def uncompiled() -> AbstractContextManager[Any]:
    """A block in which everything that went through `torch.compile` runs as it was written."""
    # Since torch 2.6; it also reaches models compiled in place, their parts, and functions of a
    # caller's own that run the model, none of which can be seen from here.
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")


def _before(function: ResidualFunction, layer: int) -> Callable[..., Any]:
    def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = _first_argument(block, kwargs)
        stream = args[0] if args else kwargs.get(name)
        new = function(_checked(stream, layer, block))
        if new is None:
            return None
        if args:
            return (new, *args[1:]), kwargs
        return args, {**kwargs, name: new}

    return hook


def _first_argument(block: nn.Module, kwargs: Mapping[str, Any]) -> str:
    """By which name a block is given its stream when all its arguments have names."""
    if "hidden_states" in kwargs:
        return "hidden_states"
    return next(iter(inspect.signature(unwrapped(block).forward).parameters), "")


def _after(function: ResidualFunction, layer: int) -> Callable[..., Any]:
    def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        alone = not isinstance(output, (tuple, list))
        new = function(_checked(output if alone else next(iter(output), None), layer, block))
        if new is None:
            return None
        return new if alone else type(output)([new, *output[1:]])

    return hook


def _checked(stream: Any, layer: int, block: nn.Module) -> Tensor:
    if isinstance(stream, Tensor) and stream.ndim == 3 and stream.is_floating_point():
        return stream
    found = f"shape {tuple(stream.shape)}" if isinstance(stream, Tensor) else type(stream).__name__
    many = isinstance(stream, Tensor) and stream.ndim == 4
    raise StreamError(
        f"model: the stream before layer {layer} ({type(unwrapped(block)).__name__}) is {found}, "
        "expected one residual stream (batch, position, d)"
        + (": this model keeps several side by side" if many else "")
    )


def replacing(rows: Tensor, at: Tensor) -> ResidualFunction:
    """Puts `rows` where the (batch, position) mask `at` is true."""

    def function(stream: Tensor) -> Tensor:
        _check_places(stream, at)
        new = stream.clone()
        new[at.to(stream.device)] = rows.to(stream)
        return new

    return function


def recording(into: dict[str, Tensor], name: str, at: Tensor) -> ResidualFunction:
    """Keeps the float32 rows where the (batch, position) mask `at` is true as `into[name]`."""

    def function(stream: Tensor) -> None:
        _check_places(stream, at)
        into[name] = stream[at.to(stream.device)].float()

    return function


def _check_places(stream: Tensor, at: Tensor) -> None:
    if stream.shape[:2] != at.shape:
        raise StreamError(
            f"model: a residual stream has shape {tuple(stream.shape)}, expected "
            f"{(*at.shape, stream.shape[2])}, (batch, position, d)"
        )


def run(model: nn.Module, ids: Tensor, mask: Tensor) -> Any:
    """One forward pass without a cache."""
    return model(input_ids=ids, attention_mask=mask, use_cache=False)


def read_layers(
    model: nn.Module,
    blocks: nn.ModuleList,
    layers: Sequence[int],
    ids: Tensor,
    mask: Tensor,
    kept: Tensor,
) -> dict[int, Tensor]:
    """Rows of the residual stream before several layers, where the (batch, position) mask `kept`
    is true, in one pass that ends at the deepest of them.

    Raises:
        ValueError: a layer was not reached, its stream is not (batch, position, d), or a row is
            not finite: no row comes back that the model did not compute.
    """
    seen: dict[int, Tensor] = {}
    deepest = max(layers)
    shape = (*ids.shape, stream_width(model))

    def keep(layer: int) -> ResidualFunction:
        def function(stream: Tensor) -> None:
            check_shape(stream, shape, layer, blocks)
            # Indexing copies: some blocks add to their input in place.
            rows = stream[kept.to(stream.device)]
            if not torch.isfinite(rows).all():
                row = int((~torch.isfinite(rows)).any(dim=1).nonzero()[0])
                sequence, position = (int(place[row]) for place in kept.nonzero(as_tuple=True))
                raise StreamError(
                    f"model: the residual stream before layer {layer} is not finite at position "
                    f"{position}, token {int(ids[sequence, position])}, expected finite values"
                )
            seen[layer] = rows
            if layer == deepest:
                raise _SeenEnoughError

        return function

    with (
        residual_hooks(blocks, {layer: keep(layer) for layer in layers}),
        suppress(_SeenEnoughError),
    ):
        run(model, ids, mask)
    check_seen(seen, layers, blocks)
    return seen


def check_shape(stream: Tensor, shape: tuple[int, ...], layer: int, blocks: nn.ModuleList) -> None:
    """Refuses a residual stream that is not the one of these sequences."""
    if stream.shape != shape:
        block = unwrapped(blocks[min(layer, len(blocks) - 1)])
        raise StreamError(
            f"model: the stream before layer {layer} ({type(block).__name__}) has shape "
            f"{tuple(stream.shape)}, expected {shape}, (batch, position, d): it cannot be told "
            "which of its rows belongs to which token"
        )


def check_seen(
    seen: Container[int], layers: Sequence[int], blocks: nn.ModuleList, argument: str = "layers"
) -> None:
    """Refuses layers that a forward pass has left out."""
    missing = sorted(layer for layer in layers if layer not in seen)
    if missing:
        layer = missing[0]
        block = unwrapped(blocks[min(layer, len(blocks) - 1)])
        raise StreamError(
            f"{argument}: {', '.join(map(str, missing))}: a forward pass over text does not run "
            f"{type(block).__name__}, block {min(layer, len(blocks) - 1)}, so that nothing can be "
            "read or changed there; the stream is the same before the next block that does run"
        )

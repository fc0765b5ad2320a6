# SPDX-License-Identifier: Apache-2.0
"""Finding a model's blocks, borrowing the model, and hooks on its residual stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

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
    "decoder.layers",
    "layers",
    "h",
)

ResidualFunction = Callable[[Tensor], "Tensor | None"]


class _SeenEnoughError(Exception):
    """Ends a forward pass when everything asked for has been seen."""


def text_config(model: nn.Module, argument: str = "model") -> Any:
    """The configuration of the language model (of its text part where there are several)."""
    config = getattr(model, "config", None)
    if not isinstance(model, nn.Module) or config is None:
        raise TypeError(
            f"{argument}: {type(model).__name__}, expected a transformers model (PreTrainedModel)"
        )
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def find_blocks(model: nn.Module, argument: str = "model") -> nn.ModuleList:
    """The list of decoder blocks of any decoder-only Hugging Face model."""
    config = text_config(model, argument)
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"{argument}: {type(model).__name__} is an encoder-decoder, expected decoder-only"
        )
    count = getattr(config, "num_hidden_layers", None)
    for path in BLOCK_PATHS:
        found: Any = model
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList) and count in (None, len(found)):
            return found
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    fitting = [name for name, module in lists.items() if count is not None and len(module) == count]
    if len(fitting) == 1:
        return lists[fitting[0]]
    seen = ", ".join(f"{name} ({len(module)})" for name, module in lists.items()) or "none"
    raise ValueError(
        f"{argument}: the blocks of {type(model).__name__} were not found; looked for "
        f"{', '.join(BLOCK_PATHS)}, then for exactly one ModuleList of length "
        f"config.num_hidden_layers = {count}; its module lists are: {seen}"
    )


def check_layer(argument: str, layer: Any, blocks: nn.ModuleList) -> int:
    """A layer number in 0 .. n_layers."""
    if isinstance(layer, bool) or not hasattr(layer, "__index__"):
        raise TypeError(f"{argument}: {layer!r}, expected an integer")
    number = int(layer.__index__())
    if not 0 <= number <= len(blocks):
        raise ValueError(
            f"{argument}: {number}, expected 0 to {len(blocks)} (layer l is the residual stream "
            f"before block l; {len(blocks)} is the output of the last block)"
        )
    return number


@contextmanager
def borrowed(model: nn.Module, device: Any = None) -> Iterator[torch.device]:
    """The model in eval mode, without gradients, on `device`; put back as it was afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    homes = {parameter.device for parameter in model.parameters()}
    home = next(model.parameters()).device
    target = home if device is None else _device(device)
    moves = homes != {target} and device is not None
    if moves and len(homes) > 1:
        raise ValueError(
            f"device: {device!r}, expected None for a model that is spread over "
            f"{', '.join(sorted(map(str, homes)))}"
        )
    try:
        if moves:
            _move(model, target)
        model.eval()
        with torch.no_grad():
            yield target
    finally:
        if moves:
            model.to(home)
        for module, training in flags:
            module.training = training


def _device(device: Any) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: {device!r}, expected a torch device ({error})") from None


def _move(model: nn.Module, target: torch.device) -> None:
    try:
        model.to(target)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device: {target}, which cannot be used here ({error})") from error


@contextmanager
def residual_hooks(
    blocks: nn.ModuleList, functions: Mapping[int, ResidualFunction]
) -> Iterator[None]:
    """Show each layer's residual stream to its function; what it returns takes the stream's place.

    A function gets (batch, position, d) and returns a tensor of the same shape, or None to leave
    the stream alone.
    """
    handles = []
    try:
        for layer, function in functions.items():
            if layer < len(blocks):
                handles.append(
                    blocks[layer].register_forward_pre_hook(_before(function), with_kwargs=True)
                )
            else:
                handles.append(blocks[-1].register_forward_hook(_after(function)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(function: ResidualFunction) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        stream = args[0] if args else kwargs["hidden_states"]
        new = function(stream)
        if new is None:
            return None
        if args:
            return (new, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": new}

    return hook


def _after(function: ResidualFunction) -> Callable[..., Any]:
    def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        whole = isinstance(output, Tensor)
        new = function(output if whole else output[0])
        if new is None:
            return None
        return new if whole else (new, *output[1:])

    return hook


def replacing(rows: Tensor, at: Tensor) -> ResidualFunction:
    """Puts `rows` where the (batch, position) mask `at` is true."""

    def function(stream: Tensor) -> Tensor:
        new = stream.clone()
        new[at.to(stream.device)] = rows.to(stream)
        return new

    return function


def recording(into: dict[str, Tensor], name: str, at: Tensor) -> ResidualFunction:
    """Keeps the float32 rows where the (batch, position) mask `at` is true as `into[name]`."""

    def function(stream: Tensor) -> None:
        into[name] = stream[at.to(stream.device)].float()

    return function


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
    is true, in one pass that ends at the deepest of them."""
    seen: dict[int, Tensor] = {}
    deepest = max(layers)

    def keep(layer: int) -> ResidualFunction:
        def function(stream: Tensor) -> None:
            # Indexing copies: some blocks add to their input in place.
            seen[layer] = stream[kept.to(stream.device)]
            if layer == deepest:
                raise _SeenEnoughError

        return function

    with (
        residual_hooks(blocks, {layer: keep(layer) for layer in layers}),
        suppress(_SeenEnoughError),
    ):
        run(model, ids, mask)
    return seen

# SPDX-License-Identifier: Apache-2.0
"""Borrowing a model: where it runs, how it is put back, and its weights wherever they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ._residual import unwrapped

META = torch.device("meta")


@contextmanager
def borrowed(model: nn.Module, device: Any = None) -> Iterator[torch.device]:
    """The model in eval mode, without gradients, on `device`; put back as it was afterwards.

    Gives the device that token ids belong on. A model whose weights are spread over devices, or
    that accelerate keeps offloaded to the CPU or the disk, stays as it is.
    """
    flags = [(module, module.training) for module in model.modules()]
    homes = {parameter.device for parameter in model.parameters()}
    home = _input_device(model)
    target = home if device is None else _device(device)
    moves = device is not None and homes != {target}
    if META in homes and not _offloaded(model):
        raise ValueError(
            f"model: {type(unwrapped(model)).__name__} has parameters on the meta device and "
            "nothing that loads them, expected a model with weights"
        )
    if META in homes:
        if target != home:
            raise ValueError(
                f"device: {device!r}, expected None for a model that accelerate has offloaded: "
                f"it runs on {home}"
            )
        moves = False
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


def stored_parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the parameters; those of an offloaded model from where they are kept.

    A tied weight comes once, by its first name, whether or not it is offloaded.
    """
    model = unwrapped(model)
    tied = _tied(model)
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            whole = f"{prefix}.{name}" if prefix else name
            if whole not in tied:
                yield whole.replace("_orig_mod.", ""), stored(module, name, parameter)


def stored(module: nn.Module, name: str, parameter: Tensor) -> Tensor:
    """The values of a module's own parameter, also where accelerate keeps them offloaded.

    Raises:
        ValueError: there are none.
    """
    if parameter.device != META:
        return parameter.detach()
    for hook in _hooks(module):
        kept = getattr(hook, "weights_map", None)
        if kept is not None:
            value: Tensor = kept[name]
            return value.detach()
    raise ValueError(
        f"model: the parameter {name} of a {type(module).__name__} is on the meta device and "
        "nothing loads it, expected a model with weights"
    )


def _tied(model: nn.Module) -> set[str]:
    """Names of parameters that are others by another name. Offloading makes two of one: then the
    model's own word is all there is."""
    first: dict[int, str] = {}
    again = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            again.add(name)
    if _offloaded(model):
        declared = getattr(model, "all_tied_weights_keys", None) or {}
        again |= {name for name in declared if name not in first.values() or _is_meta(model, name)}
    return again


def _is_meta(model: nn.Module, name: str) -> bool:
    return model.get_parameter(name).device == META


def _hooks(module: nn.Module) -> list[Any]:
    """What accelerate has attached to a module."""
    hook = getattr(module, "_hf_hook", None)
    return [] if hook is None else [*getattr(hook, "hooks", ()), hook]


def _offloaded(model: nn.Module) -> bool:
    return any(
        getattr(hook, "weights_map", None) is not None
        for module in model.modules()
        for hook in _hooks(module)
    )


def _input_device(model: nn.Module) -> torch.device:
    """Where the first thing that reads token ids runs."""
    inner = unwrapped(model)
    try:
        embedding = inner.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        embedding = None
    for part in (embedding, *inner.modules()):
        if not isinstance(part, nn.Module):
            continue
        for hook in _hooks(part):
            place = getattr(hook, "execution_device", None)
            if place is not None:
                return torch.device(place)
        for parameter in part.parameters(recurse=False):
            if parameter.device != META:
                return parameter.device
    return torch.device("cpu")


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

# SPDX-License-Identifier: Apache-2.0
"""Which rows of a running model count: what its forward passes tell of tokens and positions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..rows import Rows
from ._residual import StreamError, check_seen, find_blocks, unwrapped

# By which names models take what they keep between the passes of a generation.
CACHES = ("past_key_values", "cache_params", "past_buckets_states", "mems", "state")


class Passes:
    """Follows the forward passes of a model, and says for each which rows count.

    Token ids are those that the input embedding is given, whoever calls it; what else there is to
    know (attention mask, cache) are the arguments of the outermost call.
    """

    def __init__(
        self, model: nn.Module, layer: int, rows: Rows | None, special_ids: frozenset[int]
    ) -> None:
        self._model = unwrapped(model)
        self._blocks = find_blocks(model)
        self._layer = layer
        self._rows = rows
        left_out = set() if rows is None else set(rows.leave_out)
        if rows is not None and not rows.special:
            left_out |= special_ids
        self._left_out = torch.tensor(sorted(left_out), dtype=torch.int64)
        self._running: list[int] = []
        self._seen = False
        self._ids: Tensor | None = None
        self._mask: Any = None
        self._past: int | None = 0
        # Tokens of the passes since the last prompt began.
        self._held = 0
        # Of the prompt that a generation goes on from, and of the last pass over whole sequences.
        self._prompt: Tensor | None = None
        self._prompt_length = 0
        self._whole: tuple[int, int] | None = None
        self._bound: float | None = None

    @contextmanager
    def followed(self) -> Iterator[None]:
        """A block in which every pass of the model is looked at."""
        handles = []
        try:
            for module in self._around():
                handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
                handles.append(module.register_forward_hook(self._check))
                handles.append(module.register_forward_hook(self._leave, always_call=True))
            if self._rows is not None:
                embedding = self._model.get_input_embeddings()
                handles.append(embedding.register_forward_pre_hook(self._embed, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def __call__(self, stream: Tensor) -> Tensor | None:
        """(batch, position) truth values for the rows of a stream; None: all count."""
        self._seen = True
        rows = self._rows
        if rows is None:
            return None
        shape = (stream.shape[0], stream.shape[1])
        past = self._past_length(shape)
        self._held = past + shape[1]
        kept = self._by_id(shape, stream.device)
        if rows.skip_positions:
            kept &= self._positions(shape, past).to(stream.device) >= rows.skip_positions
        began = self._follow(shape, past)
        if rows.positions == "last":
            kept = self._from_last(kept, shape, began)
        elif rows.positions == "generated":
            kept[:, : max(0, min(began, shape[1]))] = False
        if rows.norm_bound is not None:
            norms = stream.detach().float().norm(dim=-1)
            if self._bound is None and kept.any():
                real = self._real(shape)
                counted = kept if real is None else kept & real.to(kept.device)
                if counted.any():
                    self._bound = rows.norm_bound * float(norms[counted].median())
            if self._bound is not None:
                kept &= norms <= self._bound
        return kept

    # Hooks

    def _around(self) -> list[nn.Module]:
        """The modules that hold the blocks: the model, and what is between it and them."""
        return [
            module
            for module in self._model.modules()
            if module is not self._blocks and any(m is self._blocks for m in module.modules())
        ]

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._running:
            given = _arguments(module, args, kwargs)
            self._seen = False
            self._ids = None
            self._mask = given.get("attention_mask")
            cache = next((given[n] for n in CACHES if given.get(n) is not None), None)
            self._past = 0 if cache is None else _length(cache)
        self._running.append(id(module))

    def _check(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._running[:1] == [id(module)] and not self._seen:
            check_seen((), [self._layer], self._blocks, "layer")

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in self._running:
            del self._running[self._running.index(id(module)) :]

    def _embed(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(given, Tensor) and given.ndim == 2 and not given.is_floating_point():
            self._ids = given

    # What rows are

    def _by_id(self, shape: tuple[int, int], device: torch.device) -> Tensor:
        if not len(self._left_out):
            return torch.ones(shape, dtype=torch.bool, device=device)
        if self._ids is None or tuple(self._ids.shape) != shape:
            field = "leave_out" if self._rows and self._rows.leave_out else "special"
            given = None if self._ids is None else tuple(self._ids.shape)
            raise StreamError(
                f"rows.{field}: the token ids of this pass are "
                f"{'not known' if given is None else f'of shape {given}'}, expected {shape}: run "
                "the model on input_ids, not on inputs_embeds, or steer with rows that ask for no "
                "ids (suture.Rows(special=True))"
            )
        return ~torch.isin(self._ids.to(device), self._left_out.to(device))

    def _past_length(self, shape: tuple[int, int]) -> int:
        if self._past is not None:
            return self._past
        # A cache that does not say how much it holds. The attention mask covers it as well; where
        # there is none, as of recurrent models, one token is what comes after the last pass.
        if isinstance(self._mask, Tensor) and self._mask.ndim == 2:
            return max(0, int(self._mask.shape[1]) - shape[1])
        return self._held if shape[1] == 1 else 0

    def _real(self, shape: tuple[int, int]) -> Tensor | None:
        """(batch, position) truth values where the mask says what is padding; None: it does not."""
        mask = self._mask
        if mask is None or not isinstance(mask, Tensor) or mask.ndim != 2:
            return None
        return mask[:, -shape[1] :] != 0

    def _positions(self, shape: tuple[int, int], past: int) -> Tensor:
        """The position of every row in its own sequence, padding on the left not counted."""
        mask = self._mask
        if mask is None:
            return past + torch.arange(shape[1])[None].expand(shape)
        if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] >= past + shape[1]:
            whole = (mask != 0).long().cumsum(dim=1) - 1
            return whole[:, past : past + shape[1]]
        raise StreamError(
            "rows.skip_positions: the attention mask of this pass is "
            f"{_described(mask)}, expected (batch, position) over all {past + shape[1]} tokens"
        )

    def _follow(self, shape: tuple[int, int], past: int) -> int:
        """From which column on the rows of this pass were generated."""
        if self._rows is None or (self._rows.positions == "all" and self._rows.norm_bound is None):
            return shape[1]
        if past > 0:
            if shape[1] > 1 and self._rows.positions != "all":
                raise StreamError(
                    f"rows.positions: {self._rows.positions!r}, and {shape[1]} tokens come in one "
                    f"pass after {past} in the cache: it cannot be told whether they are a prompt "
                    "or were generated, expected 'all', or no cache to begin with"
                )
            self._whole = None
            return 0
        if self._goes_on(shape):
            self._whole = shape
            return self._prompt_length
        self._whole, self._prompt_length, self._bound = shape, shape[1], None
        self._prompt = None if self._ids is None else self._ids.detach().clone()
        return shape[1]

    def _goes_on(self, shape: tuple[int, int]) -> bool:
        """Whether this pass, without a cache, is the last one with a token more in every row."""
        if self._whole is None or shape != (self._whole[0], self._whole[1] + 1):
            return False
        if self._ids is None or self._prompt is None:
            if self._rows is not None and self._rows.positions != "all":
                raise StreamError(
                    f"rows.positions: {self._rows.positions!r}, and passes without token ids and "
                    "without a cache: it cannot be told what was generated, expected input_ids"
                )
            return False
        return torch.equal(self._ids[:, : self._prompt_length].to(self._prompt), self._prompt)

    def _from_last(self, kept: Tensor, shape: tuple[int, int], began: int) -> Tensor:
        """Of the prompt the last row that counts, and all that was generated after it."""
        prompt = kept[:, :began].clone()
        if began and self._mask is not None:
            real = self._real(shape)
            if real is None or tuple(real.shape) != shape:
                raise StreamError(
                    f"rows.positions: 'last', and the attention mask is {_described(self._mask)}, "
                    "expected (batch, position)"
                )
            prompt &= real[:, :began].to(prompt.device)
        # Truth values, counted from the right.
        later = prompt.long().flip(1).cumsum(1).flip(1)
        return torch.cat((prompt & (later == 1), kept[:, began:]), dim=1)


def _arguments(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What a module is called with, by name."""
    forward: Callable[..., Any] = module.forward
    try:
        return {**inspect.signature(forward).bind_partial(*args).arguments, **kwargs}
    except (TypeError, ValueError):
        return kwargs


def _length(cache: Any) -> int | None:
    get = getattr(cache, "get_seq_length", None)
    try:
        return int(get()) if callable(get) else None
    except (TypeError, ValueError, IndexError, AttributeError, NotImplementedError):
        return None


def _described(mask: Any) -> str:
    return f"of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__

# SPDX-License-Identifier: Apache-2.0
"""From texts or token ids to sequences as a model reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ._offsets import Bools, Ids, TextReader, TokenisedText

Chunking = Literal["split", "truncate", "pack"]
_END = object()


@dataclass(frozen=True)
class Window:
    """One sequence as a model reads it, and what is known of its tokens.

    ids: (n,); text: (n,) number of the text (or of the sequence of ids) that each token is from;
    begins, ends: (n,) bytes of that text, -1 where unknown; start: byte of the text from which on
    the sequence has read it, -1 where unknown; generated: (n,) truth values, or None.
    """

    ids: Ids
    text: Ids
    begins: Ids
    ends: Ids
    start: int = -1
    generated: Bools | None = None


def check_count(argument: str, value: Any, least: int) -> None:
    """A whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{argument}: {value!r}, expected an integer of at least {least}")
    if value < least:
        raise ValueError(f"{argument}: {value}, expected at least {least}")


def kind_of(inputs: Any, argument: str) -> tuple[str, Any]:
    """("texts", strings) or ("ids", (sequence, attention mask or None, assistant mask or None))."""
    expected = "a list of texts, or token ids as (sequence, position) or a list of sequences"
    if isinstance(inputs, str):
        return "texts", [inputs]
    if isinstance(inputs, Mapping) or hasattr(inputs, "input_ids"):
        return "ids", _encoded(inputs, argument)
    if hasattr(inputs, "shape") and not _holds_texts(inputs):
        return "ids", ((row, None, None) for row in _rows(inputs, argument))
    if not isinstance(inputs, Iterable):
        raise TypeError(f"{argument}: {type(inputs).__name__}, expected {expected}")
    items = iter(inputs)
    first = next(items, _END)
    if first is _END:
        raise ValueError(f"{argument}: empty, expected {expected}")
    rest = itertools.chain([first], items)
    if isinstance(first, str) or _is_exchange(first):
        return "texts", rest
    if isinstance(first, (Sequence, np.ndarray, Tensor)) and not _is_scalar(first):
        return "ids", ((row, None, None) for row in rest)
    if isinstance(first, (int, np.integer)) or _is_scalar(first):
        raise ValueError(
            f"{argument}: one flat sequence of ids, expected {expected} (for one sequence: [ids])"
        )
    raise TypeError(f"{argument}: holds {type(first).__name__}, expected {expected}")


def _encoded(inputs: Any, argument: str) -> Iterator[tuple[Any, Any, Any]]:
    """(ids, attention mask, mask of what the assistant wrote) of each sequence."""
    if "input_ids" not in inputs:
        raise ValueError(
            f"{argument}: a mapping with keys {', '.join(map(str, inputs))}, expected input_ids "
            "and attention_mask, as a tokenizer returns"
        )
    rows = list(_rows(inputs["input_ids"], argument))
    columns = []
    for key, name in (
        ("attention_mask", "attention masks"),
        ("assistant_masks", "assistant masks"),
    ):
        found = list(inputs[key]) if key in inputs else [None] * len(rows)
        if len(found) != len(rows):
            raise ValueError(f"{argument}: {len(found)} {name}, expected {len(rows)}")
        columns.append(found)
    return zip(rows, *columns, strict=True)


def _holds_texts(inputs: Any) -> bool:
    """An array or a data frame's column of str."""
    return len(inputs.shape) == 1 and isinstance(next(iter(inputs), None), str)


def _is_exchange(value: Any) -> bool:
    """(prompt, continuation)"""
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], str)


def _is_scalar(value: Any) -> bool:
    return getattr(value, "ndim", None) == 0


def _rows(ids: Any, argument: str) -> Iterable[Any]:
    if hasattr(ids, "shape") and len(ids.shape) != 2:
        raise ValueError(
            f"{argument}: shape {tuple(ids.shape)}, expected two dimensions (sequence, position)"
        )
    rows: Iterable[Any] = ids
    return rows


def windows_of_texts(
    texts: Iterable[Any],
    reader: TextReader,
    head: list[int],
    context: int,
    chunking: Chunking,
    prepend_bos: bool | None,
) -> Iterator[tuple[int, Window | None]]:
    """(texts read so far, a window of them or None)."""
    body = context - len(head)
    if chunking == "pack":
        yield from _packed(texts, reader, head, body, prepend_bos)
        return
    for number, tokens in enumerate(reader.read(texts)):
        size = len(tokens.ids)
        stop = min(body, size) if chunking == "truncate" else size
        yield number + 1, None
        for start in range(0, stop, body):
            part = slice(start, min(start + body, stop))
            yield number + 1, window_of(tokens, number, part, head, prepend_bos)


def bos_head(tokenizer: Any, prepend_bos: bool | None, argument: str) -> list[int]:
    """What sequences of texts begin with: BOS or nothing."""
    if tokenizer is None:
        raise ValueError(f"tokenizer: None, expected a tokenizer, for {argument} holds texts")
    bos = getattr(tokenizer, "bos_token_id", None)
    if prepend_bos and bos is None:
        raise ValueError("prepend_bos: True, expected None or False: the tokenizer has no BOS")
    return [int(bos)] if bos is not None and prepend_bos is not False else []


def head_before(ids: Any, head: list[int], prepend_bos: bool | None) -> list[int]:
    """The head that `ids` get: none where they begin with it, unless it is insisted on."""
    return [] if head and prepend_bos is None and len(ids) and ids[0] == head[0] else head


def window_of(
    tokens: TokenisedText, text: int, part: slice, head: list[int], prepend_bos: bool | None
) -> Window:
    """Part of a text's tokens as a sequence."""
    ids = tokens.ids[part]
    extra = head_before(ids, head, prepend_bos)
    before = tokens.ends[: part.start]
    known = before[before >= 0]
    # All tokens before have been read when the last of them ends.
    exact = part.start == 0 or (len(before) > 0 and before[-1] >= 0)
    start = (int(known[-1]) if len(known) else 0) if exact and (tokens.ends >= 0).any() else -1

    def led(values: Ids, value: int) -> Ids:
        return np.concatenate([np.full(len(extra), value, np.int64), values])

    generated = None
    if tokens.generated is not None:
        generated = np.concatenate([np.zeros(len(extra), np.bool_), tokens.generated[part]])
    return Window(
        led(ids, extra[0] if extra else 0),
        np.full(len(extra) + len(ids), text, np.int64),
        led(tokens.begins[part], -1),
        led(tokens.ends[part], -1),
        start,
        generated,
    )


def _packed(
    texts: Iterable[Any],
    reader: TextReader,
    head: list[int],
    body: int,
    prepend_bos: bool | None,
) -> Iterator[tuple[int, Window | None]]:
    """Texts one after another, EOS after each; where a text begins within a sequence, it is seen
    after others, so `start` is unknown."""
    eos = reader.eos
    pending: list[Ids] = []  # (4, n): ids, text, begins, ends

    def cut(stream: Ids) -> Window:
        extra = head_before(stream[0], head, prepend_bos)
        lead = np.array([[*extra], stream[1, : len(extra)], [-1] * len(extra), [-1] * len(extra)])
        ids, text, begins, ends = np.concatenate([lead.astype(np.int64), stream], axis=1)
        return Window(ids, text, begins, ends)

    number = 0
    for number, tokens in enumerate(reader.read(texts), 1):
        size = len(tokens.ids)
        owner = np.full(size, number - 1, np.int64)
        pending.append(np.stack([tokens.ids, owner, tokens.begins, tokens.ends]))
        if size and eos is not None:
            pending.append(np.array([[eos], [number - 1], [-1], [-1]], np.int64))
        yield number, None
        if sum(part.shape[1] for part in pending) < body:
            continue
        stream = np.concatenate(pending, axis=1)
        whole = stream.shape[1] - stream.shape[1] % body
        for start in range(0, whole, body):
            yield number, cut(stream[:, start : start + body])
        pending = [stream[:, whole:]]
    rest = np.concatenate(pending, axis=1) if pending else np.empty((4, 0), np.int64)
    if rest.shape[1]:
        yield number, cut(rest)


def windows_of_ids(
    rows: Iterable[tuple[Any, Any, Any]], tokenizer: Any, limit: int | None, argument: str
) -> Iterator[tuple[int, Window | None]]:
    for number, (row, mask, assistant) in enumerate(rows):
        name = f"{argument}[{number}]"
        given = _integers(name, row)
        start, stop = (
            _without_padding(name, given, tokenizer)
            if mask is None
            else _unmasked(name, given, mask, "attention mask")
        )
        ids = given[start:stop]
        if limit is not None and len(ids) > limit:
            raise ValueError(
                f"{name}: {len(ids)} tokens, expected at most {limit} (the context, or the "
                "model's maximum); token ids are run as they are, never cut"
            )
        generated = None
        if assistant is not None:
            generated = _truth(name, given, assistant, "assistant mask")[start:stop]
        unknown = np.full(len(ids), -1, np.int64)
        owner = np.full(len(ids), number, np.int64)
        window = Window(ids, owner, unknown, unknown, -1, generated) if len(ids) else None
        yield number + 1, window


def _integers(name: str, row: Any) -> Ids:
    array = row.detach().cpu().numpy() if isinstance(row, Tensor) else np.asarray(row)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{name}: {array.dtype} of shape {array.shape}, expected one-dimensional integers"
        )
    return array.astype(np.int64)


def _truth(name: str, ids: Ids, mask: Any, what: str) -> Bools:
    real: Bools = np.asarray(mask.cpu() if isinstance(mask, Tensor) else mask) != 0
    if real.shape != ids.shape:
        raise ValueError(f"{name}: {what} of shape {real.shape}, expected {ids.shape} like the ids")
    return real


def _unmasked(name: str, ids: Ids, mask: Any, what: str) -> tuple[int, int]:
    places = np.flatnonzero(_truth(name, ids, mask, what))
    if len(places) and places[-1] - places[0] + 1 != len(places):
        raise ValueError(f"{name}: {what} with a gap, expected padding at the ends only")
    return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)


def _without_padding(name: str, ids: Ids, tokenizer: Any) -> tuple[int, int]:
    pad = getattr(tokenizer, "pad_token_id", None)
    if pad is None:
        return 0, len(ids)
    places = np.flatnonzero(ids != pad)
    if not len(places):
        return 0, 0
    start, stop = int(places[0]), int(places[-1]) + 1
    if pad == getattr(tokenizer, "eos_token_id", None):
        stop = len(ids)  # a real end of text, or padding: masked and read by nothing, either way
    if pad == getattr(tokenizer, "bos_token_id", None):
        if start > 1:
            raise ValueError(
                f"{name}: begins with {start} times token {pad}, which is both BOS and padding; "
                "expected one, or {'input_ids': ..., 'attention_mask': ...} to tell them apart"
            )
        start = 0
    return start, stop

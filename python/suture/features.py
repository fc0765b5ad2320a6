# SPDX-License-Identifier: Apache-2.0
"""From token rows to what probes are fitted to: means over samples, and the features that tell
classes apart."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import integer, named, whole_numbers
from ._counted import kept_rows, starts_of, whole_rows
from ._inputs import Acts, Stream, output
from ._progress import Meter, Progress
from ._samples import Samples, counted_samples, labels, without_norms
from .activations import text_numbers
from .codes import SparseCodes, _numbers
from .pairing import owner_of
from .rows import Mask, as_rows

__all__ = ["pool", "select_features"]


def select_features(
    X: Samples, y: Any, k: int, *, rows: Any = None, progress: Progress = True
) -> npt.NDArray[np.int64]:
    """The k features whose mean differs most between the classes: those of a k-sparse probe
    (arXiv 2506.06609, section 4). Use the training split only.

    With more than two classes a feature counts for the class that it tells best from the rest: the
    largest over classes of |mean in the class - mean in the rest|.

    Args:
        X: (N, d) activations, `SparseCodes`, or a scipy sparse matrix; one row a sample.
        y: (N,) labels: texts, numbers or truth values.
        k: 1 to d.
        rows: which samples count, a `suture.Rows` or a mask (N,). None: all.

    Returns:
        (k,) columns, best first; equal ones by the lower index.

    Raises:
        ValueError: `k` is beyond the features, `y` has one class only.

    >>> import numpy as np, suture
    >>> X = np.array([[0.0, 5.0, 1.0], [0.0, 6.0, 1.0], [1.0, 5.0, 4.0], [1.0, 6.0, 4.0]])
    >>> suture.select_features(X, ["de", "de", "fr", "fr"], 2).tolist()
    [2, 0]
    """
    samples, total, cols, places = counted_samples(X, "X", rows)
    numbers, classes = labels(y, total, "X", places)
    count = integer("k", k, 1, cols)
    return selected(samples, numbers, len(classes), count, progress, places)


def selected(
    samples: Any,
    numbers: npt.NDArray[np.int32],
    classes: int,
    k: int,
    progress: Progress,
    places: npt.NDArray[np.int64] | None,
) -> npt.NDArray[np.int64]:
    """`select_features` on samples and labels as the core takes them; `places` are the rows of X
    that they are."""
    out = np.empty(k, np.int64)
    where = "X" if places is None else ("X", places)
    with Meter(progress, "features", len(numbers)) as meter, named(x=where):
        _core.features_select(samples, numbers, classes, k, out, meter.part())
    return out


@overload
def pool(
    X: SparseCodes,
    sample: Any = None,
    *,
    offsets: Any = None,
    mask: Any = None,
    rows: Any = None,
    samples: int | None = None,
    progress: Progress = True,
) -> SparseCodes: ...
@overload
def pool(
    X: Acts,
    sample: Any = None,
    *,
    offsets: Any = None,
    mask: Any = None,
    rows: Any = None,
    samples: int | None = None,
    progress: Progress = True,
) -> npt.NDArray[np.float32]: ...
def pool(
    X: Any,
    sample: Any = None,
    *,
    offsets: Any = None,
    mask: Any = None,
    rows: Any = None,
    samples: int | None = None,
    progress: Progress = True,
) -> Any:
    """The mean row of each sample, over its tokens (arXiv 2506.06609, section 4).

    Args:
        X: (N, d) activations, one row a token, or `SparseCodes`. Of activations (batch, position,
            d) with neither `sample` nor `offsets`, each of the batch is a sample.
        sample: (N,) whole numbers: the sample of each token, 0 to S - 1, in any order;
            `Activations.text` is such a vector, and is taken where X is `Activations` (or their
            shards) that know it. A negative one leaves its token out.
        offsets: (S + 1,) in place of `sample`: sample s has the tokens offsets[s] to
            offsets[s + 1] - 1.
        mask: (N,) truth values: False leaves a token out (padding, special tokens).
        rows: which rows count, a `suture.Rows` (or a mask). None: all, those of enormous norm too,
            for a text of nothing but such tokens would have no mean; `suture.Rows()` leaves them
            out.
        samples: S, where the last samples might have no token; by default what the others say.
        progress: True for a tqdm bar after two seconds, or a function of (done, total).

    Returns:
        (S, d) float32, or `SparseCodes` of S rows: every latent that is active on any token of the
        sample, with its mean.

    Raises:
        ValueError: a sample has no token.

    >>> import numpy as np, suture
    >>> tokens = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    >>> suture.pool(tokens, [0, 0, 1]).tolist()
    [[2.0, 1.0], [5.0, 5.0]]
    >>> codes = suture.SparseCodes([[1, 2], [1, -1]], [[2.0, 1.0], [1.0, 0.0]], d_sae=4)
    >>> suture.pool(codes, offsets=[0, 2]).to_dense().tolist()
    [[0.0, 1.5, 0.5, 0.0]]
    """
    if sample is None and offsets is None and (known := owner_of(X)) is not None:
        sample, samples = _texts(known, samples, mask)
    if isinstance(X, SparseCodes):
        chosen = None if rows is None else without_norms(as_rows(rows), len(X), "X")
        owner, count = _owners(len(X), None, sample, offsets, mask, chosen, samples)
        with Meter(progress, "pooling", len(X)) as meter, named(codes="X"):
            return SparseCodes._wrap(_core.codes_pool(X._core, owner, count, meter.part()))
    stream = Stream(X, "X")
    shards = stream.whole()
    total = sum(shard.rows for shard in shards)
    chosen = None if rows is None else kept_rows(X, stream, shards, as_rows(rows))
    owner, count = _owners(total, stream.lead, sample, offsets, mask, chosen, samples)
    pooled = np.empty((count, stream.cols), np.float32)
    with Meter(progress, "pooling", total) as meter, whole_rows("X", shards, starts_of(shards)):
        _core.pool(tuple(shards), owner, count, output(pooled), meter.part())
    return pooled


def _texts(acts: Any, samples: Any, mask: Any) -> tuple[npt.NDArray[np.int32], Any]:
    """The text of each row, and how many texts there are."""
    numbers = text_numbers(acts)
    if samples is None:
        samples = acts.metadata.get("texts")
    if isinstance(samples, int) and mask is None:
        empty = np.flatnonzero(np.bincount(numbers, minlength=samples) == 0)
        if len(empty):
            raise ValueError(
                f"X has no token of text {empty[0]} ({len(empty)} such of {samples}), expected at "
                "least one of each: leave these texts and their labels out"
            )
    return numbers, samples


def _owners(
    rows: int,
    lead: tuple[int, ...] | None,
    sample: Any,
    offsets: Any,
    mask: Any,
    chosen: Mask | None,
    samples: Any,
) -> tuple[npt.NDArray[np.int64], int]:
    """The sample of each token, negative where it is left out, and the number of samples."""
    if sample is not None and offsets is not None:
        raise TypeError("offsets is given beside sample, expected one of them")
    if offsets is not None:
        ends = _whole("offsets", offsets)
        if len(ends) < 2 or ends[0] != 0 or ends[-1] != rows:
            raise ValueError(
                f"offsets is {ends.tolist()!r:.60}, expected 0 first, {rows} last, the rows of X"
            )
        lengths = np.diff(ends)
        if (lengths < 0).any():
            at = int(np.argmax(lengths < 0))
            raise ValueError(f"offsets[{at + 1}] is {ends[at + 1]}, expected at least {ends[at]}")
        found, count = np.repeat(np.arange(len(lengths)), lengths), len(lengths)
    elif sample is not None:
        found = _whole("sample", sample)
        if len(found) != rows:
            raise ValueError(f"sample has shape ({len(found)},), expected ({rows},) as rows of X")
        count = int(found.max()) + 1
        if count < 1:
            raise ValueError("sample is negative for all rows, expected some that are not")
    elif lead is not None and len(lead) == 2:
        found, count = np.repeat(np.arange(lead[0]), lead[1]), lead[0]
    else:
        raise TypeError("sample is None, expected the sample of each token, or offsets")
    if samples is not None:
        count = integer("samples", samples, count)
    if count > rows:
        raise ValueError(f"sample {count - 1} is the last of {count}, expected at most {rows} rows")
    if mask is not None:
        kept = np.asarray(_numbers(mask))
        if kept.dtype.kind != "b":
            raise TypeError(f"mask has dtype {kept.dtype}, expected truth values")
        if kept.size != rows:
            raise ValueError(f"mask has shape {kept.shape}, expected ({rows},) as rows of X")
        found = np.where(kept.reshape(-1), found, -1)
    if chosen is not None:
        found = np.where(chosen, found, -1)
    return np.ascontiguousarray(found, np.int64), count


def _whole(name: str, value: Any) -> npt.NDArray[np.int64]:
    found = whole_numbers(name, value)
    if not found.size:
        raise ValueError(f"{name} has shape {found.shape}, expected (N,), at least (1,)")
    return found

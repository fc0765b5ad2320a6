# SPDX-License-Identifier: Apache-2.0
"""Probes: linear classifiers of activations."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from . import _core
from ._arguments import existing, integer, named, path_text, real
from ._inputs import Array, output, weight
from ._metadata import Metadata, to_json
from ._progress import Meter, Progress
from ._rowwise import map_rows
from ._samples import (
    Samples,
    core_samples,
    counted_samples,
    indices,
    is_sparse,
    labels,
    sample_weights,
    sizes,
)
from .codes import SparseCodes
from .features import selected
from .reports import SutureWarning

__all__ = ["Probe", "ProbeReport"]

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ProbeReport:
    """What a fit did; of several outputs the sum, the largest, or whether all.

    Attributes:
        iterations: Newton steps.
        converged: whether the tolerance was reached.
        objective: 0.5 |w|² + C Σ weight log(1 + exp(-margin)), at the end.
        gradient_norm: norm of its gradient at the end.
        seconds: time it took.
    """

    iterations: int
    converged: bool
    objective: float
    gradient_norm: float
    seconds: float


class Probe:
    """A linear classifier of activations: `logits = X @ weights.T + bias`.

    With two classes there is one output, above 0 for the second class; with more, one a class, each
    against the rest. `Probe.fit` makes one from samples, `Probe.load` from a file, this constructor
    from arrays; `Stitch.transfer` carries it to another model.

    Args:
        weights: (outputs, d_in), or (d_in,) for two classes.
        bias: (outputs,), or one number for two classes.
        classes: labels of the classes (texts, numbers or truth values); by default 0, 1, ….
        metadata: what is known about it: model_name, hook_name, …, as of a SAE.

    Attributes:
        report: what the fit did (`ProbeReport`), or None if it was not fitted here.

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import numpy as np, suture
    >>> probe = suture.Probe([1.0, -1.0], 0.5, classes=["cat", "dog"])
    >>> probe
    Probe(d_in=2, classes=['cat', 'dog'])
    >>> probe.predict(np.array([[0.0, 3.0], [3.0, 0.0]])).tolist()
    ['cat', 'dog']
    """

    def __init__(
        self,
        weights: Array,
        bias: Array,
        *,
        classes: Sequence[Any] | npt.NDArray[Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        matrix = _floats(weights)
        if isinstance(matrix, np.ndarray) and matrix.ndim == 1:
            matrix = matrix.reshape(1, -1)
        shift = _floats(bias)
        if isinstance(shift, np.ndarray) and shift.ndim == 0:
            shift = shift.reshape(1)
        names = None if classes is None else _class_text(classes)
        core = _core.probe_create(
            weight(matrix, "weights"), weight(shift, "bias", vector=True), names
        )
        self._set(core, metadata)

    def _set(self, core: _core.Probe, metadata: dict[str, Any] | None = None) -> None:
        self._core = core
        self._metadata = Metadata(core, metadata)
        self.report: ProbeReport | None = None
        self.classes: npt.NDArray[Any] = _class_array(json.loads(core.classes()))
        """(classes,): their labels, in the order of the outputs."""

    @classmethod
    def _wrap(cls, core: _core.Probe) -> Self:
        self = cls.__new__(cls)
        self._set(core)
        return self

    @classmethod
    def fit(
        cls,
        X: Samples,
        y: Any,
        *,
        rows: Any = None,
        C: float = 1.0,
        standardize: bool = False,
        balanced: bool = False,
        sample_weight: Any = None,
        features: Any = None,
        tolerance: float = 1e-6,
        max_iterations: int = 100,
        metadata: dict[str, Any] | None = None,
        progress: Progress = True,
    ) -> Self:
        """Logistic regression: minimise `0.5 |w|² + C Σ weight log(1 + exp(-margin))`, the
        intercept free, to its minimum; the same as scikit-learn's `LogisticRegression(C=C)` for two
        classes and its `OneVsRestClassifier` for more.

        Args:
            X: (N, d) activations of any kind, `SparseCodes`, or a scipy sparse matrix; one row a
                sample (`suture.pool` makes those of token rows).
            y: (N,) labels: texts, numbers or truth values, of at least two classes.
            rows: which samples count, a `suture.Rows` or a mask (N,). None: all, those of enormous
                norm too, for each has its label.
            C: weight of the losses beside the penalty, above 0; smaller ones regularise more.
            standardize: fit to columns divided by their standard deviation, as after a
                `StandardScaler`; the weights are those of the columns as they are. Columns that do
                not vary get weight 0.
            balanced: both classes (a class and the rest) count the same, as with
                `class_weight="balanced"`.
            sample_weight: (N,) what each sample counts, at least 0; None: 1.
            features: (k,) columns to use, such as `suture.select_features` finds: a k-sparse probe,
                whose other weights are 0.
            tolerance: stop when the Newton step, whose length bounds the distance of the weights
                from the minimum, is below it relative to 1 + |w|.
            max_iterations: most Newton steps.
            metadata: model_name, hook_name, … to go with it.
            progress: True for a tqdm bar after two seconds, or a function of (done, total).

        Warns:
            SutureWarning: max_iterations was reached before the tolerance.

        >>> import numpy as np, suture
        >>> X = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
        >>> y = np.where(X[:, 0] + X[:, 1] > 0, "plus", "minus")
        >>> probe = suture.Probe.fit(X, y)
        >>> probe.classes.tolist(), probe.accuracy(X, y) > 0.95
        (['minus', 'plus'], True)
        """
        samples, total, cols, places = counted_samples(X, "X", rows)
        chosen = None if features is None else indices("features", features, cols)
        counts = None if chosen is None else [len(chosen)]
        options = (C, tolerance, max_iterations, standardize, balanced)
        labelled = labels(y, total, "X", places)
        weights = sample_weights(sample_weight, total, "X", places)
        (probe,) = cls._fit(
            (samples, places), labelled, weights, chosen, counts, options, metadata, progress
        )
        return probe

    @classmethod
    def fit_sparse(
        cls,
        X: Samples,
        y: Any,
        k: int | Sequence[int] = (1, 2, 5, 10, 20, 50),
        *,
        rows: Any = None,
        features: Any = None,
        C: float = 1.0,
        standardize: bool = False,
        balanced: bool = False,
        sample_weight: Any = None,
        tolerance: float = 1e-6,
        max_iterations: int = 100,
        metadata: dict[str, Any] | None = None,
        progress: Progress = True,
    ) -> dict[int, Self]:
        """k-sparse probes for several k (arXiv 2506.06609, section 4): features are chosen once, by
        `select_features`, and each fit begins where the one before ended.

        Args:
            X, y: as for `fit`.
            k: numbers of features, 1 to d.
            features: columns in place of those that differ most, best first, at least max(k).
            rows, C, standardize, balanced, sample_weight, tolerance, max_iterations, metadata,
                progress: as for `fit`.

        Returns:
            The probe of each k, with `d` weights of which all but k are 0.

        >>> import numpy as np, suture
        >>> X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
        >>> probes = suture.Probe.fit_sparse(X, X[:, 3] > 0, k=[1, 2])
        >>> probes[1].weights.nonzero()[1].tolist()
        [3]
        """
        samples, total, cols, places = counted_samples(X, "X", rows)
        counts = sizes("k", k, cols)
        labelled = numbers, classes = labels(y, total, "X", places)
        weights = sample_weights(sample_weight, total, "X", places)
        if features is None:
            chosen = selected(samples, numbers, len(classes), counts[-1], progress, places)
        else:
            chosen = indices("features", features, cols)
            if len(chosen) < counts[-1]:
                raise ValueError(f"features has {len(chosen)}, expected at least k = {counts[-1]}")
        options = (C, tolerance, max_iterations, standardize, balanced)
        found = cls._fit(
            (samples, places), labelled, weights, chosen, counts, options, metadata, progress
        )
        return dict(zip(counts, found, strict=True))

    @classmethod
    def _fit(
        cls,
        samples: tuple[Any, npt.NDArray[np.int64] | None],
        labelled: tuple[npt.NDArray[np.int32], npt.NDArray[Any]],
        weights: npt.NDArray[np.float64] | None,
        features: npt.NDArray[np.int64] | None,
        counts: list[int] | None,
        options: tuple[Any, ...],
        metadata: dict[str, Any] | None,
        progress: Progress,
    ) -> list[Self]:
        numbers, classes = labelled
        C, tolerance, max_iterations, standardize, balanced = options
        for name, value in (("standardize", standardize), ("balanced", balanced)):
            if not isinstance(value, (bool, np.bool_)):
                raise TypeError(f"{name} is {value!r}, expected True or False")
        if metadata is not None:
            to_json(metadata)
        where = "X" if samples[1] is None else ("X", samples[1])
        with Meter(progress, "probe", None, unit="output") as meter, named(x=where, labels="y"):
            found = _core.probe_fit(
                samples[0],
                numbers,
                len(classes),
                weights,
                features,
                None if counts is None else np.array(counts, np.int64),
                real("C", C, above=True),
                real("tolerance", tolerance, above=True),
                integer("max_iterations", max_iterations, 1, 2**31 - 1),
                bool(standardize),
                bool(balanced),
                meter.part(),
            )
        probes = []
        for core, values in found:
            # Classes are named once they are known to be some.
            fitted = [np.asarray(core.weight(name)) for name in ("weights", "bias")]
            probe = cls(*fitted, classes=classes, metadata=metadata)
            probe.report = ProbeReport(**values)
            probes.append(probe)
        late = [probe.report for probe in probes if probe.report and not probe.report.converged]
        if late:
            warnings.warn(
                f"Probe.fit: not converged in {late[0].iterations} steps: max_iterations was "
                "reached before the tolerance",
                SutureWarning,
                stacklevel=3,
            )
        return probes

    def logits(self, X: Samples, *, progress: Progress = True) -> Float32:
        """`X @ weights.T + bias`, summed in float64.

        Args:
            X: (N, d_in) activations, or with more leading axes, `SparseCodes`, or a scipy sparse
                matrix.

        Returns:
            float32, (N, outputs), or with the leading axes of `X`: one output for two classes.

        >>> import numpy as np, suture
        >>> suture.Probe([[1.0, 2.0]], [3.0]).logits(np.eye(2)).tolist()
        [[4.0], [5.0]]
        """
        outputs, d_in = self._core.info()
        if isinstance(X, SparseCodes) or is_sparse(X):
            samples, rows, cols = core_samples(X, "X")
            if cols != d_in:
                raise ValueError(
                    f"X has shape ({rows}, {cols}), expected (…, {d_in}), d_in = {d_in}"
                )
            out = np.empty((rows, outputs), np.float32)
            with Meter(progress, "probe", rows) as meter, named(x="X"):
                self._core.logits(samples, output(out), meter.part(0, rows))
            return out
        return map_rows(X, "X", (d_in, "d_in"), outputs, self._core.logits, "x", "probe", progress)

    def predict(self, X: Samples, *, progress: Progress = True) -> npt.NDArray[Any]:
        """The label of each sample: `classes[1]` above 0 for two classes, else that of the largest
        output.

        >>> import numpy as np, suture
        >>> suture.Probe([1.0, 0.0], 0.0, classes=[False, True]).predict(np.eye(2)).tolist()
        [True, False]
        """
        logits = self.logits(X, progress=progress)
        is_single = logits.shape[-1] == 1
        chosen = (logits[..., 0] > 0).astype(int) if is_single else logits.argmax(-1)
        return np.asarray(self.classes[chosen])

    def predict_proba(self, X: Samples, *, progress: Progress = True) -> npt.NDArray[np.float64]:
        """(N, classes) probabilities: the logistic function of the logits; of three and more
        classes divided by their sum, as scikit-learn's `OneVsRestClassifier` does.

        >>> import numpy as np, suture
        >>> suture.Probe([1.0, 0.0], 0.0).predict_proba(np.zeros((1, 2))).tolist()
        [[0.5, 0.5]]
        """
        logits = self.logits(X, progress=progress).astype(np.float64)
        # exp of what is not positive: no overflow.
        small = np.exp(-np.abs(logits))
        chance = np.where(logits > 0, 1, small) / (1 + small)
        if chance.shape[-1] == 1:
            return np.concatenate([1 - chance, chance], axis=-1)
        total = chance.sum(-1, keepdims=True)
        even = np.full_like(chance, 1 / chance.shape[-1])
        return np.asarray(np.divide(chance, total, out=even, where=total > 0))

    def accuracy(self, X: Samples, y: Any, *, progress: Progress = True) -> float:
        """Share of samples with the right label.

        >>> import numpy as np, suture
        >>> suture.Probe([1.0, 0.0], 0.0).accuracy(np.eye(2), [1, 1])
        0.5
        """
        found = self.predict(X, progress=progress).reshape(-1)
        known = np.asarray(y)
        if known.size != len(found) or known.ndim == 0:
            raise ValueError(
                f"y has shape {known.shape}, expected ({len(found)},), one for each row of X"
            )
        return float((found == known.reshape(-1)).mean())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .safetensors file with the weights, the classes and the metadata.

        It is complete or not there: a file of that name is replaced at the end.

        >>> import suture, tempfile, os
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     suture.Probe([1.0, 2.0], 0.0).save(os.path.join(folder, "probe.safetensors"))
        ...     suture.Probe.load(os.path.join(folder, "probe.safetensors"))
        Probe(d_in=2, classes=[0, 1])
        """
        self._metadata.tell_core()
        self._core.save(path_text(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a probe that `save` wrote.

        Raises:
            OSError: the file cannot be read (`FileNotFoundError`: it is not there).
            FormatError: it is damaged, cut short or something else.

        >>> import suture
        >>> suture.Probe.load("no/such/file")
        Traceback (most recent call last):
        FileNotFoundError: ...
        """
        text = path_text(path)
        existing("path", text, "a file that Probe.save wrote")
        return cls._wrap(_core.probe_load(text))

    @property
    def d_in(self) -> int:
        """Width of the activations."""
        return self._core.info()[1]

    @property
    def weights(self) -> Float32:
        """(outputs, d_in), read-only, shares the memory of the probe."""
        return np.asarray(self._core.weight("weights"))

    @property
    def bias(self) -> Float32:
        """(outputs,), read-only, shares the memory of the probe."""
        return np.asarray(self._core.weight("bias"))

    @property
    def metadata(self) -> dict[str, Any]:
        """What is known about the probe; change it as you like, a save or transfer sees it."""
        return self._metadata.values

    @metadata.setter
    def metadata(self, values: dict[str, Any]) -> None:
        self._metadata.replace(values)

    def __reduce__(self) -> tuple[object, ...]:
        weights = (np.array(self.weights), np.array(self.bias))
        return _rebuild, (type(self), weights, self.classes, dict(self.metadata), self.report)

    def __repr__(self) -> str:
        shown = self.classes.tolist()
        named_classes = repr(shown) if len(shown) <= 6 else f"{len(shown)}"
        return f"Probe(d_in={self.d_in}, classes={named_classes})"


def _rebuild(
    cls: type[Probe],
    weights: tuple[Float32, Float32],
    classes: npt.NDArray[Any],
    metadata: dict[str, Any],
    report: ProbeReport | None,
) -> Probe:
    probe = cls(*weights, classes=classes, metadata=metadata)
    probe.report = report
    return probe


def _floats(value: Any) -> Any:
    """Numbers and lists of them as arrays; arrays as they are."""
    if isinstance(value, (list, tuple, int, float)) and not isinstance(value, bool):
        found = np.asarray(value)
        return found.astype(np.float64) if found.dtype.kind in "iu" else found
    return value


def _class_text(classes: Any) -> str:
    if isinstance(classes, (str, bytes)) or not hasattr(classes, "__len__"):
        raise TypeError(f"classes is {classes!r}, expected the labels of the classes")
    found = classes.tolist() if isinstance(classes, np.ndarray) else list(classes)
    found = [label.item() if isinstance(label, np.generic) else label for label in found]
    for i, label in enumerate(found):
        if not isinstance(label, (str, bool, int, float)):
            raise TypeError(
                f"classes[{i}] is {label!r}, expected a text, a number or a truth value"
            )
    try:
        return json.dumps(found, allow_nan=False)
    except ValueError:
        raise ValueError(f"classes is {found!r}, expected finite labels") from None


def _class_array(found: list[Any]) -> npt.NDArray[Any]:
    # Texts beside numbers would all become texts.
    alike = len({type(label) for label in found}) == 1
    return np.array(found) if alike else np.array(found, object)

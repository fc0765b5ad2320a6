# SPDX-License-Identifier: Apache-2.0
"""Features as HTML pages that need nothing else. Needs jinja2.

Texts of tokens come from anybody's documents: they are escaped, and characters that cannot be seen
or that turn the direction of writing are spelt out.
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .._arguments import path_text
from .summaries import FeaturePair

__all__ = ["feature_page", "write_feature_pages"]

_SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def feature_page(pair: FeaturePair, *, names: tuple[str, str] = ("original", "transferred")) -> str:
    """The page of one feature: how often and how strongly it fires, what it promotes, and its top
    examples with their tokens shaded by activation, before and after the transfer side by side.

    Args:
        pair: the feature.
        names: of the two sides.

    Raises:
        TypeError: `pair` is none, or `names` are not two texts.
        ImportError: jinja2 is missing.

    >>> import pytest, suture
    >>> _ = pytest.importorskip("jinja2")
    >>> summary = suture.analysis.FeatureSummary(3, 0.25, 1.0, 2.0, promoted=[("<b>", 1.5)])
    >>> page = suture.analysis.feature_page(suture.analysis.FeaturePair(summary))
    >>> "<h1>Feature 3</h1>" in page, "&lt;b&gt;" in page
    (True, True)
    """
    _check(pair, "pair", names)
    sides = [(names[0], pair.original)]
    if pair.transferred is not None:
        sides.append((names[1], pair.transferred))
    page: str = _environment().get_template("feature.html.j2").render(pair=pair, sides=sides)
    return page


def write_feature_pages(
    pairs: Sequence[FeaturePair],
    folder: str | os.PathLike[str],
    *,
    title: str = "Features",
    names: tuple[str, str] = ("original", "transferred"),
) -> Path:
    """Writes a page for each feature (`feature_00012.html`), `index.html`, and all of it as
    `features.json`; the index last.

    Args:
        pairs: the features, each once.
        folder: made if it is not there; pages of the same names are replaced.
        title: of the index.
        names: of the two sides.

    Returns:
        The path of `index.html`.

    Raises:
        TypeError, ValueError: `pairs` is empty, holds something else, or a feature twice.
        OSError: the folder cannot be written to.
        ImportError: jinja2 is missing.

    >>> import pytest, suture, tempfile
    >>> _ = pytest.importorskip("jinja2")
    >>> pair = suture.analysis.FeaturePair(suture.analysis.FeatureSummary(3, 0.25, 1.0, 2.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     index = suture.analysis.write_feature_pages([pair], folder)
    ...     sorted(path.name for path in index.parent.iterdir())
    ['feature_00003.html', 'features.json', 'index.html']
    """
    found = list(pairs)
    if not found:
        raise ValueError("pairs is empty, expected at least one feature")
    for place, pair in enumerate(found):
        _check(pair, f"pairs[{place}]", names)
    numbers = [pair.feature for pair in found]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise ValueError(f"pairs has feature {twice} twice, expected each once")
    target = Path(path_text(folder))
    # All of it is made before any of it is written.
    pages = {_file(pair.feature): feature_page(pair, names=names) for pair in found}
    pages["features.json"] = json.dumps(
        {"title": title, "names": list(names), "features": [pair.to_dict() for pair in found]},
        allow_nan=False,
        indent=1,
    )
    groups: dict[str, list[FeaturePair]] = {}
    for pair in found:
        groups.setdefault(pair.note, []).append(pair)
    index = _environment().get_template("index.html.j2")
    pages["index.html"] = index.render(title=title, pairs=found, groups=groups, names=names)
    target.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        partial = target / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target / name)
    return target / "index.html"


def _check(pair: Any, name: str, names: Any) -> None:
    if not isinstance(pair, FeaturePair):
        raise TypeError(f"{name} is a {type(pair).__name__}, expected FeaturePair")
    if not (
        isinstance(names, (tuple, list))
        and len(names) == 2
        and all(isinstance(n, str) for n in names)
    ):
        raise TypeError(f"names is {names!r}, expected two texts")


def _file(feature: int) -> str:
    return f"feature_{feature:05d}.html"


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError(f"{error} (pip install 'suture[report]')", name=error.name) from error
    found = Environment(
        loader=PackageLoader("suture.analysis", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"visible": visible, "number": _number, "share": _share, "file": _file}
    found.globals["shade"] = _shade
    return found


def visible(text: str) -> str:
    """Line ends as signs, and whatever cannot be seen (or would turn the text around) as its
    code."""
    return "".join(
        _SIGNS.get(character)
        or (
            f"\\u{{{ord(character):x}}}"
            if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
            else character
        )
        for character in text
    )


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def _share(value: float) -> str:
    return f"{100 * value:.2f} %" if value >= 1e-4 or value == 0 else f"{100 * value:.1g} %"


def _shade(value: float, maximum: float) -> str:
    """How strongly a token is coloured, 0 to 1."""
    part = min(max(value / maximum, 0.0), 1.0) if maximum > 0 else 0.0
    return f"{0.12 + 0.78 * part:.2f}" if part > 0 else "0"

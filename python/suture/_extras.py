# SPDX-License-Identifier: Apache-2.0
"""Packages that only some functions need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extras: str) -> Iterator[None]:
    """Imports made inside say, when a package is missing, which extras bring it.

    >>> with needs("report"):
    ...     import no_such_package
    Traceback (most recent call last):
    ImportError: no_such_package is missing: pip install 'suture[report]'
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{error.name or error} is missing: pip install 'suture[{extras}]'", name=error.name
        ) from error

"""Packages that one format needs and the others do not."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, package: str) -> Any:
    """The module; ImportError, one sentence that says what to type, when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"This format needs the package {package}: pip install {package}") from error

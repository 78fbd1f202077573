"""Garbage collection while a hot loop runs."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Keep the collector from scanning what exists already: botocore's models and pandas, a million objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

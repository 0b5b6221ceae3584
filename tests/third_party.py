"""The models of the PyPI client tiktok-shop-api."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import pytest

# 2,600 modules, which take seconds: one worker loads them, when it comes to these tests.
MODELS = pytest.mark.xdist_group("third_party_models")


@lru_cache(maxsize=1)
def models() -> Any:
    """The package of the models; untyped, since each read of an unset field would need a check."""
    return importlib.import_module("tiktok_shop_api.generated.models")

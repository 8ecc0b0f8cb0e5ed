"""Where everything is kept: `base` is the contract, the other modules keep it."""

from holdfast.store.base import Store

__all__ = ["Store"]

"""fcotvl: an open, checkable reproduction of FCoT-VL (arXiv 2502.18512)."""

from fcotvl.compress import auto as _auto

__version__ = "0.1.0"

_auto.announce()

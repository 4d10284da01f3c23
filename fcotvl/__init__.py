"""fcotvl: an open, checkable reproduction of FCoT-VL (arXiv 2502.18512)."""

__version__ = "0.1.0"

"""The 1-D convolution with PyTorch's random start: shows how much of ``cnn`` is its start."""

from torch import nn

from fcotvl.compress.compressors import cnn

RATIOS = (0.25, 0.5, 0.75, 0.875)


class Compressor(cnn.Compressor):
    """The convolution of ``cnn`` with other initial weights."""

    def reset_parameters(self) -> None:
        """Draw weights and bias as ``nn.Conv1d`` does."""
        nn.Conv1d.reset_parameters(self)

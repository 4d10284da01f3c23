"""Training-free baselines: each file of this folder defines ``build``, which makes one.

``build(teacher, *, ratio, layer)`` returns a ``System``: the teacher with a ``Pruning`` that ranks its visual tokens
within the LLM, or an ``EarlyPruning`` that removes them before, or another untrained model. Names are read without
importing torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fcotvl.core.registry import Registry

if TYPE_CHECKING:
    from transformers import InternVLForConditionalGeneration

    from fcotvl.inference.pruned_decoding import System

REGISTRY = Registry(__name__, "build", noun="training-free baseline")
available = REGISTRY.available


def build(name: str, teacher: InternVLForConditionalGeneration, *, ratio: float, layer: int) -> System:
    """Make training-free baseline ``name``.

    Args:
        name: a name from ``available()``.
        teacher: the model whose visual tokens are pruned; its weights are shared.
        ratio: share of the visual tokens removed.
        layer: K, the first LLM layer (from 0) without the removed tokens, for baselines that prune inside the LLM.

    Raises:
        ParamsError: ``name`` is unknown.
    """
    system: System = REGISTRY.get(name)(teacher, ratio=ratio, layer=layer)
    return system

"""Makes vLLM serve students that remove the same share of every tile, with its Transformers backend.

vLLM finds ``register`` by the entry point ``vllm.general_plugins`` and calls it in each of its processes.
"""

from importlib import import_module

ARCHITECTURE = "FcotvlForConditionalGeneration"
BACKEND = "vllm.model_executor.models.transformers:TransformersMultiModalForCausalLM"


def register() -> None:
    """Name the backend for the student's architecture; importing the package registers config and processor."""
    registry = import_module("vllm").ModelRegistry
    if ARCHITECTURE not in registry.get_supported_archs():
        registry.register_model(ARCHITECTURE, BACKEND)

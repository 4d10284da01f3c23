"""What transformers imports for an exported student under ``trust_remote_code=True``: the classes of the package.

The file is copied into the student's folder, where ``auto_map`` of its configs names it. Without it, a program that
forgot ``import fcotvl`` would get a bare tokenizer where it asked for a processor.
"""

try:
    from fcotvl.compress.config import FcotvlConfig
    from fcotvl.compress.processor import FcotvlImageProcessor, FcotvlProcessor
    from fcotvl.compress.student import FcotvlForConditionalGeneration, FcotvlModel
except ModuleNotFoundError as error:
    raise ImportError(
        "this model needs the Python package fcotvl; install it from a clone of its repository with pip install ."
    ) from error

__all__ = ["FcotvlConfig", "FcotvlForConditionalGeneration", "FcotvlImageProcessor", "FcotvlModel", "FcotvlProcessor"]

"""Serve a model folder behind an OpenAI-compatible API."""

import json
import logging
import socket
from pathlib import Path

from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
from transformers.utils.import_utils import is_serve_available

from fcotvl.compress.checkpoints import load_processor
from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.student import FcotvlForConditionalGeneration
from fcotvl.core.config import Params
from fcotvl.core.errors import CheckpointError, FcotvlError
from fcotvl.core.processes import use_full_float32

log = logging.getLogger(__name__)

SANITISED = json.dumps({"sanitize_control_tokens": True})
"""Of the chat template: tokens such as <IMG_CONTEXT> in the words of a client are letters, not pictures."""


def run(params: Params, folder: Path, *, host: str = "localhost", port: int = 8000) -> None:
    """Answer chat requests with pictures by the model in FOLDER, until Ctrl-C.

    The server is that of `transformers serve`. Clients name the model as FOLDER is spelled here.

    Args:
        params: unused; every command takes them.
        folder: a model, as export, convert and teacher write it.
        host: address to listen at.
        port: port to listen at.

    Raises:
        CheckpointError: the folder is not a model.
        FcotvlError: the extra is not installed, or the port is taken.
    """
    del params
    if not is_serve_available():
        raise FcotvlError("packages of the server are missing; install them with pip install '.[serve]'")
    from transformers.cli.serve import Serve  # noqa: PLC0415 - an extra
    from transformers.cli.serving.model_manager import ModelManager  # noqa: PLC0415 - an extra

    load_processor(folder)
    use_full_float32()
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise FcotvlError(f"the server cannot listen: {error.strerror}; name another --port") from error
    # The server looks classes up by name in transformers' own tables, and lists the models of the hub's cache.
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES[FcotvlConfig.model_type] = FcotvlForConditionalGeneration.__name__
    listed = {"id": str(folder), "object": "model", "created": int(folder.stat().st_mtime), "owned_by": "fcotvl"}
    ModelManager.get_gen_models = staticmethod(lambda: [listed])
    log.info("model %s will be at http://%s:%d/v1", folder, host, port)
    try:
        Serve(force_model=str(folder), host=host, port=port, chat_template_kwargs=SANITISED)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{folder} is not a model ({reason}); name a folder that export wrote") from error

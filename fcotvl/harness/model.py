"""Teachers and students as a model of lm-eval, which answers with the project's own ``generate``."""

import hashlib
import io
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from PIL import Image

from fcotvl.compress.checkpoints import load_model, load_processor, load_student, load_teacher, processor_for
from fcotvl.compress.processor import FcotvlProcessor
from fcotvl.core.errors import ParamsError
from fcotvl.inference import pruning as methods
from fcotvl.inference.generate import Query, generate
from fcotvl.inference.pruned_decoding import System
from fcotvl.inference.sharing import join

IMAGE = "<image>"
"""What a task puts before the question, without a newline."""
KNOWN = ("until", "max_gen_toks", "min_new_tokens", "do_sample", "temperature")
"""Keys of ``generation_kwargs`` that are obeyed."""


@register_model("fcotvl")
class FcotvlLM(LM):
    """Answers questions about one picture each, greedily; it has no log-likelihoods.

    Args:
        pretrained: folder of an exported student, of a converted InternVL2 or of a teacher; or, with ``teacher``, a
            file of trained tensors.
        teacher: folder of the teacher whose tensors the file replaces.
        pruning: name of a training-free method that drops visual tokens, such as ``fastv``.
        ratio: share of visual tokens that ``pruning`` removes.
        layer: the first LLM layer without them.
        dtype: number type of the weights; ``auto``: as they were saved.
        batch_size: most replies decoded together.
        batch_tokens: most tokens of these replies and their prompts; None: any number.
        device: where to compute; lm-eval's default, ``cuda``, stands for the accelerator, if there is one.
        max_batch_size: not used, since no batch size is sought.

    Raises:
        CheckpointError: there is no such model.
        ParamsError: an argument is not a value that it can have.
    """

    MULTIMODAL = True

    def __init__(
        self,
        pretrained: str = "",
        *,
        teacher: str | None = None,
        pruning: str | None = None,
        ratio: float = 0.5,
        layer: int = 2,
        dtype: str = "auto",
        batch_size: int | str = 8,
        batch_tokens: int | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,  # noqa: ARG002 - lm-eval gives it to every model
        **unknown: object,
    ) -> None:
        super().__init__()
        if unknown or not pretrained:
            problem = f"unknown model_args: {', '.join(unknown)}" if unknown else "model_args has no pretrained"
            raise ParamsError(
                f"{problem}; give pretrained, and if you like teacher, pruning, ratio, layer, dtype or batch_tokens"
            )
        if not str(batch_size).isdecimal() or not int(batch_size):
            raise ParamsError(f"batch_size is {batch_size!r}, expected the number of replies decoded together")
        if batch_tokens is not None and not (isinstance(batch_tokens, int) and batch_tokens > 0):
            raise ParamsError(f"batch_tokens is {batch_tokens!r}, expected the number of tokens decoded together")
        if dtype not in {"auto", "float32", "bfloat16", "float16"}:
            raise ParamsError(f"dtype is {dtype!r}, expected auto, float32, bfloat16 or float16")
        self.batch_size, self.batch_tokens = int(batch_size), batch_tokens
        own = join()
        self._device = own if device in {None, "cuda", "cuda:0"} else torch.device(device)
        weights = None if dtype == "auto" else getattr(torch, dtype)
        processor = load_processor(Path(teacher or pretrained))
        model = load_teacher(Path(teacher), dtype=weights) if teacher else load_model(Path(pretrained), dtype=weights)
        model = model.to(self._device)
        if teacher:
            model = load_student(model, [Path(pretrained)], share_frozen=True)
        layers = model.config.text_config.num_hidden_layers
        if pruning and not (0 <= ratio < 1 and 1 <= layer < layers):
            raise ParamsError(f"ratio is {ratio} and layer {layer}; expected a share below 1, and 1 to {layers - 1}")
        self.system = methods.build(pruning, model, ratio=ratio, layer=layer) if pruning else System(model)
        self.processor: FcotvlProcessor = processor_for(processor, self.system.model.config)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """The greedy reply to each request.

        Requests of one task are answered together in its order, with the batches of ``predict``. Of a document that
        names them, ``image_id`` is the picture's name, and ``max_tiles`` its largest number of tiles.

        Raises:
            ParamsError: a request is not one question about one picture, or asks for more than greedy decoding.
        """
        replies: list[str] = []
        for (task, limits, max_tiles), group in groupby(
            requests, key=lambda request: (request.task_name, request.args[1], request.doc.get("max_tiles"))
        ):
            together = list(group)
            _check_limits(limits)
            texts = generate(
                self.system.model,
                self.processor,
                [_query(request) for request in together],
                max_new_tokens=int(limits.get("max_gen_toks", 256)),
                min_new_tokens=int(limits.get("min_new_tokens", 0)),
                batch_size=self.batch_size,
                batch_tokens=self.batch_tokens,
                max_tiles=max_tiles,
                pruning=self.system.pruning,
                label=task,
            )
            texts = [_cut(text, limits.get("until") or ()) for text in texts]
            for request, text in zip(together, texts, strict=True):
                self.cache_hook.add_partial("generate_until", request.args, text)
            replies += texts
        return replies

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refused: such a task compares probabilities of given texts."""
        raise ParamsError(f"task {requests[0].task_name} needs log-likelihoods; fcotvl has generate_until tasks only")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refused, as ``loglikelihood``."""
        raise ParamsError(f"task {requests[0].task_name} needs log-likelihoods; fcotvl has generate_until tasks only")

    def apply_chat_template(self, *_: Any, **__: Any) -> str:
        """Refused: ``generate_until`` applies the model's template to what the task asks."""
        raise ParamsError("the model's chat template is always applied; leave out --apply_chat_template")


def _query(request: Instance) -> Query:
    """The request as ``generate`` takes it."""
    context, _, *media = request.args
    pictures = [picture for one in media for picture in one["visual"]]
    if len(pictures) != 1 or not context.startswith(IMAGE):
        raise ParamsError(
            f"task {request.task_name} asks {context[:60]!r} about {len(pictures)} pictures; expected {IMAGE}, then a "
            "question about one picture, without examples or system prompt"
        )
    picture = pictures[0]
    return Query(partial(_decoded, picture), _picture_id(request, picture), context.removeprefix(IMAGE))


def _picture_id(request: Instance, picture: Image.Image) -> str:
    """The document's own name of its picture, else a digest of the pixels."""
    if "image_id" in request.doc:
        return str(request.doc["image_id"])
    return hashlib.sha256(_decoded(picture).tobytes()).hexdigest()


def _decoded(picture: Image.Image) -> Image.Image:
    """``picture`` in RGB. One that is still a file stays so: lm-eval holds the pictures of all requests."""
    file = getattr(picture, "fp", None)
    if isinstance(file, io.BytesIO):
        with Image.open(io.BytesIO(file.getbuffer())) as fresh:
            return fresh.convert("RGB")
    return picture.convert("RGB")


def _check_limits(limits: dict[str, Any]) -> None:
    """Refuse ``generation_kwargs`` that would not be obeyed."""
    if unknown := [key for key in limits if key not in KNOWN]:
        raise ParamsError(f"generation_kwargs has {', '.join(unknown)}; fcotvl obeys {', '.join(KNOWN)}")
    if limits.get("do_sample") or limits.get("temperature"):
        raise ParamsError("generation_kwargs asks for sampling; fcotvl decodes greedily (do_sample: false)")


def _cut(text: str, ends: str | Sequence[str]) -> str:
    """``text`` up to the first of ``ends``."""
    for end in [ends] if isinstance(ends, str) else ends:
        text = text.partition(end)[0]
    return text

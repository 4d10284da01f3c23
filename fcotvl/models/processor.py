"""From pictures and chat text to what the model reads, without torchvision or a video processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, no_type_check

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_utils import BaseImageProcessor

from fcotvl.errors import CheckpointError
from fcotvl.models.config import FcotvlConfig
from fcotvl.models.templates import (
    IMAGE_END,
    IMAGE_START,
    IMAGE_TOKEN,
    SPECIAL_TOKENS,
    TURN_END,
)
from fcotvl.models.tiles import count_tiles, cut

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


class FcotvlImageProcessor(BaseImageProcessor):
    """Cuts pictures into normalised tiles with Pillow, as InternVL2's own evaluation does."""

    model_input_names = ["pixel_values"]  # noqa: RUF012 - the name and type transformers expects

    def __init__(
        self,
        tile_size: int = 448,
        max_tiles: int = 12,
        image_mean: Sequence[float] = IMAGE_MEAN,
        image_std: Sequence[float] = IMAGE_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tile_size = tile_size
        self.max_tiles = max_tiles
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image],
        *,
        max_tiles: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """``pixel_values [tiles, 3, size, size]`` of all pictures and ``num_tiles`` per picture."""
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        tiles = [
            cut(picture, tile_size=self.tile_size, max_tiles=max_tiles or self.max_tiles)
            for picture in pictures
        ]
        pixels = np.stack([self._normalise(tile) for group in tiles for tile in group])
        return BatchFeature(
            {"pixel_values": pixels, "num_tiles": [len(group) for group in tiles]},
            tensor_type=return_tensors,
            skip_tensor_conversion=["num_tiles"],
        )

    def count_tiles(self, width: int, height: int, max_tiles: int | None = None) -> int:
        """How many tiles a picture of this size becomes, thumbnail included."""
        return count_tiles(
            width, height, tile_size=self.tile_size, max_tiles=max_tiles or self.max_tiles
        )

    def _normalise(self, tile: Image.Image) -> npt.NDArray[np.float32]:
        pixels = np.asarray(tile, dtype=np.float32) / 255
        mean = np.asarray(self.image_mean, dtype=np.float32)
        std = np.asarray(self.image_std, dtype=np.float32)
        return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


@no_type_check  # transformers reads the code of __init__, which a checking wrapper would hide
class FcotvlProcessor(ProcessorMixin):
    """Pictures and chat text in, ``input_ids``, ``attention_mask`` and ``pixel_values`` out.

    One ``<IMG_CONTEXT>`` in the text stands for a picture and becomes
    ``<img>`` + ``image_seq_length`` x its tiles of ``<IMG_CONTEXT>`` + ``</img>``.
    """

    def __init__(
        self,
        image_processor: FcotvlImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        image_seq_length: int = 256,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        chat_template = chat_template or tokenizer.chat_template
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)
        known = tokenizer.get_vocab()
        if missing := [token for token in SPECIAL_TOKENS if token not in known]:
            raise CheckpointError(
                f"the tokenizer lacks {', '.join(missing)}; expected one of an InternVL model"
            )
        self.image_seq_length = image_seq_length
        self.image_token = IMAGE_TOKEN
        self.image_token_id = known[IMAGE_TOKEN]

    @property
    def model_input_names(self) -> list[str]:
        """What the model's ``forward`` takes."""
        return ["input_ids", "attention_mask", "pixel_values"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        *,
        max_tiles: int | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Encode a batch of texts and the pictures they mention, in the order of mention.

        Args:
            images: a picture, or a list of pictures, or one list of pictures per text.
            text: rendered chats; each ``<IMG_CONTEXT>`` takes the next picture.
            videos: must be None.
            audio: must be None.
            max_tiles: overrides the image processor's, for instance per benchmark.
            return_tensors: ``pt``, ``np`` or None.
            **kwargs: for the tokenizer; texts are padded on the left unless told otherwise.

        Raises:
            ValueError: pictures and placeholders do not match, or a modality is not supported.
        """
        if videos is not None or audio is not None:
            raise ValueError("this processor reads pictures only; pass neither videos nor audio")
        if text is None:
            raise ValueError("text is missing; a picture alone is not a question")
        texts = [text] if isinstance(text, str) else list(text)
        pictures = _flatten(images)
        vision: dict[str, Any] = {}
        if pictures:
            vision = dict(
                self.image_processor(pictures, max_tiles=max_tiles, return_tensors=return_tensors)
            )
        expanded = self.expand(texts, vision.pop("num_tiles", []))
        settings = {"padding": True, "padding_side": "left", "add_special_tokens": False, **kwargs}
        tokens = self.tokenizer(expanded, return_tensors=return_tensors, **settings)
        return BatchFeature({**tokens, **vision})

    def expand(self, texts: Sequence[str], num_tiles: Sequence[int]) -> list[str]:
        """Replace each picture placeholder by as many as the picture has visual tokens.

        Raises:
            ValueError: there are more or fewer placeholders than pictures.
        """
        mentioned = sum(text.count(IMAGE_TOKEN) for text in texts)
        if mentioned != len(num_tiles):
            raise ValueError(
                f"the texts mention {mentioned} pictures, but {len(num_tiles)} were given"
            )
        blocks = iter([self._block(tiles) for tiles in num_tiles])
        expanded = []
        for text in texts:
            first, *rest = text.split(IMAGE_TOKEN)
            expanded.append(first + "".join(next(blocks) + part for part in rest))
        return expanded

    def render(self, prompt: str, reply: str | None = None) -> str:
        """The chat about one picture as text, up to where the reply begins, or with the reply."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        chat: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if reply is not None:
            chat.append({"role": "assistant", "content": reply})
        rendered = self.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=reply is None
        )
        return str(rendered)

    def encode(self, prompt: str, reply: str, num_tiles: int) -> tuple[list[int], list[int]]:
        """Token ids of one training chat and its labels: -100 on everything but the reply.

        The reply ends with the end-of-turn token, which is labelled too. Prompt and reply are
        tokenised apart, so that training and generation see the same prompt.
        """
        asked = self.render(prompt)
        answer = self.render(prompt, reply).removeprefix(asked)
        answer = answer[: answer.rindex(TURN_END) + len(TURN_END)]
        given, wanted = self._ids(*self.expand([asked], [num_tiles])), self._ids(answer)
        return given + wanted, [-100] * len(given) + wanted

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _block(self, num_tiles: int) -> str:
        return IMAGE_START + IMAGE_TOKEN * (self.image_seq_length * num_tiles) + IMAGE_END


def _flatten(images: Any) -> list[Image.Image]:
    """Any nesting of pictures as one list."""
    if images is None:
        return []
    if isinstance(images, Image.Image):
        return [images]
    return [picture for nested in images for picture in _flatten(nested)]


AutoImageProcessor.register(FcotvlConfig, image_processor_classes={"pil": FcotvlImageProcessor})
AutoProcessor.register(FcotvlConfig, FcotvlProcessor)

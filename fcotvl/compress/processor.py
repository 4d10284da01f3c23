"""From pictures and chat text to model inputs, without torchvision or a video processor."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, no_type_check

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoProcessor,
    BatchEncoding,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_utils import BaseImageProcessor

from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.compress.tiling import split_into_tiles
from fcotvl.core.errors import CheckpointError
from fcotvl.core.prompts import IMAGE_END, IMAGE_START, IMAGE_TOKEN, SPECIAL_TOKENS, TURN_END

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
        *,
        tile_tokens: Sequence[int] | None = None,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Make a processor.

        Args:
            tile_size: side of a tile in pixels.
            max_tiles: largest number of tiles per picture, thumbnail not counted.
            image_mean: mean of each channel, in [0, 1].
            image_std: standard deviation of each channel.
            tile_tokens: visual tokens of a complex tile and of a plain one, for a student that keeps different numbers.
            threshold: complexity at which a tile counts as complex, see ``tile_complexity``.
            **kwargs: passed on to transformers.

        Raises:
            ValueError: only one of ``tile_tokens`` and ``threshold`` is given.
        """
        if (threshold is None) != (tile_tokens is None):
            raise ValueError(
                f"tile_tokens is {tile_tokens} and threshold is {threshold}; set tile_tokens and threshold together"
            )
        super().__init__(**kwargs)
        self.tile_size = tile_size
        self.max_tiles = max_tiles
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)
        self.tile_tokens = None if tile_tokens is None else list(tile_tokens)
        self.threshold = threshold

    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image],
        *,
        max_tiles: int | None = None,
        do_normalize: bool = True,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Return ``pixel_values [tiles, 3, size, size]`` and ``num_tiles`` of each picture.

        Where the number of visual tokens differs between tiles, also ``tile_tokens [tiles]``. Without ``do_normalize``
        pixels stay bytes.
        """
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        sizes = {"tile_size": self.tile_size, "max_tiles": max_tiles or self.max_tiles}
        tiles = [split_into_tiles(picture, **sizes) for picture in pictures]
        cut = np.stack([np.asarray(tile).transpose(2, 0, 1) for group in tiles for tile in group])
        pixels = self._normalise(cut) if do_normalize else cut
        features: dict[str, Any] = {"pixel_values": pixels, "num_tiles": list(map(len, tiles))}
        if self.tile_tokens is not None and self.threshold is not None:
            more, fewer = self.tile_tokens
            normalised = map(self._normalise, cut)
            features["tile_tokens"] = [fewer if tile_complexity(tile) < self.threshold else more for tile in normalised]
        return BatchFeature(features, tensor_type=return_tensors, skip_tensor_conversion=["num_tiles"])

    def _normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        mean, std = (np.asarray(x, dtype=np.float32)[:, None, None] for x in (self.image_mean, self.image_std))
        normalised = (pixels.astype(np.float32) / np.float32(255) - mean) / std
        return normalised.astype(np.float32, copy=False)


@no_type_check  # transformers reads the code of __init__, which a checking wrapper would hide
class FcotvlProcessor(ProcessorMixin):
    """Pictures and chat text in, ``input_ids``, ``attention_mask`` and ``pixel_values`` out.

    One ``<IMG_CONTEXT>`` in the text stands for a picture. It becomes ``<img>``, one ``<IMG_CONTEXT>`` for each visual
    token, and ``</img>``: ``image_seq_length`` tokens a tile, or the image processor's ``tile_tokens``.
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
            raise CheckpointError(f"the tokenizer lacks {', '.join(missing)}; expected one of an InternVL model")
        self.image_seq_length = image_seq_length
        self.image_token = IMAGE_TOKEN
        self.image_token_id = known[IMAGE_TOKEN]

    @property
    def model_input_names(self) -> list[str]:
        """Arguments of the model's ``forward``."""
        adaptive = ["tile_tokens"] if self.image_processor.tile_tokens else []
        return ["input_ids", "attention_mask", "pixel_values", *adaptive]

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
            max_tiles: overrides the image processor's limit, for instance per benchmark.
            return_tensors: ``pt``, ``np`` or None.
            **kwargs: passed to the tokenizer, over left padding and no added special tokens.

        Raises:
            ValueError: pictures and placeholders do not match, or a modality is not supported.
        """
        if videos is not None or audio is not None:
            raise ValueError("this processor reads pictures only; pass neither videos nor audio")
        if text is None:
            raise ValueError("text is missing; pass a rendered chat for the pictures")
        texts = [text] if isinstance(text, str) else list(text)
        pictures = _flatten(images)
        vision: dict[str, Any] = {}
        if pictures:
            vision = dict(self.image_processor(pictures, max_tiles=max_tiles, return_tensors=return_tensors))
        expanded = self.expand(texts, self.tiles(vision))
        vision.pop("num_tiles", None)
        tokens = self.tokenize(expanded, return_tensors=return_tensors, **kwargs)
        return BatchFeature({**tokens, **vision})

    def tokenize(self, texts: Sequence[str], **kwargs: Any) -> BatchEncoding:
        """Tokenise expanded chats as one batch, padded on the left unless ``kwargs`` differ."""
        settings = {"padding": True, "padding_side": "left", "add_special_tokens": False}
        return self.tokenizer(list(texts), **{**settings, "return_tensors": "pt", **kwargs})

    def tiles(self, vision: Mapping[str, Any]) -> Sequence[int | list[int]]:
        """Tiles of each picture, as ``expand`` takes them, from the image processor's output."""
        counts: list[int] = list(vision.get("num_tiles", []))
        if "tile_tokens" not in vision:
            return counts
        tokens = iter(vision["tile_tokens"])
        return [[int(each) for each in islice(tokens, count)] for count in counts]

    def expand(self, texts: Sequence[str], tiles: Sequence[int | list[int]]) -> list[str]:
        """Repeat each picture placeholder once for each visual token of its picture.

        Args:
            texts: rendered chats.
            tiles: for each picture its number of tiles, or a list of the visual tokens of each.

        Raises:
            ValueError: the texts have more or fewer placeholders than there are pictures.
        """
        mentioned = sum(text.count(IMAGE_TOKEN) for text in texts)
        if mentioned != len(tiles):
            raise ValueError(f"the texts mention {mentioned} pictures, but {len(tiles)} were given")
        blocks = iter([self._block(each) for each in tiles])
        expanded = []
        for text in texts:
            first, *rest = text.split(IMAGE_TOKEN)
            expanded.append(first + "".join(next(blocks) + part for part in rest))
        return expanded

    def render(self, prompt: str, reply: str | None = None) -> str:
        """Render the chat about one picture as text: up to the reply, or with it if given."""
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        chat: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if reply is not None:
            chat.append({"role": "assistant", "content": reply})
        rendered = self.apply_chat_template(chat, tokenize=False, add_generation_prompt=reply is None)
        return str(rendered)

    def encode(self, prompt: str, reply: str, num_tiles: int | list[int]) -> tuple[list[int], list[int]]:
        """Return token ids of one training chat and its labels, -100 on everything but the reply.

        The reply ends with the end-of-turn token, which is labelled too. Prompt and reply are tokenised separately, so
        that training and generation see the same prompt. ``num_tiles`` may be a list of the visual tokens of each tile,
        as for ``expand``.
        """
        question = self.render(prompt)
        answer = self.render(prompt, reply).removeprefix(question)
        said, end, _ = answer.rpartition(TURN_END)  # without an end: InternVL leaves an empty turn open
        prompt_ids, reply_ids = (self._ids(text) for text in (*self.expand([question], [num_tiles]), said + end))
        return prompt_ids + reply_ids, [-100] * len(prompt_ids) + reply_ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _block(self, tiles: int | list[int]) -> str:
        tokens = self.image_seq_length * tiles if isinstance(tiles, int) else sum(tiles)
        return IMAGE_START + IMAGE_TOKEN * tokens + IMAGE_END


def _flatten(images: Any) -> list[Image.Image]:
    """Flatten any nesting of pictures into one list."""
    if images is None:
        return []
    if isinstance(images, Image.Image):
        return [images]
    return [picture for nested in images for picture in _flatten(nested)]


AutoImageProcessor.register(FcotvlConfig, image_processor_classes={"pil": FcotvlImageProcessor})
AutoProcessor.register(FcotvlConfig, FcotvlProcessor)

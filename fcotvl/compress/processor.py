"""From pictures and chat text to model inputs, without torchvision or a video processor."""

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict, no_type_check
from urllib.parse import urlsplit
from urllib.request import url2pathname

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
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format, make_flat_list_of_images
from transformers.processing_utils import MultiModalData

from fcotvl.compress.config import FcotvlConfig
from fcotvl.compress.tile_complexity import tile_complexity
from fcotvl.compress.tiling import split_into_tiles
from fcotvl.core.errors import CheckpointError, DataError
from fcotvl.core.geometry import count_tiles
from fcotvl.core.prompts import IMAGE_END, IMAGE_START, IMAGE_TOKEN, SPECIAL_TOKENS, TURN_END

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
DEFAULTS = {"padding": True, "padding_side": "left", "add_special_tokens": False, "return_tensors": "pt"}
"""How chats are tokenised unless a caller says otherwise."""


class TilingKwargs(TypedDict, total=False):
    """What ``images_kwargs`` may hold: the arguments of ``FcotvlImageProcessor.preprocess``."""

    max_tiles: int | None
    do_rescale: bool | None
    do_normalize: bool | None
    image_mean: list[float] | tuple[float, ...] | None
    image_std: list[float] | tuple[float, ...] | None
    input_data_format: str | ChannelDimension | None
    return_tensors: str | None


class FcotvlImageProcessor(BaseImageProcessor):
    """Cuts pictures into normalised tiles with Pillow, as InternVL2's own evaluation does."""

    model_input_names = ["pixel_values"]  # noqa: RUF012 - the name and type transformers expects
    valid_kwargs = TilingKwargs
    do_rescale = True
    do_normalize = True

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

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Open paths, URLs (``file://`` too) and base64 texts, in any nesting; other pictures stay as they are."""
        source = image_url_or_urls
        if isinstance(source, os.PathLike):
            source = os.fspath(source)
        elif isinstance(source, str) and source.startswith("file://"):
            source = url2pathname(urlsplit(source).path)
        return super().fetch_images(source)

    def preprocess(
        self,
        images: Any,
        *,
        max_tiles: int | None = None,
        do_rescale: bool | None = None,
        do_normalize: bool | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        input_data_format: str | ChannelDimension | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Return ``pixel_values [tiles, 3, size, size]`` and ``num_tiles`` of each picture.

        Where the number of visual tokens differs between tiles, also ``tile_tokens [tiles]``.

        Args:
            images: a picture or a list: of Pillow, a path, a URL, base64, or an array or tensor, channels first or
                last, of values from 0 to 255.
            max_tiles: overrides the limit of this processor.
            do_rescale: divide pixels by 255. Without it, floats of arrays must lie in [0, 1], and stay there.
            do_normalize: subtract ``image_mean`` and divide by ``image_std``. Without both, pixels stay bytes.
            image_mean: overrides the mean of this processor.
            image_std: overrides the standard deviation of this processor.
            input_data_format: ``channels_first`` or ``channels_last``, for arrays whose shape leaves it open.
            return_tensors: ``pt``, ``np`` or None.

        Raises:
            ValueError: an array has values out of range, or a shape that is not a picture's.
        """
        do_rescale = self.do_rescale if do_rescale is None else do_rescale
        do_normalize = self.do_normalize if do_normalize is None else do_normalize
        statistics = (image_mean or self.image_mean, image_std or self.image_std) if do_normalize else None
        sizes = {"tile_size": self.tile_size, "max_tiles": max_tiles or self.max_tiles}
        pixels, counts, kept = [], [], []
        for picture in make_flat_list_of_images(self.fetch_images(images)):
            is_bytes = isinstance(picture, Image.Image) or not _is_floating(picture)
            tiles = split_into_tiles(_as_pillow(picture, do_rescale, input_data_format), **sizes)
            cut = np.stack([np.asarray(tile).transpose(2, 0, 1) for tile in tiles])
            pixels.append(_scale(cut, rescale=do_rescale or not is_bytes, statistics=statistics))
            counts.append(len(tiles))
            if self.tile_tokens is not None and self.threshold is not None:
                more, fewer = self.tile_tokens
                normalised = _scale(cut, statistics=(self.image_mean, self.image_std))
                kept += [fewer if tile_complexity(tile) < self.threshold else more for tile in normalised]
        features: dict[str, Any] = {"pixel_values": np.concatenate(pixels), "num_tiles": counts}
        if self.tile_tokens is not None:
            features["tile_tokens"] = kept
        return BatchFeature(features, tensor_type=return_tensors, skip_tensor_conversion=["num_tiles"])

    def get_number_of_image_patches(self, height: int, width: int, images_kwargs: dict[str, Any] | None = None) -> int:
        """Tiles of a picture of this size, thumbnail included; the name is that of transformers' processors."""
        max_tiles = (images_kwargs or {}).get("max_tiles") or self.max_tiles
        return count_tiles(width, height, tile_size=self.tile_size, max_tiles=max_tiles)


def _is_floating(array: Any) -> bool:
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def _as_pillow(picture: Any, do_rescale: bool, layout: str | ChannelDimension | None = None) -> Image.Image:
    """A picture as Pillow's: itself, or an array or tensor of bytes, or of floats.

    Args:
        picture: channels first or last.
        do_rescale: floats are from 0 to 255, else from 0 to 1.
        layout: ``channels_first`` or ``channels_last``; by default what the shape says.

    Raises:
        ValueError: values are out of range, or the shape is not that of a picture.
    """
    if isinstance(picture, Image.Image):
        return picture
    array = np.asarray(picture)
    top = 1 if _is_floating(array) and not do_rescale else 255
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= top):
        raise ValueError(f"a picture has values from {low} to {high}; with do_rescale={do_rescale}, give 0 to {top}")
    if _is_floating(array) and do_rescale and 0 < high <= 1:
        raise ValueError(f"a picture has floats from {low} to {high}; pass do_rescale=False for values in [0, 1]")
    if (layout or infer_channel_dimension_format(array, num_channels=(1, 3, 4))) == ChannelDimension.FIRST:
        array = np.moveaxis(array, 0, -1)
    pixels = np.rint(array * (255 / top)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _scale(
    pixels: npt.NDArray[np.uint8],
    *,
    rescale: bool = True,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
) -> npt.NDArray[Any]:
    """Bytes ``[tiles, 3, h, w]`` as float32 in [0, 1], normalised by mean and standard deviation; or as they are."""
    scaled: npt.NDArray[Any] = pixels.astype(np.float32) / np.float32(255) if rescale else pixels
    if statistics:
        mean, std = (np.asarray(x, dtype=np.float32)[:, None, None] for x in statistics)
        scaled = (scaled - mean) / std
    return scaled.astype(np.float32, copy=False) if rescale or statistics else scaled


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

    @property
    def unused_input_names(self) -> list[str]:
        """What only the processor itself needs of the image processor's output."""
        return ["num_tiles"]

    @property
    def image_token_ids(self) -> list[int]:
        """The ids that a picture becomes."""
        return self.tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, IMAGE_START, IMAGE_END])

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: None = None,
        audio: None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Encode a batch of texts and the pictures they mention, in the order of mention.

        Args:
            images: a picture as ``FcotvlImageProcessor.preprocess`` takes it, or a list of them, or one list per text.
            text: rendered chats; each ``<IMG_CONTEXT>`` takes the next picture.
            videos: must be None.
            audio: must be None.
            **kwargs: for the tokenizer and the image processor, also as ``text_kwargs`` and ``images_kwargs``. By
                default padding is on the left, no special tokens are added, and tensors are PyTorch's.

        Raises:
            ValueError: pictures and placeholders do not match, truncation would cut a picture, or a modality is not
                supported.
        """
        # Given as arguments: transformers prefers the tokenizer's own settings to defaults of a processor.
        defaults = {name: value for name, value in DEFAULTS.items() if name not in kwargs}
        kwargs["text_kwargs"] = defaults | kwargs.get("text_kwargs", {})
        return super().__call__(images, text, videos, audio, **kwargs)

    def prepare_inputs_layout(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Open the pictures; an empty list is none."""
        images, *others = super().prepare_inputs_layout(*args, **kwargs)
        is_empty = isinstance(images, list) and not make_flat_list_of_images(images)
        return (None if is_empty else images, *others)

    def validate_inputs(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> None:
        """Refuse what the model cannot read.

        Raises:
            ValueError: pictures and placeholders do not match, or a modality is not supported.
        """
        if videos is not None or audio is not None:
            raise ValueError("this processor reads pictures only; pass neither videos nor audio")
        if text is None:
            raise ValueError("text is missing; pass a rendered chat for the pictures")
        super().validate_inputs(images=images, text=text, **kwargs)

    def replace_image_token(self, image_inputs: Mapping[str, Any], image_idx: int, **_: Any) -> str:
        """What stands in the text for a picture."""
        return self._block(self.tiles(image_inputs)[image_idx])

    def _get_num_multimodal_tokens(
        self, image_sizes: Sequence[tuple[int, int]] | None = None, **kwargs: Any
    ) -> MultiModalData:
        """Tokens and tiles of pictures of these sizes, (height, width), as vLLM asks for them.

        Raises:
            ValueError: the number of tokens depends on more than the size.
        """
        if image_sizes is None:
            return MultiModalData()
        if self.image_processor.tile_tokens:
            raise ValueError("this student keeps more of some tiles than of others; sizes alone do not say how many")
        settings = self._merge_kwargs(**kwargs)["images_kwargs"]
        tiles = [self.image_processor.get_number_of_image_patches(*size, settings) for size in image_sizes]
        tokens = [self.image_seq_length * count + 2 for count in tiles]  # and the two marks around them
        return MultiModalData(num_image_tokens=tokens, num_image_patches=tiles)

    def tokenize(self, texts: Sequence[str], **kwargs: Any) -> BatchEncoding:
        """Tokenise expanded chats as one batch, padded on the left unless ``kwargs`` differ."""
        return self.tokenizer(list(texts), **{**DEFAULTS, **kwargs})

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
        """Render the chat about one picture as text: up to the reply, or with it if given.

        Raises:
            DataError: the prompt has the token that stands for a picture.
        """
        if IMAGE_TOKEN in prompt:
            raise DataError(f"a question has {IMAGE_TOKEN}, which stands for a picture; leave it out: {prompt[:80]!r}")
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


AutoImageProcessor.register(FcotvlConfig, image_processor_classes={"pil": FcotvlImageProcessor})
AutoProcessor.register(FcotvlConfig, FcotvlProcessor)

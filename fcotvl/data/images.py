"""Normal form of pictures: upright, opaque, RGB with 8 bits a channel, fully decodable."""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from fcotvl.core.errors import DataError
from fcotvl.core.records import pixel_digest

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow knows more, some of it through other programs: Ghostscript for EPS."""
MAX_ASPECT = 200
"""Longer over shorter side: longer strips hold nothing that can be read."""
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
    ImageCms.PyCMSError,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on damaged files; each is a fault of the file."""
_ORIENTATION = 0x0112
_WIDE = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes with more than 8 bits a channel."""


@dataclass(frozen=True)
class Picture:
    """An encoded picture that is known to decode."""

    data: bytes
    """PNG or JPEG, RGB or grey."""
    width: int
    height: int
    sha256: str
    """Of the decoded pixels, see ``records.pixel_digest``."""
    pixels: Image.Image


def normalise_image(data: bytes, *, max_pixels: int) -> Picture:
    """Decode ``data`` and return it as PNG, or untouched where it already is a plain PNG or JPEG.

    Rotated by its EXIF, transparency on white, more than 8 bits scaled down, CMYK, LAB and palettes converted; the
    first of several frames.

    Raises:
        DataError: it is damaged, larger than ``max_pixels`` or a strip beyond ``MAX_ASPECT``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as source:
            _check_size(source.size, max_pixels)
            source.load()  # before anything that loads by itself and hides what goes wrong, as getexif() does
            plain = _is_plain(source)
            pixels = source.convert("RGB") if plain else _flatten(_upright(source))
    except UnidentifiedImageError as error:
        raise DataError("not a readable image: no known format") from error
    except DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"not a readable image: {reason}") from error
    kept = data if plain else encode(pixels)
    return Picture(kept, pixels.width, pixels.height, pixel_digest(pixels), pixels)


def encode(pixels: Image.Image) -> bytes:
    """``pixels`` as PNG, quickly: level 1 is several times faster than the default."""
    file = io.BytesIO()
    pixels.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if min(size) < 1:
        raise DataError(f"{width} x {height} pixels: the picture is empty")
    if width * height > max_pixels:
        raise DataError(f"{width} x {height} pixels are more than corpus.max_pixels ({max_pixels})")
    if max(size) > MAX_ASPECT * min(size):
        raise DataError(f"{width} x {height} pixels: longer than {MAX_ASPECT}:1")


def _is_plain(picture: Image.Image) -> bool:
    return (
        picture.format in ("PNG", "JPEG")
        and picture.mode in ("RGB", "L")
        and getattr(picture, "n_frames", 1) == 1
        and "transparency" not in picture.info
        and _orientation(picture) == 1
    )


def _orientation(picture: Image.Image) -> int | None:
    """The EXIF orientation, 1 without one, ``None`` where the EXIF is damaged."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except DAMAGED:
        return None


def _upright(picture: Image.Image) -> Image.Image:
    """Rotated by its EXIF; one with a damaged EXIF stays as it is."""
    if _orientation(picture) in (None, 1):
        return picture
    return ImageOps.exif_transpose(picture)


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode in _WIDE:
        return _narrow(picture).convert("RGB")
    if picture.mode == "LAB":
        return _from_lab(picture)
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")


def _narrow(picture: Image.Image) -> Image.Image:
    """Scale to 8 bits from the bits that are used: 12-bit scans in 16-bit files stay readable."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
    values = np.clip(values, 0, None)
    bits = max(8, int(values.max()).bit_length())
    return Image.fromarray(np.rint(values * (255 / (2**bits - 1))).astype(np.uint8))


def _from_lab(picture: Image.Image) -> Image.Image:
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, rgb, outputMode="RGB")
    if converted is None:
        raise DataError("LAB colours cannot be converted")
    return converted

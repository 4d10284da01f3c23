"""Whatever a picture is stored as, it comes out upright, opaque and in 8 bits, or not at all."""

import io

import numpy as np
import pytest
from PIL import Image

from fcotvl.core.errors import DataError
from fcotvl.data.images import MAX_ASPECT, encode, normalise_image
from tests.support.datasets import encoded, needs_realdata, picture, realdata

PIXELS = 1_000_000


def take(data: bytes, max_pixels: int = PIXELS):
    return normalise_image(data, max_pixels=max_pixels)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_plain_pictures_keep_their_bytes(form, mode):
    data = encoded(picture(1).convert(mode), form)
    taken = take(data)
    assert taken.data == data
    assert (taken.width, taken.height, taken.pixels.mode) == (64, 48, "RGB")


@pytest.mark.parametrize(("orientation", "size"), [(2, (64, 48)), (3, (64, 48)), (6, (48, 64)), (8, (48, 64))])
def test_a_rotated_photograph_is_turned_upright(orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    taken = take(encoded(picture(1), "JPEG", exif=exif))
    assert taken.pixels.size == size
    with Image.open(io.BytesIO(taken.data)) as stored:
        assert stored.format == "PNG"
        assert stored.getexif().get(0x0112, 1) == 1


def test_transparency_becomes_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    pixels = take(encoded(clear)).pixels
    assert pixels.getpixel((0, 0)) == (255, 0, 0)
    assert pixels.getpixel((1, 1)) == (255, 255, 255)


def test_a_transparent_palette_entry_becomes_white():
    clear = Image.new("P", (2, 2), 0)
    clear.putpalette([10, 20, 30, 200, 100, 50])
    clear.putpixel((1, 1), 1)
    pixels = take(encoded(clear, transparency=0)).pixels
    assert pixels.getpixel((0, 0)) == (255, 255, 255)
    assert pixels.getpixel((1, 1)) == (200, 100, 50)


def test_sixteen_bits_keep_their_greys():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = np.asarray(take(encoded(Image.fromarray(ramp))).pixels)[..., 0]
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert np.array_equal(np.rint(ramp / 257), pixels)


def test_twelve_bits_in_sixteen_are_not_black():
    ramp = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    assert np.asarray(take(encoded(Image.fromarray(ramp))).pixels).max() == 255


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces_become_rgb(mode):
    white = Image.new("LAB", (8, 8), (255, 128, 128))
    if mode != "LAB":
        white = Image.new("RGB", (8, 8), "white").convert(mode)
    pixels = take(encoded(white, "TIFF")).pixels
    assert pixels.mode == "RGB"
    assert min(pixels.getpixel((4, 4))) >= 250


@pytest.mark.parametrize("form", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken(form):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:])
    red, green, blue = take(data).pixels.getpixel((3, 3))
    assert red > 240
    assert max(green, blue) < 15


def test_a_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(DataError, match=r"64 x 48 pixels are more than corpus.max_pixels \(100\)"):
        take(encoded(picture(1)), max_pixels=100)


def test_a_strip_nobody_can_read_is_refused():
    strip = Image.new("RGB", (MAX_ASPECT * 2 + 1, 2))
    with pytest.raises(DataError, match=f"longer than {MAX_ASPECT}:1"):
        take(encoded(strip))
    assert take(encoded(strip.crop((0, 0, MAX_ASPECT * 2, 2)))).width == MAX_ASPECT * 2


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_a_truncated_file_is_one_finding(form):
    data = encoded(picture(1, (200, 200)), form)
    with pytest.raises(DataError, match="not a readable image"):
        take(data[: len(data) // 2])


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "RGBA"])
def test_a_flipped_byte_is_never_a_half_black_picture(mode):
    """What Pillow cannot decode is refused, also where something else had loaded the file before."""
    noise = np.random.default_rng(0).integers(256, size=(96, 128, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "PNG")
    broken = 0
    for place in np.random.default_rng(1).integers(data.index(b"IDAT") + 4, len(data) - 16, size=40):
        flipped = data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
        try:
            Image.open(io.BytesIO(flipped)).load()
        except (OSError, SyntaxError):
            broken += 1
            with pytest.raises(DataError, match="not a readable image"):
                take(flipped)
    assert broken > 10


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_no_picture_is_one_finding_without_addresses(data):
    with pytest.raises(DataError) as error:
        take(data)
    assert "0x" not in str(error.value)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_does_not_lose_the_picture():
    data = encoded(picture(1), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert take(data).pixels.size == (64, 48)


def test_encoding_is_lossless():
    with Image.open(io.BytesIO(encode(picture(3)))) as stored:
        assert stored.tobytes() == picture(3).tobytes()


@needs_realdata
def test_every_odd_picture_is_taken_or_refused():
    ok = sorted(realdata("odd_images/ok").iterdir())
    bad = sorted(realdata("odd_images/bad").iterdir())
    assert (len(ok), len(bad)) == (28, 6)
    for file in ok:
        taken = take(file.read_bytes(), 50_000_000)
        with Image.open(io.BytesIO(taken.data)) as stored:
            assert stored.size == (taken.width, taken.height)
    refused = []
    for file in bad:
        try:
            take(file.read_bytes(), 50_000_000)
        except DataError:
            refused.append(file.name)
    assert set(refused) == {file.name for file in bad} - {"broken_exif_dpi.jpg"}


@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
        encoded(picture(1), "DDS"),
        encoded(picture(1).convert("P"), "BLP"),
        encoded(picture(1), "TGA"),
    ],
    ids=["EPS", "DDS", "BLP", "TGA"],
)
def test_a_form_that_no_data_set_has_is_not_decoded(data):
    with pytest.raises(DataError, match="not a readable image: no known format"):
        take(data)

"""The check decodes images as the loader does, and notes those with an EXIF orientation."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kd.data import decoding
from kd.data.check import Report, check
from kd.data.entry import Dataset
from kd.data.readers import image_path, read_split
from tests.data.conftest import HEIGHT, WIDTH, save_image

Edit = Callable[[Callable[[dict[str, Any]], Any]], None]


def errors(report: Report) -> str:
    return "\n".join(map(str, report.errors))


def notes(report: Report) -> str:
    return "\n".join(map(str, report.notes))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def bad_crc() -> bytes:
    data = bytearray(encoded(Image.new("RGB", (WIDTH, HEIGHT)), "PNG"))
    place = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[place - 4 : place])
    data[place + 4 + length] ^= 1
    return bytes(data)


SPOILED = {
    "PNG with a bad CRC": bad_crc,
    "float TIFF": lambda: encoded(Image.new("F", (WIDTH, HEIGHT)), "TIFF"),
    "int32 TIFF": lambda: encoded(Image.new("I", (WIDTH, HEIGHT)), "TIFF"),
    "zstd TIFF": lambda: encoded(Image.new("RGB", (WIDTH, HEIGHT)), "TIFF", compression="zstd"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_an_image_that_the_loader_cannot_decode_is_an_error(
    coco: Dataset, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "train/2.png").write_bytes(SPOILED[kind]())
    report = check("coco", coco)
    assert len(report.errors) == 1
    assert "2.png: OpenCV, which loads images for training, cannot decode this" in errors(report)


FORMS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]
MODES = ["RGB", "L", "P", "RGBA", "1", "LA", "CMYK", "I;16"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", FORMS)
def test_images_are_decoded_as_the_loader_decodes_them(
    tmp_path: Path, kind: str, mode: str, quiet_mmdet: None
) -> None:
    from mmcv.transforms import LoadImageFromFile

    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image
    path = tmp_path / "image"
    try:
        path.write_bytes(encoded(image.convert(mode) if mode != "I;16" else image, kind))
    except (OSError, KeyError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    decoded = decoding.decode(path.read_bytes())
    loader = LoadImageFromFile()
    if decoded is None:
        with pytest.raises(AssertionError, match="failed to load image"):
            loader({"img_path": str(path)})
    else:
        assert np.array_equal(loader({"img_path": str(path)})["img"], decoded)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_of_a_turned_image_is_read(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    data = encoded(Image.new("RGB", (WIDTH, HEIGHT)), kind, exif=exif)
    decoded, header = decoding.decode(data), decoding.read_header(data)
    assert decoded is not None and header is not None
    assert (header.width, header.height) == (WIDTH, HEIGHT)
    assert header.loaded_size == decoded.shape[1::-1]


@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", FORMS)
def test_the_orientation_is_the_one_that_opencv_applies(kind: str, orientation: int) -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16], pixels[:, :16, 1] = 200, 255
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    data = encoded(Image.fromarray(pixels), kind, exif=exif)
    decoded, header = decoding.decode(data), decoding.read_header(data)
    assert decoded is not None and header is not None
    difference = np.abs(decoded[:, :, ::-1].astype(int) - pixels).max()
    assert (header.orientation != 1) == (difference > 60)


@pytest.mark.parametrize(("orientation", "size"), [(3, (40, 30)), (2, (40, 30)), (6, (32, 32))])
def test_turned_images_whose_size_does_not_show_it_are_noted(
    coco: Dataset, edit: Edit, tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = orientation
    for name in ("1", "2"):
        save_image(tmp_path / "train" / f"{name}.png", seed=int(name), size=size)
        with Image.open(tmp_path / f"train/{name}.png") as image:
            image.save(tmp_path / f"train/{name}.png", exif=exif)
    edit(
        lambda content: [
            image.update(width=size[0], height=size[1]) for image in content["images"][:2]
        ]
    )
    report = check("coco", coco.model_copy(update={"image_size": (64, 64)}))
    assert report.usable
    assert "1.png: 2 images (this is the first) are turned or mirrored" in notes(report)


def test_a_quarter_turn_that_the_annotated_size_shows_is_not_noted(
    coco: Dataset, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    path = tmp_path / "train/1.png"
    save_image(path, seed=1, size=(HEIGHT, WIDTH))
    with Image.open(path) as image:
        image.save(path, exif=exif)
    report = check("coco", coco)
    assert report.usable and not report.notes


def forged_png(width: int, height: int) -> bytes:
    """Return a small PNG file whose header states a larger size."""
    data = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_pillow_has_the_size_limit_of_opencv() -> None:
    header = decoding.read_header(forged_png(2**14, 2**14))  # more than Pillow accepts by default
    assert header is not None and header.loaded_size == (2**14, 2**14)
    assert "image file is truncated" in decoding.explain_failure(forged_png(2**10, 2**10))
    larger = forged_png(2**16, 2**15)
    assert decoding.decode(larger) is None
    assert "more than the 1073741824 that OpenCV decodes" in decoding.explain_failure(larger)


def test_an_orientation_after_the_pixels_of_a_png_is_read() -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    data = encoded(Image.new("RGB", (WIDTH, HEIGHT)), "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    end = data.index(b"IEND") - 4
    late = data[:start] + data[stop:end] + data[start:stop] + data[end:]
    decoded, header = decoding.decode(late), decoding.read_header(late)
    assert decoded is not None and header is not None
    assert header.loaded_size == decoded.shape[1::-1] == (HEIGHT, WIDTH)


def test_an_image_that_becomes_a_single_cell_is_an_error(coco: Dataset) -> None:
    small = coco.model_copy(update={"image_size": (32, 32)})
    assert "have 32 x 24 pixels, which is one cell of a backbone's last map" in errors(
        check("coco", small)
    )


def test_an_image_that_vanishes_when_it_is_resized_is_an_error(
    coco: Dataset, edit: Edit, tmp_path: Path
) -> None:
    save_image(tmp_path / "train/1.png", seed=1, size=(400, 2))
    edit(lambda content: content["images"][0].update(width=400, height=2))
    assert "1.png: the short side of the image, 400 x 2 pixels, has no pixel left" in errors(
        check("coco", coco)
    )


# --- Files of VOC images ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".JPG", ".JPEG", ".webp", ".bmp", ".tif"])
def test_voc_images_of_any_suffix_are_found(voc: Dataset, tmp_path: Path, suffix: str) -> None:
    for path in list(tmp_path.rglob("*.jpg")):
        with Image.open(path) as image:
            image.load()
        path.unlink()
        image.save(path.with_suffix(suffix))
    report = check("voc", voc)
    assert report.usable and report.splits["train"].images == 3
    images = read_split(voc, "train").coco["images"]
    assert all(image_path(voc, "train", image).suffix == suffix for image in images)


def test_a_voc_image_with_two_files_is_an_error(voc: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "A/JPEGImages"
    save_image(folder / "a1.png", seed=1)
    assert check("voc", voc).usable  # mmdet prefers a .jpg
    (folder / "a1.jpg").rename(folder / "a1.jpeg")
    assert "image 'a1' has several files: a1.jpeg, a1.png" in errors(check("voc", voc))


def test_a_voc_page_without_size_follows_the_orientation(voc: Dataset, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[decoding.ORIENTATION] = 6
    path = tmp_path / "A/JPEGImages/a1.jpg"
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)
    page = tmp_path / "A/Annotations/a1.xml"
    text = page.read_text()
    page.write_text(text[: text.index("<size>")] + text[text.index("</size>") + 7 :])
    first = read_split(voc, "train").coco["images"][0]
    assert (first["width"], first["height"]) == (HEIGHT, WIDTH)
    assert check("voc", voc).usable

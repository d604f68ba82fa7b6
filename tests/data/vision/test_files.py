"""Image files: which ones are found, and their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_image

from graphformer.data.vision.files import (
    ImageFiles,
    find_files,
    image_suffixes,
    is_ignored,
    read_image,
)

PIL = pytest.importorskip("PIL.Image", reason="image files need Pillow")


@pytest.mark.parametrize("kind", ["grey", "16 bits", "palette", "transparent", "CMYK", "bits"])
def test_pictures_of_every_mode_keep_their_brightness(kind: str, tmp_path: Path) -> None:
    shades = np.linspace(0, 255, 7 * 5).round().astype(np.uint8).reshape(7, 5)
    image, ending, tolerance = PIL.fromarray(shades), "png", 0
    if kind == "16 bits":
        image = PIL.fromarray(shades.astype(np.uint16) * 257)
    elif kind == "palette":
        image = image.convert("P")
    elif kind == "transparent":
        image.putalpha(PIL.fromarray(shades[::-1].copy()))
    elif kind == "CMYK":
        image, ending, tolerance = image.convert("RGB").convert("CMYK"), "tif", 1
    elif kind == "bits":
        shades = 255 * (shades > 99).astype(np.uint8)
        image = PIL.fromarray(shades).convert("1", dither=PIL.Dither.NONE)
    options = {"transparency": bytes(range(256))} if kind == "palette" else {}
    image.save(tmp_path / f"a.{ending}", **options)
    for channels in (1, 3):
        pixels = read_image(tmp_path / f"a.{ending}", channels)
        assert pixels.shape == (channels, 7, 5)
        np.testing.assert_allclose(pixels.astype(int), [shades] * channels, atol=tolerance)


def test_pixels_in_no_known_range_and_huge_pictures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PIL.fromarray(np.ones((7, 5), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: got no image.*mode F.*save 8 or 16 bits"):
        read_image(tmp_path / "a.tif", 1)
    write_image(tmp_path / "b.png", (11, 13), 0)
    monkeypatch.setattr(PIL, "MAX_IMAGE_PIXELS", 50)  # twice as many are an error
    with pytest.raises(ValueError, match=r"b\.png: got no image.*143 pixels"):
        read_image(tmp_path / "b.png", 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_read_upright(orientation: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    exif = PIL.Exif()
    exif[0x0112] = orientation
    PIL.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    # The tag says which transposition makes the stored pixels upright (EXIF 2.3, section 4.6.4).
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: -1, 6: -1, 7: 1, 8: 1}[orientation]
    mirrored = pixels[:, ::-1] if orientation in (2, 4, 5, 7) else pixels
    upright = np.rot90(mirrored, turns)
    if orientation in (5, 7):
        upright = np.rot90(pixels, turns)[:, ::-1]
    assert np.array_equal(read_image(tmp_path / "a.png", 3), upright.transpose(2, 0, 1))


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    shades = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1800
    exif = PIL.Exif()
    exif[0x0112] = 6
    PIL.fromarray(shades).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", 1)[0], np.rot90(shades, -1) >> 8)


def test_a_narrow_range_of_sixteen_bits_is_reported_once_a_folder(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (5, 7)).astype(np.uint16)
    for name in ("a.png", "b.png"):
        PIL.fromarray(values).save(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"a\.png: got 16-bit pixels up to {values.max()} of"):
        read_image(tmp_path / "a.png", 1)
    assert read_image(tmp_path / "b.png", 1).max() == values.max() >> 8
    PIL.fromarray(values * 16).save(tmp_path / "c.png")
    assert read_image(tmp_path / "c.png", 1).max() > 200


def test_hidden_and_system_files_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b/c.JPG", ".hidden.png", "._a.png", ".ipynb_checkpoints/a.png"):
        write_image(tmp_path / name, (3, 5), 0)
    for name in ("__MACOSX/a.png", "@eaDir/a.png"):
        write_image(tmp_path / name, (3, 5), 0)
    for name in ("Thumbs.db", "desktop.ini", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    images, others = find_files(tmp_path, image_suffixes())
    assert [path.relative_to(tmp_path).as_posix() for path in images] == ["a.png", "b/c.JPG"]
    assert [path.name for path in others] == ["notes.txt"]
    assert is_ignored(".git")
    assert not is_ignored("cats")


FORMATS = {"jfif": "JPEG", "tga": "TGA", "pnm": "PPM", "PNG": "PNG", "webp": "WEBP", "tif": "TIFF"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_formats_of_pillow_are_images(suffix: str, tmp_path: Path) -> None:
    pixels = np.full((5, 7, 3), 90, np.uint8)
    PIL.fromarray(pixels).save(tmp_path / f"a.{suffix}", format=FORMATS[suffix])
    images, others = find_files(tmp_path, image_suffixes())
    assert (len(images), others) == (1, [])
    assert abs(read_image(images[0], 3).astype(int) - 90).max() <= 3


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_image(tmp_path / "far" / "deep" / "a.png", (3, 5), 0)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far", target_is_directory=True)
    (tmp_path / "far" / "deep" / "loop").symlink_to(tmp_path / "far", target_is_directory=True)
    images, _ = find_files(tmp_path / "near", image_suffixes())
    assert images == [tmp_path / "near" / "link" / "deep" / "a.png"]


def test_unreadable_and_small_files_are_skipped(tmp_path: Path) -> None:
    write_image(tmp_path / "0.png", (8, 8), 0)
    write_image(tmp_path / "1.png", (3, 8), 0)
    (tmp_path / "2.png").write_bytes(b"no image at all")
    files = ImageFiles([tmp_path / f"{i}.png" for i in range(3)], multiple=4)
    with pytest.warns(UserWarning, match=r"skipped 2 of 3 files .* first .*1\.png"):
        assert files.readable() == [0]
    resized = ImageFiles(files.files[:2], multiple=4, size=(8, 12))
    assert resized.readable() == [0, 1]
    assert resized[1].shape == (3, 8, 12)

import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, PngImagePlugin

from robustcls._validation import InputError
from robustcls.data import load, train_batches
from robustcls.data.decoding import BadImageError, probe, quiet_pillow, read_image
from robustcls.data.files import FileImages, image_files
from robustcls.data.sources import sensible_side


def picture(seed, size=(8, 6), mode="RGB"):
    generator = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    return Image.fromarray(generator.integers(0, 256, shape, np.uint8))


def fill(folder, count, start=0, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(start, start + count):
        picture(number, **options).save(folder / f"{number:03}.png")


@pytest.fixture
def photos(tmp_path):
    """root/class/*: 10 cats and 20 dogs."""
    root = tmp_path / "photos"
    fill(root / "cat", 10)
    fill(root / "dog", 20, start=100)
    return root


@pytest.fixture
def split_photos(tmp_path):
    """root/split/class/*."""
    root = tmp_path / "photos"
    for start, (split, count) in enumerate((("train", 10), ("val", 3), ("test", 4))):
        for offset, name in enumerate(("cat", "dog")):
            fill(root / split / name, count, start=1000 * start + 100 * offset)
    return root


def every_id(splits):
    return [*splits.train.ids, *splits.validation.ids, *splits.test.ids]


def test_class_folders(photos):
    splits = load(photos)
    assert splits.class_names == ("cat", "dog")
    assert splits.image_shape == (6, 8, 3)
    assert np.bincount(splits.test.labels).tolist() == [2, 4]
    assert np.bincount(splits.validation.labels).tolist() == [1, 2]
    assert np.bincount(splits.train.labels).tolist() == [7, 14]
    assert len(set(every_id(splits))) == 30
    assert "test: 0.2 of train" in splits.source
    assert str(photos) in splits.source
    for split in (splits.train, splits.validation, splits.test):
        for image, label, name in zip(split.images, split.labels, split.ids, strict=True):
            assert name.startswith(("cat/", "dog/")[label])
            np.testing.assert_array_equal(image, np.asarray(Image.open(photos / name)))


def test_seed_and_string_path(photos, monkeypatch):
    first = load(str(photos))
    assert load(photos).fingerprint == first.fingerprint
    assert set(load(photos, seed=1).test.ids) != set(first.test.ids)
    monkeypatch.chdir(photos.parent)
    assert load("photos").fingerprint == first.fingerprint
    assert load("./photos/").fingerprint == first.fingerprint


def test_a_name_that_tfds_knows_is_no_folder(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos.rename(tmp_path / "mnist_corrupted")
    assert load("./mnist_corrupted").class_names == ("cat", "dog")
    monkeypatch.setattr(
        "robustcls.data.tfds.sets.load_tfds", lambda name, reading: pytest.fail(f"asked for {name}")
    )
    with pytest.raises(pytest.fail.Exception, match="asked for mnist_corrupted"):
        load("mnist_corrupted")


def test_split_folders(split_photos):
    splits = load(split_photos)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [20, 6, 8]
    assert all(name.startswith("val/") for name in splits.validation.ids)
    assert splits.source == f"image folder {split_photos}"


def test_missing_splits_are_cut_from_train(split_photos):
    for split in ("val", "test"):
        os.rename(split_photos / split, split_photos.parent / split)
    splits = load(split_photos, validation_fraction=0.25)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 4, 4]
    assert all(name.startswith("train/") for name in every_id(splits))


def test_splits_without_classes_and_a_folder_too_high(tmp_path):
    """Training against testing images is no pair of classes."""
    for part in ("train", "test"):
        fill(tmp_path / "flat" / part, 5)
        for name in "ab":
            fill(tmp_path / "high" / "photos" / part / name, 5)
    with pytest.raises(InputError, match=r"a folder for each class.*flat/test holds none"):
        load(tmp_path / "flat")
    with pytest.raises(InputError, match=r"holds 1 folder\. Did you mean .*high/photos\?"):
        load(tmp_path / "high")


def test_a_class_called_train(tmp_path):
    fill(tmp_path / "bus", 5)
    fill(tmp_path / "train", 5, start=10)
    assert load(tmp_path).class_names == ("bus", "train")


def test_what_is_not_an_image_of_the_set(photos):
    (photos / "cat" / ".hidden.png").write_text("no image")
    (photos / "cat" / ".thumbnails").mkdir()
    (photos / "cat" / ".thumbnails" / "x.png").write_text("no image")
    (photos / ".git").mkdir()
    (photos / "cat" / "Thumbs.db").write_text("")
    (photos / "labels.csv").write_text("a,b")
    fill(photos / "cat" / "more", 1, start=50)
    splits = load(photos)
    assert len(every_id(splits)) == 31
    assert "cat/more/050.png" in every_id(splits)


def test_formats_and_endings(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number, ending in enumerate(("png", "JPG", "jpeg", "bmp", "gif", "webp", "tif")):
            picture(number).save(tmp_path / name / f"{number}.{ending}")
    splits = load(tmp_path)
    assert len(every_id(splits)) == 14
    assert splits.image_shape == (6, 8, 3)


def test_gray_and_colour(tmp_path):
    fill(tmp_path / "a", 3, mode="L")
    fill(tmp_path / "b", 3, mode="L", start=10)
    assert load(tmp_path).image_shape == (6, 8, 1)
    fill(tmp_path / "b", 1, start=20)
    mixed = load(tmp_path)
    assert mixed.image_shape == (6, 8, 3)
    gray = mixed.train.images[mixed.train.labels == 0]
    np.testing.assert_array_equal(gray[..., 0], gray[..., 2])
    assert load(tmp_path, channels=1).image_shape == (6, 8, 1)
    assert mixed.changes == ()


def test_what_was_done_to_the_images_is_said(photos):
    assert load(photos, image_size=(6, 8), channels=3).changes == ()
    assert load(photos, image_size=4, channels=1).changes == (
        "resized from 6×8 to 4×4 pixels",
        "made gray",
    )
    picture(0, size=(20, 30), mode="L").save(photos / "dog" / "big.png")
    assert load(photos, image_size=(6, 8), channels=3).changes == (
        "resized from 30×20 to 6×8 pixels",
        "made colour by repeating their gray",
    )
    assert load(photos, image_size=5).changes == (
        "resized from 2 sizes from 6×8 to 30×20 to 5×5 pixels",
    )


def test_a_side_for_images_of_any_sizes(photos, tmp_path):
    assert sensible_side(photos) == (None, "")
    assert sensible_side("fashion_mnist_mini") == (None, "")
    assert sensible_side(photos, largest=7) == (
        32,
        "Images of 6×8 pixels are resized to 32×32.",
    )
    for number in range(40):
        picture(number, size=(90, 70)).save(photos / "dog" / f"larger{number}.png")
    (photos / "dog" / "broken.png").write_bytes(b"no image")
    side, words = sensible_side(photos)
    assert side == 64
    assert words == "Images of 2 sizes from 6×8 to 70×90 pixels are resized to 64×64."
    assert sensible_side(photos, largest=48)[0] == 48
    fill(tmp_path / "parts", 3, size=(300, 240))
    assert sensible_side(tmp_path / "parts", one_class=True)[0] == 224
    with pytest.raises(InputError, match="does not exist"):
        sensible_side(tmp_path / "none")


def test_sizes_must_agree_or_be_given(photos):
    picture(0, size=(20, 30)).save(photos / "dog" / "big.png")
    message = r"unless image_size is given; cat/000.png is 6x8 and dog/big.png is 30x20"
    with pytest.raises(InputError, match=message):
        load(photos)
    splits = load(photos, image_size=12)
    assert splits.image_shape == (12, 12, 3)
    with Image.open(photos / "dog" / "big.png") as big:
        expected = np.asarray(big.resize((12, 12), Image.BILINEAR))
    everything = np.concatenate(
        [part.images for part in (splits.train, splits.validation, splits.test)]
    )
    np.testing.assert_array_equal(everything[every_id(splits).index("dog/big.png")], expected)


def break_file(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) * 2 // 3])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("this is no image\n" * 20)
    elif how == "header only":
        path.write_bytes(data[:33])
    elif how == "dead link":
        path.unlink()
        path.symlink_to("nowhere.png")
    elif how == "pipe":
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("truncated", "[Tt]runcated"),
        ("empty", "empty file"),
        ("text", "not an image"),
        ("header only", ""),
        ("dead link", "no such file"),
        ("pipe", "not a regular file"),
    ],
)
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_bad_file_is_named_or_skipped(photos, how, reason, ending):
    name = f"cat/000-broken.{ending}"  # the first of all, so that the others must move up
    picture(0, size=(8, 6)).save(photos / name)
    break_file(photos / name, how)
    message = rf"cat/000-broken\.{ending} cannot be read: .*{reason}.*skip_bad_images"
    with pytest.raises(InputError, match=message) as error:
        load(photos)
    assert "\n" not in str(error.value)
    splits = load(photos, skip_bad_images=True)
    assert splits.skipped == (name,)
    assert splits.source.endswith("; 1 unreadable file left out")
    assert len(every_id(splits)) == 30
    for split in (splits.train, splits.validation, splits.test):
        for image, label, good in zip(split.images, split.labels, split.ids, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(photos / good)))
            assert good.startswith(("cat/", "dog/")[label])


def test_all_bad_files_are_listed_at_once(photos):
    for name in ("cat/a.png", "dog/b.jpg"):
        (photos / name).write_text("no image")
    message = r"2 files cannot be read: .*cat/a\.png: not an image.*; .*dog/b\.jpg: not an image"
    with pytest.raises(InputError, match=message):
        load(photos)
    for number in range(8):
        (photos / "cat" / f"c{number}.png").write_text("no image")
    with pytest.raises(InputError, match=r"10 files cannot be read: .*(; .*c\d\.png.*){8}\. Mend"):
        load(photos)
    assert len(load(photos, skip_bad_images=True).skipped) == 10


def test_files_that_break_off_are_listed_with_those_that_are_none(split_photos):
    """Whatever the split, and though a header alone does not tell."""
    some = next((split_photos / "train" / "cat").glob("*"))
    some.write_bytes(some.read_bytes()[:60])
    (split_photos / "train" / "dog" / "a.png").write_text("no image")
    (split_photos / "test" / "dog" / "b.png").write_text("no image")
    with pytest.raises(InputError, match="3 files cannot be read"):
        load(split_photos)
    for name in ("train/dog/a.png", "test/dog/b.png"):
        (split_photos / name).unlink()
    other = next((split_photos / "test" / "cat").glob("*"))
    other.write_bytes(other.read_bytes()[:60])
    with pytest.raises(InputError, match="2 files cannot be read"):
        load(split_photos)
    found = load(split_photos, skip_bad_images=True)
    assert len(found.skipped) == 2
    assert some.name in found.left_out[0]


def test_a_bad_colour_picture_does_not_decide_for_colour(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / name, 5, mode="L")
    picture(0).save(tmp_path / "cat" / "broken.png")
    break_file(tmp_path / "cat" / "broken.png", "header only")
    splits = load(tmp_path, skip_bad_images=True)
    assert splits.skipped == ("cat/broken.png",)
    assert splits.image_shape == (6, 8, 1)
    np.testing.assert_array_equal(
        splits.test.images[0, ..., 0], np.asarray(Image.open(tmp_path / splits.test.ids[0]))
    )


@pytest.mark.parametrize(
    "name",
    ["._x.png", ".DS_Store", "@eaDir/x.png", "__MACOSX/x.png", "notes.txt", "x.png.part", "a.xml"],
)
def test_files_of_the_system_and_of_other_kinds_are_left_out(photos, name):
    for folder in (photos / "dog", photos):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    splits = load(photos)
    assert len(every_id(splits)) == 30
    assert splits.class_names == ("cat", "dog")
    assert [path.parent.name for path in image_files(photos)] == ["cat"] * 10 + ["dog"] * 20


def test_links_to_folders_are_followed_once(photos, tmp_path):
    fill(tmp_path / "elsewhere" / "deeper", 5, start=500)
    (photos / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deeper" / "circle").symlink_to(photos / "cat")
    (photos / "cat" / "above").symlink_to(photos)  # which holds dogs, too
    splits = load(photos)
    assert len(every_id(splits)) == 35
    assert "cat/linked/deeper/500.png" in every_id(splits)


def test_accents_may_be_written_either_way(split_photos):
    for part, name in (("train", "e\u0301mu"), ("val", "\u00e9mu"), ("test", "e\u0301mu")):
        (split_photos / part / "cat").rename(split_photos / part / name)
    splits = load(split_photos)
    assert splits.class_names == ("dog", "\u00e9mu")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [20, 6, 8]


def test_decompression_bomb_is_refused(photos):
    path = photos / "dog" / "huge.png"
    Image.new("1", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"dog/huge.png cannot be read: more than \d+ pixels"):
        load(photos, image_size=8)
    assert load(photos, image_size=8, skip_bad_images=True).skipped == ("dog/huge.png",)


def test_large_but_harmless_images_are_read(tmp_path):
    path = tmp_path / "large.png"
    Image.new("L", (11_000, 9_000), 200).save(path)
    with quiet_pillow():
        assert np.unique(read_image(path, (2, 2), 1)).tolist() == [200]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_classes(tmp_path, count):
    if count:
        fill(tmp_path / "only", 3)
    with pytest.raises(InputError, match=rf"folder of class folders.*holds {count} folder"):
        load(tmp_path)


def test_unusable_folders(photos, tmp_path):
    with pytest.raises(InputError, match="missing does not exist"):
        load(tmp_path / "missing")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="file is a file"):
        load(file)
    (photos / "emu").mkdir()
    (photos / "emu" / ".keep").write_text("")
    with pytest.raises(InputError, match=r"Each class needs images \(\.png.*emu has none"):
        load(photos)
    (photos / "emu" / "bad.png").write_text("no image")
    with pytest.raises(InputError, match="no readable one of emu"):
        load(photos, skip_bad_images=True)


def test_inconsistent_splits(split_photos):
    fill(split_photos / "test" / "emu", 2)
    with pytest.raises(InputError, match=r"same in each split; .*test/emu is not in .*train"):
        load(split_photos)
    (split_photos / "test" / "emu").rename(split_photos / "extra")
    with pytest.raises(InputError, match=r"only validation and test folders .* received extra"):
        load(split_photos)


def test_names_that_are_no_text(photos):
    os.rename(photos / "dog" / "100.png", os.fsencode(photos / "dog") + b"/\xff.png")
    with pytest.raises(InputError, match=r"must be valid Unicode; received '\\udcff\.png'"):
        load(photos)


def test_one_image_a_class_leaves_nothing_to_test(tmp_path):
    fill(tmp_path / "a", 1)
    fill(tmp_path / "b", 1, start=5)
    with pytest.raises(InputError, match=r"at least 2 images in a class; received 2 images of 2"):
        load(tmp_path)


def test_sets_larger_than_memory_go_to_disk(photos, monkeypatch, tmp_path):
    expected = load(photos).fingerprint
    monkeypatch.setattr("robustcls.data.storage.MEMORY_LIMIT", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (photos / "dog" / "bad.png").write_bytes((photos / "dog" / "100.png").read_bytes()[:-40])
    splits = load(photos, skip_bad_images=True)
    assert isinstance(splits.train.images, np.memmap)
    assert splits.skipped == ("dog/bad.png",)
    assert splits.fingerprint != ""
    (photos / "dog" / "bad.png").unlink()
    assert load(photos).fingerprint == expected
    assert list((tmp_path / "cache" / "robustcls").iterdir()) == []  # nothing stays behind


def test_full_disk_is_told_before(photos, monkeypatch, tmp_path):
    monkeypatch.setattr("robustcls.data.storage.MEMORY_LIMIT", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    usage = type("Usage", (), {"free": 50})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"decoded images need .* GiB free"):
        load(photos)


# Decoding of single files.


def test_sixteen_bits_are_scaled(tmp_path):
    values = np.array([[0, 128, 257, 32768, 65278, 65535]], np.uint16)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    assert probe(path) == (1, 6, 1)
    np.testing.assert_array_equal(
        read_image(path, None, 1)[0, :, 0], np.round(values[0] / 257).astype(int)
    )
    assert read_image(path, None, 3).shape == (1, 6, 3)


def test_sixteen_bit_tiff(tmp_path):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(path)
    assert read_image(path, None, 1)[0, :, 0].tolist() == [0, 255]


def test_floating_point_pixels_are_refused(tmp_path):
    path = tmp_path / "float.tif"
    Image.fromarray(np.array([[0.25, 3.5]], np.float32)).save(path)
    with pytest.raises(BadImageError, match="floating-point pixels of unknown range"):
        read_image(path, None, 1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    path = tmp_path / "clear.png"
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (40, 40, 40, 255))
    image.putpixel((2, 0), (0, 0, 0, 128))
    image.convert(mode).save(path)
    assert probe(path)[2] == (3 if mode == "RGBA" else 1)
    assert read_image(path, None, 3)[0, :, 0].tolist() == [255, 40, 127]
    assert read_image(path, None, 1)[0, :, 0].tolist() == [255, 40, 127]


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palette_with_transparency(tmp_path, ending):
    path = tmp_path / f"palette.{ending}"
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=0)
    np.testing.assert_array_equal(read_image(path, None, 3), [[[255, 255, 255], [200, 100, 50]]])


def test_palette_with_several_alphas(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=bytes([0, 255]))
    np.testing.assert_array_equal(read_image(path, None, 3), [[[255] * 3, [200, 100, 50]]])


def test_cmyk(tmp_path):
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    red, green, blue = read_image(path, None, 3)[8, 8].astype(int)
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_is_applied(tmp_path, orientation, ending):
    upright = Image.new("L", (16, 8))
    ImageDraw.Draw(upright).rectangle((0, 0, 7, 7), 255)
    turn = {1: 0, 3: 180, 6: 90, 8: 270}[orientation]
    stored = upright.rotate(turn, expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned.{ending}"
    stored.convert("RGB").save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    assert probe(path)[:2] == (8, 16)
    pixels = read_image(path, None, 1)[..., 0].astype(int)
    assert pixels.shape == (8, 16)
    assert np.abs(pixels - np.asarray(upright)).max() < 40


def test_one_pixel_and_one_bit(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("1", (1, 1), 1).save(path)
    assert probe(path) == (1, 1, 1)
    np.testing.assert_array_equal(read_image(path, (5, 4), 3), np.full((5, 4, 3), 255))


def test_first_frame_of_an_animation(tmp_path):
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path, None, 3)[0, 0].tolist() == [255, 0, 0]


def test_odd_chunks_do_not_warn(tmp_path):
    """Warnings are errors in tests: a readable file must stay readable."""
    path = tmp_path / "commented.png"
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5000, zip=True)
    picture(1).save(path, pnginfo=info)
    with quiet_pillow():
        assert read_image(path, None, 3).shape == (6, 8, 3)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_damaged_files_never_fail_otherwise(tmp_path, form):
    """Cut or changed bytes give an image of the right shape or `BadImageError`, nothing else."""
    chance = random.Random(form)
    buffer = io.BytesIO()
    picture(3, size=(24, 24)).save(buffer, form)
    whole = buffer.getvalue()
    refused = []
    path = Path(tmp_path) / f"damaged.{form.lower()}"
    for trial in range(150):
        data = bytearray(whole)
        if trial % 2:
            del data[chance.randrange(len(data)) :]
        for _ in range(chance.randrange(6)):
            if data:
                data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        path.write_bytes(data)
        with quiet_pillow():
            try:
                image = read_image(path, (12, 10), 3)
            except BadImageError as error:
                refused.append(str(error))
            else:
                assert image.shape == (12, 10, 3)
                assert image.dtype == np.uint8
    assert len(refused) > 20
    assert not any("\n" in message for message in refused)


def test_a_folder_larger_than_its_memory_stays_in_its_files(tmp_path):
    """The same images, order and fingerprint as in memory, decoded when asked for."""
    rng = np.random.default_rng(0)
    for number in range(60):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (9, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "photos/a/bad.png").write_bytes(b"bad")
    whole, streamed = (
        load(tmp_path / "photos", image_size=6, skip_bad_images=True, memory=memory)
        for memory in (1, 1e-6)
    )
    images = streamed.train.images
    assert isinstance(images, FileImages)
    assert isinstance(whole.train.images, np.ndarray)
    assert streamed.fingerprint == whole.fingerprint
    assert (streamed.skipped, list(streamed.test.ids)) == (whole.skipped, list(whole.test.ids))
    expected = whole.train.images
    for index in (3, -1, slice(2, 30, 3), np.array([5, 1, 5]), np.arange(len(images)) % 3 == 0):
        np.testing.assert_array_equal(images[index], expected[index])
    np.testing.assert_array_equal(streamed.train.float_images(), whole.train.float_images())
    batches = [
        list(train_batches(splits, batch_size=8, seed=1).as_numpy_iterator())
        for splits in (whole, streamed)
    ]
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    (tmp_path / "photos" / streamed.train.ids[0]).unlink()
    with pytest.raises(InputError, match="no such file"):
        images[0]


def test_memory_is_more_than_none(tmp_path):
    with pytest.raises(InputError, match="memory must be"):
        load(tmp_path, memory=0)

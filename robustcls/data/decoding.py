"""Image files to 8-bit arrays, whatever their pixel format, with a reason when they are bad."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from robustcls._notebook import few
from robustcls._progress import tqdm
from robustcls._validation import InputError
from robustcls.data.resizing import Size, resized

#: File name endings taken as images, in any case.
EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")

#: Larger images are refused: a small file can unpack to more than the memory.
MAX_PIXELS = 100_000_000
# Those above this size are read one at a time, whatever the threads.
_LARGE = 10_000_000
_one_large = threading.Lock()
# More names in one line help nobody: of files in the way, and of files left out.
_LISTED = 100
NAMED = 20
_WAITING = 4096

Result = TypeVar("Result")

_GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


class BadImageError(InputError):
    """A file that is no readable image; `path` is the file, `reason` says why."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(
            f"{os.fspath(path)} cannot be read: {reason}. Mend or remove it, or set "
            "skip_bad_images to go on without such files."
        )
        self.path, self.reason = path, reason


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences Pillow's warnings about odd but readable files, in all threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def probe(path: Path) -> tuple[int, int, int]:
    """Returns (height, width, channels) from the file's header; channels is 1 for gray.

    Raises:
        BadImageError: the file is missing, empty, no image, or too large to unpack.
    """
    with _opened(path) as image:
        if image.format == "TIFF":  # whose orientation Pillow applies at a time of its own
            image.load()
            width, height = ImageOps.exif_transpose(image).size
        else:
            width, height = image.size
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # turned by 90 degrees
                width, height = height, width
        return height, width, 1 if image.mode in _GRAY_MODES else 3


def read_image(path: Path, size: Size, channels: int) -> np.ndarray:
    """Returns uint8 [H, W, channels].

    The EXIF orientation is applied. Transparent pixels are laid over white. 16 bits are scaled,
    not cut, to 8. Palette and CMYK become RGB. Of an animation the first frame is taken.

    Args:
        path: the file.
        size: (height, width) to resize to, or None.
        channels: 1 or 3.

    Raises:
        BadImageError: the file is no image, broken or truncated, too large to unpack, or has
            pixels of unknown range (32-bit integers, floats).
    """
    with _opened(path) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        picture: Image.Image = image
        if picture.mode == "I" or picture.mode.startswith("I;16"):
            picture = Image.fromarray(_eight_bits(np.asarray(picture)))
        elif picture.mode == "F":
            raise ValueError("floating-point pixels of unknown range")
        elif picture.has_transparency_data:
            picture = picture.convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            picture = Image.alpha_composite(white, picture)
        mode = "L" if channels == 1 else "RGB"
        # Large pictures are not copied more often than need be.
        picture = picture if picture.mode == mode else picture.convert(mode)
        pixels = np.asarray(resized(picture, size))
        return pixels.reshape(*pixels.shape[:2], channels)


class FileReader:
    """Reads image files in threads and keeps account of those that cannot be read.

    Args:
        skip: go on without them.

    Attributes:
        bad: the files that could not be read so far, and why.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.bad: list[BadImageError] = []

    def each(
        self, read: Callable[..., Result], items: Sequence[Any], title: str
    ) -> list[Result | None]:
        """Returns what `read` made of each item; None where it raised `BadImageError`.

        Args:
            read: reads one item.
            items: files, or what stands for them.
            title: of the progress bar.
        """

        def one(item: Any) -> Result | None:
            try:
                return read(item)
            except BadImageError as error:
                self.bad.append(error)
                return None

        def all_of() -> Iterator[Result | None]:
            # What waits in a pool takes a kilobyte an item.
            for start in range(0, len(items), _WAITING):
                yield from pool.map(one, items[start : start + _WAITING])

        with quiet_pillow(), ThreadPoolExecutor() as pool:
            try:
                shown = tqdm(all_of(), title, len(items), delay=1, disable=None, leave=False)
                return list(shown)
            except BaseException:  # also Ctrl-C, which else waits for all files
                pool.shutdown(cancel_futures=True)
                raise

    @property
    def left_out(self) -> tuple[str, ...]:
        """A sentence that names the bad files; empty where there are none."""
        names = few(sorted(str(error.path) for error in self.bad), NAMED)
        return (f"Left out, as unreadable: {names}.",) if self.bad else ()

    def require_readable(self, others: Sequence[Path] = ()) -> None:
        """Refuses bad files, all in one line, unless they are to be skipped.

        Args:
            others: files of which only headers have been read. They are read whole before the line
                is written, so that it names those that break off, too.

        Raises:
            InputError: a file could not be read.
        """
        if self.skip or not self.bad:
            return
        self.each(lambda path: bool(read_image(path, None, 1).size), others, "Checking all")
        if len(self.bad) == 1:
            raise self.bad[0]
        reasons = sorted(f"{error.path}: {error.reason}" for error in self.bad)
        more = f"; and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
        raise InputError(
            f"{len(reasons)} files cannot be read: {'; '.join(reasons[:_LISTED])}{more}. Mend or "
            "remove them, or set skip_bad_images to go on without such files."
        )


def counted(skipped: int) -> str:
    """Returns "1 unreadable file", "2 unreadable files" and so on."""
    return f"{skipped} unreadable file{'s' * (skipped != 1)}"


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image, turning whatever its decoder raises into `BadImageError`."""
    try:
        if not path.is_file():
            raise ValueError("not a regular file" if path.exists() else "no such file")
        if path.stat().st_size == 0:
            raise ValueError("empty file")
        with Image.open(path, formats=_FORMATS) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise Image.DecompressionBombError
            with _one_large if pixels > _LARGE else nullcontext():
                yield image
    except UnidentifiedImageError:
        raise BadImageError(path, "not an image, or of an unknown format") from None
    except Image.DecompressionBombError:
        raise BadImageError(path, f"more than {MAX_PIXELS} pixels") from None
    except Exception as error:  # decoders raise nearly anything on broken input
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise BadImageError(path, reason) from None


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ValueError("32-bit pixels of unknown range")
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)

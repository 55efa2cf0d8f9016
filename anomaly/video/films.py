"""Reading and writing films frame by frame, by PyAV, which carries FFmpeg."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from robustcls._validation import InputError
from robustcls.runs import atomic

# The first of them that the installed FFmpeg has.
_CODECS = ("libx264", "mpeg4")


class Film:
    """A film as a sequence of frames that is read once, from its beginning.

    Args:
        path: a file of any kind that FFmpeg reads.

    Attributes:
        rate: frames a second, a fraction.
        size: (height, width) of a frame.
        count: frames as the file's header has it; None where it does not say.
        broken: why the film ended early, in words; None as long as it has not.

    Raises:
        InputError: there is no such file, it holds no film, or PyAV is not installed.
    """

    def __init__(self, path: Path | str) -> None:
        self._av = _av()
        self.path = Path(path)
        self.broken: str | None = None
        if not self.path.is_file():
            raise InputError(f"film must be a file; {self.path} does not exist.")
        with self._opened() as (_, stream):
            self.rate: Fraction = Fraction(stream.average_rate or 25)
            self.size: tuple[int, int] = (stream.height, stream.width)
            self.count: int | None = stream.frames or None
        if 0 in self.size:
            raise InputError(f"film must hold pictures; {self.path} says nothing of their size.")

    def frames(self, channels: int) -> Iterator[np.ndarray]:
        """Yields the frames, uint8 [H, W, channels].

        A film that breaks off ends there, and `broken` says why.

        Args:
            channels: 1 gray or 3 colour.
        """
        form = "gray" if channels == 1 else "rgb24"
        seen = 0
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            try:
                for frame in container.decode(stream):
                    pixels = frame.to_ndarray(format=form)
                    seen += 1
                    yield pixels.reshape(*pixels.shape[:2], channels)
            except self._av.FFmpegError as error:
                self.broken = f"it breaks off after {seen} frames: {error.strerror}"
        if not seen:
            raise InputError(f"film must hold frames that can be read; {self.path} has none.")
        if self.broken is None and self.count is not None and seen < self.count:
            self.broken = f"it has {seen} of the {self.count} frames that its header names"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        try:
            container = self._av.open(str(self.path))
        except (self._av.FFmpegError, OSError) as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"film must be one that can be read; {self.path}: {reason}.") from None
        with container:
            if not container.streams.video:
                raise InputError(f"film must hold pictures; {self.path} has none.")
            yield container, container.streams.video[0]


@contextlib.contextmanager
def write_film(path: Path | str, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields a function that adds a frame, uint8 [H, W, 3], to a film.

    The film appears whole when the block ends, or not at all.

    Args:
        path: an .mp4 file.
        rate: frames a second.

    Raises:
        InputError: the name does not end in .mp4, the file cannot be written, or PyAV is not
            installed.
    """
    av = _av()
    if Path(path).suffix.lower() != ".mp4":
        raise InputError(f"film to write must be named *.mp4; received {path}.")
    codec = next(name for name in _CODECS if name in av.codecs_available)
    with atomic(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = None

        def add(pixels: np.ndarray) -> None:
            nonlocal stream
            # Colours are stored for two by two pixels.
            odd = [(0, side % 2) for side in pixels.shape[:2]]
            pixels = np.pad(pixels, (*odd, (0, 0)), mode="edge")
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))

        yield add
        if stream is not None:
            container.mux(stream.encode())


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise InputError(
            "films need the package av, which is not installed. Install with: "
            "pip install '.[video]' in the checkout of robustcls."
        ) from None
    return av

"""What TensorBoard shows of a run: event files in its folder.

tensorboardX knows the events; its writer is not used, as it hands them to a thread that a full disk
ends with a traceback, whereupon the run would wait for it forever. Here they are appended to a
file, whole and at once, like the lines of metrics.jsonl that they are made of.
"""

import contextlib
import io
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c
from tensorboardX.summary import text

from idm_ray.results.appended import AppendedFile
from idm_ray.results.metrics_log import is_progress

# TensorBoard knows event files by their names, and reads them in the order of these.
_NAME: Final = "events.out.tfevents."
# Under which heading the numbers of a line stand; all others are about speed.
_HEADINGS: Final = {
    "loss": ("matching_loss", "regularization", "train_loss"),
    "queue": ("queue_size", "matched_age", "matched_accuracy", "train_accuracy", "trained_images"),
}
_HEADING_OF: Final = {name: heading for heading, names in _HEADINGS.items() for name in names}
# Pictures of more bytes are reduced: their checksum alone would take seconds.
_MAX_PICTURE_BYTES: Final = 2**20
_MAX_SIDE_PX: Final = 1600


class Board:
    """The event file of a run, or of what it does after it was interrupted.

    A line of metrics.jsonl becomes an event when it is new to that log, so that no step comes
    twice. A disk that fails costs nothing but its events: who is told of the log, which lies in the
    same folder, knows; what could not be written is tried again with the next.

    Args:
        folder: Where the event files are; it need not exist.
        networks: How many are evaluated, by name and iteration: that of what they are trained on,
            with _validation where they are tested on images by which an iterate is selected.
        past: Lines that are in the log already.
    """

    def __init__(
        self,
        folder: Path,
        *,
        networks: Mapping[tuple[str, int], int],
        past: Iterable[Mapping[str, Any]],
    ) -> None:
        self._folder, self._networks = folder, networks
        self._file: AppendedFile | None = None
        self._accuracies: dict[tuple[str, int], list[float]] = {}
        for line in past:
            self._remember(line)

    def begin(self, config: str) -> str | None:
        """Start a new event file; the first of a run begins with its config.

        Args:
            config: YAML.

        Returns:
            What people should know: that there will be no events; None if there will.
        """
        try:
            self._folder.mkdir(exist_ok=True)
            names = [path.name for path in self._folder.glob(f"{_NAME}*")]
            numbers = [int(found) for name in names if (found := name[len(_NAME) :]).isdigit()]
            number = 1 + max(numbers, default=0)
            file = AppendedFile(self._folder / f"{_NAME}{number:04d}")
            file.append(_record(Event(file_version="brain.Event:2")))
        except OSError as error:
            return f"cannot write to {error.filename} ({error.strerror}): TensorBoard shows nothing"
        self._file = file
        if number == 1:
            self._write(text("config", f"```yaml\n{config}\n```"), step=0)
        return None

    def add(self, line: Mapping[str, Any]) -> None:
        """Take a line that is new to the log."""
        if is_progress(line):
            values = {
                f"{_HEADING_OF.get(name, 'speed')}/{name}": value
                for name, value in line.items()
                if name != "iteration" and isinstance(value, int | float)
            }
            self._write_scalars(values, step=line["iteration"])
        elif about := self._remember(line):
            name, iteration = about
            found = self._accuracies[about]
            if len(found) == self._networks.get(about):
                mean = float(np.mean(found))
                self._write_scalars({f"accuracy/{name}": mean}, step=iteration)

    def show(self, picture: Path, *, step: int) -> None:
        """Take a picture, reduced if it is large; one that cannot be read is left out."""
        with contextlib.suppress(OSError):
            content, (width, height) = _reduced(picture)
            image = Summary.Image(
                width=width, height=height, colorspace=3, encoded_image_string=content
            )
            self._write(Summary(value=[Summary.Value(tag=picture.stem, image=image)]), step=step)

    def end(self) -> None:
        """Write what could not be written yet, if that is possible now."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.flush()

    def _remember(self, line: Mapping[str, Any]) -> tuple[str, int] | None:
        """Keep an accuracy; what it is about, None for lines of other kinds."""
        subject, iteration, accuracy = (
            line.get(name) for name in ("subject", "iteration", "accuracy")
        )
        if not (
            isinstance(subject, str) and isinstance(iteration, int) and isinstance(accuracy, float)
        ):
            return None
        name = f"{subject}_{line['split']}" if "split" in line else subject
        self._accuracies.setdefault((name, iteration), []).append(accuracy)
        return name, iteration

    def _write_scalars(self, values: Mapping[str, float], *, step: int) -> None:
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Summary(value=scalars), step=step)

    def _write(self, summary: Summary, *, step: int) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # it is kept
                self._file.append(_record(Event(summary=summary, step=step)))


def _record(event: Event) -> bytes:
    """An event as it stands in an event file: with its length, and a checksum of each."""
    event.wall_time = time.time()
    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return b"".join((length, _checksum(length), content, _checksum(content)))


def _checksum(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))


def _reduced(picture: Path) -> tuple[bytes, tuple[int, int]]:
    """The bytes of a picture, or of a smaller copy, and its size in pixels."""
    content = picture.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        if len(content) <= _MAX_PICTURE_BYTES:
            return content, image.size
        image.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
        file = io.BytesIO()
        image.convert("RGB").save(file, format="JPEG", quality=85)
        return file.getvalue(), image.size

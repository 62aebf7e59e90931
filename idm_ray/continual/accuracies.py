"""accuracies.jsonl: a line of JSON for each network that was tested, in the order of their ends."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Final

from idm_ray.continual.course import NetworkJob
from idm_ray.continual.network import Score
from idm_ray.errors import StorageError
from idm_ray.storage import Location

FILE: Final = "accuracies.jsonl"


class Accuracies:
    """Keeps what networks came to, so that none is trained twice; one process writes.

    Args:
        folder: of the file, which need not exist. Lines that cannot be read are kept and ignored.
    """

    def __init__(self, folder: Location) -> None:
        self._place = folder / FILE
        self._content = self._place.read_bytes() if self._place.exists() else b""
        if self._content and not self._content.endswith(b"\n"):
            self._content += b"\n"
        self._has_failed = False
        self.found: dict[NetworkJob, Score] = {}
        for line in self._content.splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                self._take(json.loads(line))

    def add(self, job: NetworkJob, tested: Score, num_classes: int) -> str | None:
        """Append a line.

        Args:
            job: which network.
            tested: what it came to.
            num_classes: that it was tested on.

        Returns:
            What people should know: that lines cannot be written, once; None otherwise.
        """
        of_job = dataclasses.asdict(job)
        line = {**of_job, "num_classes": num_classes, **dataclasses.asdict(tested)}
        self._content += json.dumps(line, allow_nan=False).encode() + b"\n"
        self.found[job] = tested
        try:
            self.flush()
        except (OSError, StorageError) as error:
            told = f"cannot write {FILE} ({error}): tried again with the next network"
            had_failed, self._has_failed = self._has_failed, True
            return None if had_failed else told
        return None

    def flush(self) -> None:
        """Write all lines.

        Raises:
            OSError, StorageError: they cannot be written.
        """
        # Anew each time: object stores cannot append, and a killed process leaves no half line.
        self._place.write_bytes(self._content)
        self._has_failed = False

    def _take(self, line: Mapping[str, Any]) -> None:
        job = NetworkJob(**{f.name: line[f.name] for f in dataclasses.fields(NetworkJob)})
        self.found[job] = Score(accuracy=float(line["accuracy"]), seconds=float(line["seconds"]))

"""The folder of a course of continual learning: what it holds, and what it was begun with."""

import contextlib
import shutil
from collections.abc import Mapping
from typing import Any, Final

import yaml

from idm_ray.continual import accuracies
from idm_ray.errors import UserError
from idm_ray.results.run_files import holds_run, remove_folder
from idm_ray.results.run_lock import RunLock
from idm_ray.same_numbers import NEUTRAL_OPTIONS, differences
from idm_ray.storage import Location

REQUEST: Final = "continual.yaml"
"""What was asked; as long as it is there, the folder is one of continual learning."""
RESULTS: Final = ("results.json", "results.csv", "continual.png", "continual.svg")
_MEMORIES: Final = "memories"

# More networks can be asked for later; those that are there stay what they are.
_MAY_CHANGE: Final = ("repeats", "seed")


class CourseFolder:
    """The folder of a course; a context manager: at its end, other processes may write to it.

    Args:
        place: by path or URI.
    """

    def __init__(self, place: Location) -> None:
        self.place = place
        self._lock = RunLock(place.local) if place.local is not None else None

    def begin(self, request: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Write down what is asked, or make sure that nothing else was asked before.

        Args:
            request: "steps", "seed", "data" and its "fingerprint", and the resolved options by
                method. Methods may come later.
            overwrite: remove what the folder holds, if it is a course.

        Returns:
            Whether there is something to go on with.

        Raises:
            UserError: the folder is none, holds something else, or a course with other settings.
        """
        self.check()
        if self._lock is not None:
            self._take_lock(self._lock)
        stored = self._stored() if (self.place / REQUEST).exists() else None
        if stored is not None and overwrite:
            self._remove()
            stored = None
        if stored is not None:
            self._refuse_differences(stored, request)
            request = {**request, "methods": {**stored["methods"], **request["methods"]}}
        text = yaml.safe_dump(dict(request), sort_keys=False, allow_unicode=True)
        (self.place / REQUEST).write_text(text)
        return stored is not None

    def check(self) -> None:
        """Refuse a place that holds something else, and change nothing.

        Raises:
            UserError: it does.
        """
        found = self._other()
        if found is not None:
            raise UserError(
                f"expected a new folder, or one of continual learning, found {found} at "
                f"{self.place}; choose another --out"
            )

    def memory(self, method: str, order: int, step: int) -> Location:
        """Where the run that makes a memory lies."""
        return self.place / f"{_MEMORIES}/order{order}/step{step}-{method}"

    def put(self, source: Location) -> None:
        """Take finished files, each whole or not at all.

        Args:
            source: a local folder of them.
        """
        for entry in source.files():
            with (
                (source / entry.path).open_stream() as file,
                (self.place / entry.path).atomic_write() as target,
            ):
                shutil.copyfileobj(file, target)

    def __enter__(self) -> "CourseFolder":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def _other(self) -> str | None:
        """What the place holds that is no course; None if it may be written to."""
        if (self.place / REQUEST).exists() or not self.place.exists():
            return None
        if not self.place.is_folder():
            return "a file"
        if holds_run(self.place):
            return "a run"
        local = self.place.local
        if local is not None and not any(local.iterdir()):
            return None
        return "other files"

    def _take_lock(self, lock: RunLock) -> None:
        assert self.place.local is not None, "only local folders are locked"
        try:
            self.place.local.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise UserError(
                f"expected a folder to write to at {self.place}, found: {error.strerror}; choose "
                "another --out"
            ) from error

    def _stored(self) -> Mapping[str, Any]:
        stored: Any = None
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
            stored = yaml.safe_load((self.place / REQUEST).read_bytes())
        if not isinstance(stored, dict) or not {"steps", "data", "methods"} <= stored.keys():
            raise UserError(
                f"expected what was asked for in {self.place / REQUEST}, found something else; "
                "restore the file, or choose another --out"
            )
        return stored

    def _refuse_differences(self, stored: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        found = []
        if stored["steps"] != request["steps"]:
            found.append(f"steps {stored['steps']} there, {request['steps']} now")
        if stored["data"]["fingerprint"] != request["data"]["fingerprint"]:
            found.append(f"other images of {stored['data']['name']} there")
        for method, options in request["methods"].items():
            found += differences(stored["methods"].get(method, options), options)
        if found:
            raise UserError(
                f"the folder {self.place} was begun with other settings: "
                f"{'; '.join(dict.fromkeys(found))}; ask for the same, or choose another --out"
            )

    def _remove(self) -> None:
        """Remove the course; its mark goes last, so that a removal that ends early is repeated."""
        remove_folder(self.place / _MEMORIES)
        for name in (*RESULTS, accuracies.FILE, REQUEST):
            (self.place / name).delete()


def kept_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a method's resolved options that its numbers depend on."""
    return {
        name: value
        for name, value in options.items()
        if name not in (*NEUTRAL_OPTIONS, *_MAY_CHANGE)
    }

"""One process at a time writes to a run on a local disk."""

import contextlib
import errno
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from idm_ray.errors import UserError

# Hidden, and never taken for a file of a run.
_NAME: Final = ".lock"
# Of file systems without locks. A file that only stands for a lock would outlive its process, and
# keep everybody from going on with the run: there, nobody is kept away.
_WITHOUT_LOCKS: Final = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class RunLock:
    """Held by the process that writes to a run; when it dies, the system lets go of it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(
            folder / _NAME, blocking=False, thread_local=False, fallback_to_soft=False
        )

    def acquire(self) -> None:
        """Take the lock, without waiting; again is harmless.

        Raises:
            UserError: another process has it.
            OSError: nothing can be written to the folder.
        """
        if self._lock.is_locked:
            return
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UserError(
                f"another process is writing to {self._folder}: wait for its end, or stop it"
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            self._remove_file()

    def release(self) -> None:
        """Let go of the lock and remove its file; without the lock, do nothing."""
        if self._lock.is_locked:
            self._remove_file()  # before somebody else can have it
            self._lock.release()

    def refuse_others(self) -> None:
        """Look whether another process has the lock, and leave everything as it is.

        Raises:
            UserError: it has.
        """
        if (self._folder / _NAME).exists():
            with contextlib.suppress(OSError):  # nothing can be written, so nobody writes
                self.acquire()
            self.release()

    def _remove_file(self) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _NAME).unlink(missing_ok=True)

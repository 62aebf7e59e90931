"""An object in a process of its own, so that its memory, threads and caches are its own too."""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from idm_ray.errors import IdmRayError

_END_WITHIN_S = 5.0


class InProcess:
    """Builds an object in a fresh process and calls its methods there, one at a time.

    Args:
        build: an importable class or function that makes the object.
        *args: for `build`.

    Raises:
        IdmRayError: The process died. What `build` or a method raises, is raised here.
    """

    def __init__(self, build: Callable[..., Any], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, args), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def call(self, method: str, *args: Any) -> Any:
        """The result of a method of the object; arguments and result are copied."""
        # If it died since the last call, its answer says so.
        with contextlib.suppress(BrokenPipeError):
            self._pipe.send((method, args))
        return self._answer()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(_END_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self) -> Any:
        try:
            raised, value = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join(_END_WITHIN_S)
            raise IdmRayError(
                "a process of the bench died with exit status "
                f"{self._process.exitcode}; if it was killed, there was too little memory: choose "
                "a smaller --setting"
            ) from error
        if raised:
            raise value
        return value


def _serve(pipe: Connection, build: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Answer calls until the other end of the pipe is closed, be it by death."""
    # Ctrl-C reaches every process of a terminal; the one that has a user ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        served = build(*args)
        pipe.send((False, None))
        while True:
            method, given = pipe.recv()
            pipe.send((False, getattr(served, method)(*given)))
    except EOFError:
        return
    except Exception as error:  # whatever it is, it belongs to the caller
        pipe.send((True, error))

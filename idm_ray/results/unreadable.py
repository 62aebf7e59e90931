"""What reading a damaged or hostile file raises, as one line for people."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from idm_ray.errors import CondensedSetError, DataError
from idm_ray.results.card import REMEDY


@contextlib.contextmanager
def one_line_errors(path: str, *others: type[Exception]) -> Iterator[None]:
    """Turn what reading a damaged file raises into a CondensedSetError that names the file.

    Args:
        path: of the file, for the message.
        others: what a library raises beside Arrow's exceptions and Python's own.
    """
    try:
        yield
    except CondensedSetError as error:
        raise CondensedSetError(f"{path}: {error}") from error
    except DataError as error:  # missing or denied; it names the path
        raise CondensedSetError(str(error)) from error
    # Damaged texts, keys, numbers and null values raise several of Python's.
    except (
        pa.ArrowException,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        OSError,
        TypeError,
        ValueError,
        *others,
    ) as error:
        if isinstance(error, OSError) and error.errno:  # the system's, not a library's
            raise CondensedSetError(
                f"{path}: expected a readable file, found: {error.strerror}; check the path"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CondensedSetError(
            f"{path}: expected a condensed set, found a damaged or foreign file ({reason}); "
            f"{REMEDY}"
        ) from error

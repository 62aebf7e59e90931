"""How many processes a run may lose, and what it says of each."""

from collections.abc import Sequence

from idm_ray.errors import ActorLostError
from idm_ray.progress import Lost


class TooManyLostError(ActorLostError):
    """More processes were lost than may be."""


class Failures:
    """Processes that were lost, and how many may be.

    Args:
        most: that a run goes on after.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._so_far = 0

    def count(self, lost: Sequence[str], cause: ActorLostError) -> Lost:
        """Take note of a loss, and say so.

        Args:
            lost: who was lost, as far as that is known.
            cause: what was noticed of it.

        Raises:
            TooManyLostError: it was one too many.
        """
        self._so_far += max(1, len(lost))
        text = f"{' and '.join(lost) or 'a process'} lost: {cause}"
        if self._so_far > self._most:
            raise TooManyLostError(
                f"{text}; that makes {self._so_far} lost processes, and --max-failures "
                f"{self._most} allows no more"
            ) from cause
        return Lost(
            f"{text} ({self._so_far} of at most {self._most})",
            warning=True,
            names=tuple(lost),
            so_far=self._so_far,
        )

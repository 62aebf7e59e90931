"""Seeds from keys: every random draw is named by (seed, purpose, iteration, class or model).

Nothing that is drawn depends on what was drawn before it, in which process, or in which order; a
run that is split over machines, killed or resumed draws the same numbers.
"""

import hashlib
import json
import operator


def seed_from(*key: int | str) -> int:
    """A 63-bit seed for one purpose, the same on every machine and in every Python version.

    Args:
        *key: the run's seed, a word for the purpose, then whatever distinguishes this draw.

    Returns:
        An integer in [0, 2**63): what both torch and NumPy generators take.

    Raises:
        TypeError: a part of the key is neither a whole number nor a string.
    """
    parts = [part if isinstance(part, str) else operator.index(part) for part in key]
    # JSON keeps 1 and "1", ("ab", "c") and ("a", "bc") apart; Python's hash() changes by process.
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1

"""How the project's figures look, and how one is written; what is drawn is not said here.

Importing this module imports matplotlib, which takes a third of a second.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from idm_ray.local_disk import atomic_write

BLUE: Final = "#1f5fa8"
PALE: Final = "#b4cbe6"
ORANGE: Final = "#c26a1b"
GREY: Final = "#666666"
LIGHT: Final = "#e5e5e5"
DPI: Final = 160
_STYLE: Final[Any] = {
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10,
    # The same drawing gives the same bytes.
    "svg.hashsalt": "idm_ray",
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Gives an empty figure in the project's style, to draw into and to save within the block.

    Args:
        width: In inches.
        height: In inches.
    """
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the path's suffix names, atomically.

    Raises:
        OSError: The file cannot be written.
    """
    content = io.BytesIO()
    dated = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(content, format=path.suffix[1:], metadata=dated)
    with atomic_write(path) as file:
        file.write(content.getvalue())

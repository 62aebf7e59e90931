"""Writes the page of a folder: finds out what the folder holds, and where the page goes."""

import os
from dataclasses import dataclass
from typing import Final

from idm_ray.checks import is_utf8
from idm_ray.errors import UserError
from idm_ray.page.content import Page
from idm_ray.page.rendering import BEGINNING, render
from idm_ray.storage import Location, shown

FILE: Final = "report.html"
_ENDINGS: Final = (".html", ".htm")
# By what a folder is known, in the order in which they are looked for.
_KINDS: Final = (("search.yaml", "search"), ("config.yaml", "run"), ("results.json", "comparison"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What was written.

    Attributes:
        out: where, without a password.
        what: the page is of: run, search or comparison.
        num_bytes: that it takes.
        is_complete: whether what it is of has come to its end.
        notices: what is missing on it, and why.
    """

    out: str
    what: str
    num_bytes: int
    is_complete: bool
    notices: tuple[str, ...]


def write_report(
    folder: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    data: str | None = None,
    neighbours: bool = True,
) -> Written:
    """Write a page that shows a run, a search or a comparison, as one file that needs no others.

    Args:
        folder: of one of them, by path or URI.
        out: a new file that ends in .html, by path or URI; by default report.html in `folder`.
        overwrite: replace an earlier page in `out`.
        data: the images that a run was made of, if they are elsewhere now; `SOURCE` as for
            `condense`.
        neighbours: show the images of a run beside the nearest training images.

    Raises:
        UserError: `folder` holds none of them or a damaged one, or `out` is there already.
        StorageError, OSError: it could not be read or written; nothing half-written is left.

    >>> written = idm_ray.write_report("runs/demo")
    >>> written.out, written.what, written.is_complete, written.notices
    ('runs/demo/report.html', 'run', True, ())
    """
    place = Location.at(_in_words(folder, "folder"))
    what = _kind_of(place)
    if out is None:
        target, told = place / FILE, str(place / FILE)
        if place.local is not None:
            told = os.path.join(os.fspath(folder), FILE)
    else:
        target, told = Location.at(_in_words(out, "out")), shown(out)
    _check_target(target, overwrite=overwrite)
    page = _make(what, place, os.fspath(folder), data=data, neighbours=neighbours)
    html = render(page)
    target.write_bytes(html)
    return Written(
        out=told,
        what=what,
        num_bytes=len(html),
        is_complete=page.is_complete,
        notices=tuple(page.notices),
    )


def _in_words(path: str | os.PathLike[str], name: str) -> str:
    text = os.fspath(path)
    if not text or not is_utf8(text):
        raise UserError(f"{name} must be a path in UTF-8, got {text!r}")
    return text


def _kind_of(place: Location) -> str:
    for name, what in _KINDS:
        if (place / name).is_file():
            return what
    found = "none"
    if place.is_folder():
        names = ", ".join(name for name, _ in _KINDS)
        found = f"one without any of {names}"
    elif place.exists():
        found = "a file"
    raise UserError(
        f"expected the folder of a run, a search or a comparison at {place}, found {found}; name "
        "what --out was when it was made"
    )


def _check_target(target: Location, *, overwrite: bool) -> None:
    """Refuse to replace anything but an earlier page, and that only if it is asked for."""
    if os.path.splitext(target.name)[1].lower() not in _ENDINGS:
        raise UserError(f"expected --out to end in .html, got {target.name!r}; name a page so")
    if not target.exists():
        return
    if not _is_page(target):
        raise UserError(
            f"expected nothing or an earlier page at {target}, found something else; choose "
            "another --out"
        )
    if not overwrite:
        raise UserError(
            f"expected nothing at {target}, found an earlier page; add --overwrite or choose "
            "another --out"
        )


def _is_page(target: Location) -> bool:
    if not target.is_file():
        return False
    with target.open_stream() as file:
        return file.read(len(BEGINNING)) == BEGINNING


def _make(what: str, place: Location, written: str, *, data: str | None, neighbours: bool) -> Page:
    if what == "run":
        from idm_ray.page.run_page import run_page  # noqa: PLC0415 -- each needs other libraries

        return run_page(place, written, data=data, neighbours=neighbours)
    if what == "search":
        from idm_ray.page.search_page import search_page  # noqa: PLC0415

        return search_page(place, written)
    from idm_ray.page.comparison_page import comparison_page  # noqa: PLC0415

    return comparison_page(place)

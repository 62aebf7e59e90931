"""From what a page says to HTML that asks nobody for anything."""

import base64
import functools
import hashlib
from importlib import resources
from typing import Final

import jinja2

from idm_ray import __version__
from idm_ray.page.content import Page

# What every page begins with: by this, a later one knows that it may replace it.
BEGINNING: Final = b'<!doctype html>\n<html lang="en" data-idm-ray-report>\n'


def render(page: Page) -> bytes:
    """Write a page as HTML: texts escaped, style and script inside, nothing loaded from outside.

    Its content security policy lets a browser load data URIs only, and run only the script that is
    known by its hash.
    """
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html")
    html = template.render(
        page=page,
        style=_file("page.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        version=__version__,
    )
    return BEGINNING + html.encode() + b"\n"


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> str:
    return (resources.files("idm_ray.page") / "templates" / name).read_text(encoding="utf-8")

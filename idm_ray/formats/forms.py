"""What the forms of a condensed set are called; the command line needs no more of them."""

from typing import Final

FOLDER: Final = "folder"
WEBDATASET: Final = "webdataset"
FILES: Final = ("pt", "npz")
FORMS: Final = (FOLDER, WEBDATASET, *FILES)

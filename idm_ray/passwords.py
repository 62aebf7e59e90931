"""Takes passwords out of texts: what is written down or shown may be read by others."""

import re
from typing import Final

_SECRETS: Final = re.compile(
    # Amazon's secret keys hold slashes, which some write as they are.
    r"(s3://[^/@:\s\"']*:)[^@\s\"']*(?=@)"
    r"|(://[^/@:\s\"']*:)[^/@\s\"']*(?=@)"
    r"|([?&](?:sig|client_secret)=)[^&\s\"'\\]*"
)


def hide_passwords(text: str) -> str:
    """The text, with *** in place of the passwords and signatures of the URIs in it."""
    return _SECRETS.sub(lambda found: "".join(filter(None, found.groups())) + "***", text)

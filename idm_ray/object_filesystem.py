"""The file systems of pyarrow that URIs name: impatient, and silent about credentials."""

import contextlib
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

import pyarrow.fs

from idm_ray.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long to wait for a store that fails or does not answer."""

    tries: int = 5
    """Of each operation, where the error may pass."""
    first_wait_s: float = 1.0
    """After the first try; each further wait is twice as long, and up to `first_wait_s` longer."""
    connect_timeout_s: float = 5.0
    silence_timeout_s: float = 10.0
    """Longest pause in an answer."""


class _ForTune:
    """A file system that stays in its process, and makes folders where there are such things.

    Pickled, it would tell the credentials: Tune keeps pickled copies of all that it is given,
    beside the results. Out of one comes a file system that holds nothing. And Tune makes folders,
    which an object store does not have; whether one may be made there is no matter.
    """

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        """Make a folder, if that can be done; what is written into it will tell."""
        with contextlib.suppress(OSError):
            super().create_dir(path, recursive=recursive)  # type: ignore[misc]

    def __reduce__(self) -> tuple[Any, ...]:
        return pyarrow.fs.SubTreeFileSystem, (os.devnull, pyarrow.fs.LocalFileSystem())


class _S3(_ForTune, pyarrow.fs.S3FileSystem):  # type: ignore[misc]
    """Itself, as others treat S3 with care (apache/arrow#32372)."""


class _Other(_ForTune, pyarrow.fs.SubTreeFileSystem):  # type: ignore[misc]
    """Whatever it is, wrapped: `_Other("", filesystem)`."""


def open_filesystem(root: str, query: str, patience: Patience) -> tuple[Any, str]:
    """The file system of a root, and what paths below the root begin with in it.

    Args:
        root: scheme and authority, such as "s3://bucket"; may hold credentials.
        query: options, without the question mark.
        patience: of its requests.

    Raises:
        DataError: they are not written as they should be.
        OSError, pyarrow.ArrowException: whatever pyarrow says of them.
    """
    return _open(root, query, _aws_environment(), patience)


def kept_private(filesystem: Any) -> Any:
    """The same for those who may write down what they are given: its copies know no credentials."""
    return filesystem if isinstance(filesystem, _S3) else _Other("", filesystem)


@functools.lru_cache(maxsize=64)
def _open(
    root: str, query: str, environment: tuple[tuple[str, str], ...], patience: Patience
) -> tuple[Any, str]:
    if root.startswith("s3://"):
        return _s3(root.removeprefix("s3://"), dict(parse_qsl(query)), dict(environment), patience)
    if root.startswith(("gs://", "gcs://")) and "retry_limit_seconds" not in query:
        # Its own tries would go on for a quarter of an hour.
        query = "&".join(filter(None, [query, f"retry_limit_seconds={patience.silence_timeout_s}"]))
    filesystem, base = pyarrow.fs.FileSystem.from_uri(f"{root}/" + (query and f"?{query}"))
    return filesystem, base.rstrip("/") + "/"


def _s3(
    authority: str, options: dict[str, str], environment: Mapping[str, str], patience: Patience
) -> tuple[_S3, str]:
    """An S3 file system whose requests end in bounded time; made without asking anybody.

    Only without a region and an endpoint is Amazon asked where the bucket is.
    """
    credentials, _, bucket = authority.rpartition("@")
    key, _, secret = credentials.partition(":")
    if ":" in bucket:
        raise DataError(
            "expected s3://bucket, or s3://KEY:SECRET@bucket with %2F for each '/' of the secret, "
            "got a ':' in the name of the bucket"
        )
    if unknown := set(options) - {"endpoint_override", "region", "scheme", "tls_ca_file_path"}:
        raise DataError(
            "expected endpoint_override, region, scheme or tls_ca_file_path after '?' in an s3:// "
            f"URI, got {sorted(unknown)[0]!r}"
        )
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if environment.get(name):
            options.setdefault("endpoint_override", environment[name])
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if environment.get(name):
            options.setdefault("region", environment[name])
    if "region" not in options:
        known = "endpoint_override" in options
        options["region"] = "us-east-1" if known else pyarrow.fs.resolve_s3_region(bucket)
    return _S3(
        access_key=unquote(key) or None,
        secret_key=unquote(secret) or None,
        connect_timeout=patience.connect_timeout_s,
        request_timeout=patience.silence_timeout_s,
        # Tries are counted elsewhere.
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=1),
        # Only with these two does a stream with a failed part never become an object: without
        # background writes, or opened later, destroying it completes what is there.
        background_writes=True,
        allow_delayed_open=False,
        **options,
    ), f"{bucket}/"


def _aws_environment() -> tuple[tuple[str, str], ...]:
    """What an S3 file system depends on besides its URI."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))

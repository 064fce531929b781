"""The URL of a bucket, which the settings and the lake both read."""

import re

from octo_pipeline.model.errors import OctoError, Remedy

_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/+(?P<prefix>[^/*?[\x00-\x1f]+(/[^/*?[\x00-\x1f]+)*))?/*"
)


def split_url(url: str) -> tuple[str, str]:
    """The bucket and the prefix of ``s3://bucket/prefix``.

    Raises:
        OctoError: the text is not such a URL.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise OctoError(
            f"The lake cannot be {url!r}. Write a folder, or s3://bucket/prefix: a bucket name of lower-case letters, "
            "digits, dots and hyphens, and a prefix without empty parts, '*', '?' or '['.",
            code="lake-url-wrong",
            place="lake",
            remedy=Remedy("set", setting="lake", to="such a folder or URL"),
        )
    return match["bucket"], match["prefix"] or ""

"""The URL of a bucket, as the settings and the lake read it."""

import re

from octo_pipeline.model.errors import OctoError, Remedy

_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/+(?P<prefix>[^/*?[\x00-\x1f]+(/[^/*?[\x00-\x1f]+)*))?/*"
)


def split_url(url: str) -> tuple[str, str]:
    """The bucket and the prefix of ``s3://bucket/prefix``.

    Raises:
        OctoError: it is not such a URL.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise OctoError(
            f"The lake cannot be {url!r}. Write a folder, or s3://bucket/prefix with a bucket's name of lower-case "
            "letters, digits, dots and hyphens and a prefix without empty parts, '*', '?' or '['.",
            code="lake-url-wrong",
            place="lake",
            remedy=Remedy("set", setting="lake", to="such a place"),
        )
    return match["bucket"], match["prefix"] or ""

"""Errors of S3 and of the way to it, as sentences that name the URL and what to do.

The SDK's own texts are left out where they could hold a key; error codes are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from octo_pipeline.model.errors import OctoError

Refusal = Literal["forbidden", "expired", "unknown_key", "no_bucket", "gone", "elsewhere", "changed", "clock", "busy"]

# What AWS means by its error codes. A number is the HTTP status of an answer without a body.
_CODES: dict[Refusal, tuple[str, ...]] = {
    "forbidden": (
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "AllAccessDisabled",
        "AccountProblem",
        "403",
    ),
    "expired": ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"),
    "unknown_key": (
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    ),
    "no_bucket": ("NoSuchBucket",),
    "gone": ("NoSuchKey", "404"),
    # In the wrong region, S3 answers a request without a body, such as HEAD, with 400.
    "elsewhere": (
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "301",
        "400",
    ),
    "changed": ("PreconditionFailed", "412"),
    "clock": ("RequestTimeTooSkewed",),
    "busy": (
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "ServiceUnavailable",
        "InternalError",
        "RequestTimeout",
        "500",
        "503",
    ),
}
_REFUSALS = {code: refusal for refusal, codes in _CODES.items() for code in codes}


def refusal_of(code: str) -> Refusal | None:
    """What AWS means by an error code; None if it is not known."""
    return _REFUSALS.get(code)


@contextmanager
def translate_s3_errors(what: str, url: str, right: str) -> Iterator[None]:
    """Turn what the SDK raises into a sentence.

    Args:
        what: what was tried, such as "read".
        url: what it was tried on.
        right: the permission that allows it, such as "s3:GetObject".

    Raises:
        OctoError: the attempt failed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise OctoError(f"Cannot {what} {url}: {_refusal(error_code(error), right)}", code="s3-refused") from error
    except BotoCoreError as error:
        raise OctoError(f"Cannot {what} {url}: {_obstacle(error)}", code="s3-refused") from error


def error_code(error: Exception) -> str:
    """The code of a refusal, such as NoSuchKey, or the HTTP status if the refusal has no body."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _refusal(code: str, right: str) -> str:
    match refusal_of(code):
        case "forbidden":
            return f"S3 denies it to the credentials in use. Give them {right} there (and kms:* of its key, if it has one)."
        case "no_bucket":
            return "there is no such bucket. Create it, or put the lake into one that exists."
        case "expired":
            return (
                "the AWS credentials have expired. Get new ones (for example with `aws sso login`) and run this again."
            )
        case "unknown_key":
            return (
                f"AWS does not accept the credentials in use ({code}). Set those of the account the bucket belongs to."
            )
        case "elsewhere":
            return f"the bucket is in another region ({code}). Set AWS_REGION to the bucket's."
        case "clock":
            return "this machine's clock is wrong. Set it and run this again."
        case "busy":
            return f"S3 is busy ({code}), and stayed busy after several attempts. Run this again later."
        case _:
            return f"S3 refuses it ({code or 'no reason given'})."


def _obstacle(error: Exception) -> str:
    from botocore.exceptions import ConnectionError as NoConnectionError
    from botocore.exceptions import (
        CredentialRetrievalError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
        TokenRetrievalError,
    )

    if isinstance(error, NoCredentialsError):
        return (
            "there are no AWS credentials in the environment or in ~/.aws, and the machine has no role. "
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, TokenRetrievalError | CredentialRetrievalError):
        return (
            "the AWS credentials cannot be renewed. Log in again (for example with `aws sso login`) and run this again."
        )
    if isinstance(error, PartialCredentialsError | ProfileNotFound):
        return f"the AWS credentials are not complete ({error}). Correct AWS_PROFILE or ~/.aws and run this again."
    if isinstance(error, HTTPClientError | NoConnectionError):
        return (
            f"S3 cannot be reached ({type(error).__name__}), not even after several attempts. Check the network, and "
            "the address of the lake's store or AWS_ENDPOINT_URL_S3 if one is set."
        )
    return f"the request could not be made ({type(error).__name__})."

"""What S3 and the way to it can refuse, as sentences that name the place and what to do.

The SDK's own texts are not passed on where they could hold a key; error codes are.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from octo_pipeline.model.errors import OctoError

_NO_RIGHT = {"AccessDenied", "403", "AllAccessDisabled", "AccountProblem"}
_NO_BUCKET = {"NoSuchBucket"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId"}
_WRONG_REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
_CLOCK = {"RequestTimeTooSkewed"}
_BUSY = {"SlowDown", "ServiceUnavailable", "InternalError", "500", "503", "RequestTimeout", "Throttling"}


@contextmanager
def said(what: str, place: str, right: str) -> Iterator[None]:
    """Turn what the SDK raises into a sentence.

    Args:
        what: what was tried, such as "read".
        place: the URL it was tried on.
        right: the permission that allows it, such as "s3:GetObject".

    Raises:
        OctoError: the attempt failed.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise OctoError(f"Cannot {what} {place}: {_refusal(error_code(error), right)}") from error
    except BotoCoreError as error:
        raise OctoError(f"Cannot {what} {place}: {_obstacle(error)}") from error


def error_code(error: Exception) -> str:
    """The code of a refusal, such as NoSuchKey; of a refusal without a body it is the HTTP status."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _refusal(code: str, right: str) -> str:
    if code in _NO_RIGHT:
        return f"S3 denies it to the credentials in use. Give them {right} there (and kms:* of its key, if it has one)."
    if code in _NO_BUCKET:
        return "there is no such bucket. Set OCTO_LAKE to one that exists."
    if code in _EXPIRED:
        return "the AWS credentials have expired. Get new ones (such as by `aws sso login`) and run this again."
    if code in _UNKNOWN_KEY:
        return f"AWS does not accept the credentials in use ({code}). Set those of the account the bucket belongs to."
    if code in _WRONG_REGION:
        return f"the bucket is in another region ({code}). Set AWS_REGION to the bucket's."
    if code in _CLOCK:
        return "this machine's clock is wrong. Set it and run this again."
    if code in _BUSY:
        return f"S3 is busy ({code}), and went on being so when it was tried again. Run this again later."
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
            "there are no AWS credentials: none in the environment, in ~/.aws or of the machine's role. "
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    if isinstance(error, TokenRetrievalError | CredentialRetrievalError):
        return "the AWS credentials cannot be renewed. Log in again (such as by `aws sso login`) and run this again."
    if isinstance(error, PartialCredentialsError | ProfileNotFound):
        return f"the AWS credentials are not complete ({error}). Correct AWS_PROFILE or ~/.aws and run this again."
    if isinstance(error, HTTPClientError | NoConnectionError):
        return (
            f"S3 cannot be reached ({type(error).__name__}), and could not be when it was tried again. Look at the "
            "network and at AWS_ENDPOINT_URL_S3, if it is set."
        )
    return f"the request could not be made ({type(error).__name__})."

"""Access to AWS: sessions with assumed roles, S3 buckets, and AWS's refusals as errors.

This module holds what every use of AWS has in common: credentials, timeouts, retries, and the advice to the user when
AWS refuses. What a bucket's objects mean belongs in the sources. boto3 (0.3 s) is imported when a client is made.

The credentials are those that boto3 finds (environment, profile, instance role). If there is a role, they only assume
it, and the role's credentials are renewed while the client lives, so a download may take longer than an hour.
"""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

from octo_pipeline.lake.s3_errors import refusal_of
from octo_pipeline.model.errors import NotAskedError, OctoError
from octo_pipeline.vendors.aws.cur_bucket import CurBucketSource, CurDocument
from octo_pipeline.vendors.bucket import StoredObject

# A try waits at most 15 seconds for the first byte. boto3's standard mode waits longer, with jitter, after each try, and
# retries only throttling, 5xx and broken connections.
_CONNECT_SECONDS = 5
_READ_SECONDS = 15
_TRIES = 4
# At least as many as the parallel downloads of all sources (vendors/downloads.py), which would wait for each other.
_CONNECTIONS = 16
_SESSION_NAME = "octo-pipeline"


@dataclass(frozen=True)
class AwsAccess:
    """The identity with which AWS is called.

    Attributes:
        account: the account that owns the data; for messages.
        role_arn: the role to assume; None uses the credentials that boto3 finds.
        external_id: the ExternalId of the role's trust policy.
        region: of the service; S3 finds a bucket's own region from any.
    """

    account: str
    role_arn: str | None = None
    external_id: str | None = None
    region: str = "us-east-1"

    @property
    def subject(self) -> str:
        """The caller, for messages."""
        return f"the role {self.role_arn}" if self.role_arn else "the credentials of this machine"


def client(service: str, access: AwsAccess) -> Any:
    """A boto3 client for the service; it does not call AWS until it is used.

    Raises:
        OctoError: the credentials of this machine are incomplete or the profile does not exist.
    """
    with translate_aws_errors(access, f"make a client of {service}"):
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=_CONNECTIONS,
        )
        session = boto3.Session(botocore_session=_session(access, config), region_name=access.region)
        return session.client(service, config=config)


def _bare_session() -> Any:
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _descriptions())
    return session


@cache
def _descriptions() -> Any:
    """The descriptions of services that botocore reads, loaded once: each client would spend a tenth of a second on it."""
    from botocore.loaders import create_loader

    return create_loader()


def _session(access: AwsAccess, config: Any) -> Any:
    """A botocore session with the role's credentials, which are renewed when they expire."""
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    session = _bare_session()
    if access.role_arn is None:
        return session
    source = _bare_session()
    with translate_aws_errors(access, "find the credentials that assume it"):
        own = source.get_credentials()
    if own is None:
        raise NotAskedError(
            f"AWS account {access.account}: there are no AWS credentials on this machine to assume "
            f"{access.role_arn} with. Set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run on an instance with a role.",
            code="aws-credentials-missing",
        )

    # botocore logs a refusal with its traceback, which would be printed beside our message if logging is not set up.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)

    def create_client(service: str, **arguments: Any) -> Any:
        return source.create_client(service, region_name=access.region, config=config, **arguments)

    extra = {"RoleSessionName": _SESSION_NAME} | ({"ExternalId": access.external_id} if access.external_id else {})
    fetcher = AssumeRoleCredentialFetcher(create_client, own, access.role_arn, extra_args=extra)

    def refresh() -> dict[str, Any]:
        with translate_aws_errors(access, "assume its role"):
            credentials: dict[str, Any] = fetcher.fetch_credentials()
            return credentials

    # botocore offers no other way to give a session credentials that renew themselves.
    session._credentials = DeferredRefreshableCredentials(method="sts-assume-role", refresh_using=refresh)
    return session


@contextmanager
def translate_aws_errors(access: AwsAccess, action: str, address: str = "") -> Iterator[None]:
    """Turn errors of AWS or the network within the block into OctoErrors.

    Args:
        access: the caller.
        action: what is tried, as a verb with its object, such as ``read the manifest``.
        address: where, such as ``s3://bucket/prefix``.

    Raises:
        OctoError: it names the account, the action and the remedy.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise refusal(access, action, address, error) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise _unreached(access, action, address, error) from error


def refusal(access: AwsAccess, action: str, address: str, error: Any) -> OctoError:
    """The OctoError for an error response of AWS."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    message = str(error.response.get("Error", {}).get("Message", "")).strip().rstrip(".")
    meaning = refusal_of(code)
    match meaning:
        case "forbidden" if error.operation_name == "AssumeRole":
            advice = (
                f"AWS does not let this machine's credentials assume {access.role_arn}. Compare the role's trust policy "
                "with the account's registration: the principal and the ExternalId must be the same in both"
            )
        case "forbidden":
            advice = f"{access.subject} may not do that. Allow {_action(error.operation_name)} there"
        case "expired":
            advice = f"the credentials have expired. Renew them ({access.subject})"
        case "unknown_key":
            advice = f"AWS does not know the credentials ({code}). Check {access.subject}"
        case "no_bucket":
            advice = "there is no such bucket. Check the bucket's name in the source's configuration"
        case "gone":
            advice = "it is not there. Check bucket and prefix in the source's configuration"
        case "elsewhere":
            advice = (
                f"the bucket is in another region than {access.region}. Set its region in the source's configuration"
            )
        case "changed":
            advice = "it changed while it was read. Run this again; the next run takes the new version"
        case "clock":
            advice = "this machine's clock is wrong. Set it and run this again"
        case "busy":
            advice = f"AWS is throttling or unavailable ({code}) after {_TRIES} tries. Run this again later"
        case _:
            advice = f"AWS answered {code or 'an error'}: {message}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    says_nothing = meaning in ("expired", "unknown_key", "clock", "busy") or status >= 500
    kind = NotAskedError if says_nothing else OctoError
    return kind(
        f"AWS account {access.account}: could not {action}{_at(address)}: {advice}.",
        code="aws-refused",
        place=access.account,
    )


def _unreached(access: AwsAccess, action: str, address: str, error: Exception) -> OctoError:
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError, ProfileNotFound
    from botocore.parsers import ResponseParserError

    if isinstance(error, NoCredentialsError):
        advice = (
            "there are no AWS credentials on this machine. Set AWS_PROFILE or AWS_ACCESS_KEY_ID, or run on an instance "
            "with a role"
        )
    elif isinstance(error, (PartialCredentialsError, ProfileNotFound)):
        advice = f"{str(error).rstrip('.')}. Fix the AWS configuration of this machine"
    elif isinstance(error, ResponseParserError):
        advice = (
            "the response is not from AWS but perhaps from a proxy. Check the proxy of this machine and AWS_ENDPOINT_URL, "
            "and run this again"
        )
    else:
        advice = f"AWS cannot be reached ({str(error).rstrip('.')}) after {_TRIES} tries. Run this again later"
    return NotAskedError(
        f"AWS account {access.account}: could not {action}{_at(address)}: {advice}.", code="aws-unreachable"
    )


def _at(address: str) -> str:
    return f" at {address}" if address else ""


def _action(operation: str) -> str:
    """The name in policies of the permission that an operation of S3 or another service needs."""
    s3 = {"ListObjectsV2": "s3:ListBucket", "GetObject": "s3:GetObject", "HeadObject": "s3:GetObject"}
    return s3.get(operation, operation)


class Bucket:
    """An S3 bucket, read with one account's role."""

    def __init__(self, name: str, access: AwsAccess) -> None:
        self.name = name
        self.access = access
        self._client: Any = None

    @property
    def _s3(self) -> Any:
        if self._client is None:
            self._client = client("s3", self.access)
        return self._client

    def url(self, key: str) -> str:
        """The key with its bucket, for messages."""
        return f"s3://{self.name}/{key}"

    def folder(self, prefix: str) -> tuple[list[str], list[StoredObject]]:
        """What is directly below a prefix that is empty or ends in a slash: folders (with it) and objects.

        Raises:
            OctoError: the bucket does not exist or refuses.
        """
        folders: list[str] = []
        objects: list[StoredObject] = []
        with translate_aws_errors(self.access, "list the objects", self.url(prefix)):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/")
            for page in pages:
                folders += [folder["Prefix"] for folder in page.get("CommonPrefixes", [])]
                objects += [
                    StoredObject(entry["Key"], entry["Size"], entry["ETag"].strip('"'), entry["LastModified"])
                    for entry in page.get("Contents", [])
                ]
        return folders, objects

    def read(self, key: str) -> bytes:
        """The bytes of a small object.

        Raises:
            OctoError: it does not exist, or the bucket refuses.
        """
        with translate_aws_errors(self.access, "read the object", self.url(key)):
            content: bytes = self._s3.get_object(Bucket=self.name, Key=key)["Body"].read()
            return content

    def open(self, stored: StoredObject, start: int = 0) -> BinaryIO:
        """A stream of exactly this version of the object from a byte offset.

        Raises:
            OctoError: it is gone or has changed, or the bucket refuses. The stream raises OSError when the connection
                breaks.
        """
        with translate_aws_errors(self.access, "read the object", self.url(stored.key)):
            byte_range = {"Range": f"bytes={start}-"} if start else {}
            response = self._s3.get_object(Bucket=self.name, Key=stored.key, IfMatch=f'"{stored.etag}"', **byte_range)
        return io.BufferedReader(_Body(response["Body"]))

    def digest_parts(self, stored: StoredObject) -> int | None:
        """What the object's ETag is the digest of, so that a download can be compared with it.

        Returns:
            The size in bytes of the parts in which it was uploaded, its own size if it has one part; None if the ETag is
            not a digest (KMS encrypts the object) or S3 does not tell the parts.
        """
        with translate_aws_errors(self.access, "read the size of the parts", self.url(stored.key)):
            response = self._s3.head_object(Bucket=self.name, Key=stored.key, PartNumber=1)
        if str(response.get("ServerSideEncryption", "")).startswith("aws:kms"):
            return None
        is_multipart = "-" in stored.etag
        return int(response["ContentLength"]) if is_multipart == bool(response.get("PartsCount")) else None


class _Body(io.RawIOBase):
    """botocore's body as a stream: a broken connection is an OSError, as with any file."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return _unbroken(self._body.readinto, buffer)

    def close(self) -> None:
        self._body.close()
        super().close()


def _unbroken(read: Callable[[Any], int], buffer: Any) -> int:
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    try:
        return read(buffer)
    except (BotoCoreError, HTTPError) as error:
        raise ConnectionResetError(f"the connection broke: {error}") from error


def cur_source(document: CurDocument) -> CurBucketSource:
    """The source that a document describes; this does not call AWS yet."""
    access = AwsAccess(document.account, document.role_arn, document.external_id, document.region)
    return CurBucketSource(document, Bucket(document.bucket, access))

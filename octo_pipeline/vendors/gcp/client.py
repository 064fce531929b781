"""Access to Google Cloud: the clients of BigQuery with their credentials, timeouts and retries.

This module reaches a dataset and explains BigQuery's refusals to the user. The queries belong in `billing_queries`.
Google's libraries are imported when they are used, because that takes more than a second.

Retries are Google's own: exponential with jitter, only for failures that may pass (throttling, 5xx, broken
connections), and for at most `patience` seconds in total. A stream of rows resumes at the row where it broke.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import reason
from octo_pipeline.vendors.gcp.billing import GcpBillingSource
from octo_pipeline.vendors.gcp.billing_columns import Kind, Schema
from octo_pipeline.vendors.gcp.billing_document import GcpSourceDocument
from octo_pipeline.vendors.gcp.billing_tables import Parameter

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import Client, QueryJob, SchemaField
    from google.cloud.bigquery_storage_v1 import BigQueryReadClient

_REQUEST_SECONDS = 60.0
# One partition is one stream; Google's own limit is a day.
_STREAM_SECONDS = 3600.0
_PATIENCE_SECONDS = 600.0
_PLAIN_KEYS = ("service_account", "authorized_user")
_TOKEN_ADDRESS = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_OLD_TOKEN_ADDRESSES = ("https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_KINDS: dict[str, Kind] = {
    "STRING": "text",
    "FLOAT": "amount",
    "FLOAT64": "amount",
    "NUMERIC": "amount",
    "BIGNUMERIC": "amount",
    "INTEGER": "amount",
    "INT64": "amount",
    "TIMESTAMP": "time",
    "RECORD": "struct",
    "STRUCT": "struct",
}
_THROTTLED = ("rateLimitExceeded", "quotaExceeded", "jobRateLimitExceeded")


@dataclass(frozen=True)
class Endpoint:
    """A server other than Google's, reached without credentials: `rest` is a URL, `storage` is host:port."""

    rest: str
    storage: str


def source(document: GcpSourceDocument, *, endpoint: Endpoint | None = None) -> GcpBillingSource:
    """The source of a document; this does not call Google yet."""
    return GcpBillingSource(document, BigQueryDataset(document, endpoint=endpoint))


class BigQueryDataset:
    """The dataset of a document, read with Google's clients.

    Args:
        document: the dataset and the credentials to use.
        endpoint: a server to use instead of Google's.
        patience: for how many seconds to retry a failure that may pass.
    """

    def __init__(
        self, document: GcpSourceDocument, *, endpoint: Endpoint | None = None, patience: float = _PATIENCE_SECONDS
    ) -> None:
        self._document = document
        self._endpoint = endpoint
        self._patience = patience

    def location(self) -> str:
        """Where the dataset is, such as EU."""
        with self._translate_google_errors("looking at the dataset"):
            dataset = self._client.get_dataset(self._dataset, retry=self._retry, timeout=_REQUEST_SECONDS)
            return str(dataset.location)

    def schema(self, table: str) -> Schema | None:
        """The columns of a table; None if there is no such table in the dataset.

        Raises:
            OctoError: the dataset does not exist, or BigQuery refuses or cannot be reached.
        """
        from google.api_core.exceptions import NotFound

        with self._translate_google_errors(f"looking at the table {table}"):
            try:
                described = self._client.get_table(
                    f"{self._dataset}.{table}", retry=self._retry, timeout=_REQUEST_SECONDS
                )
            except NotFound:
                # A missing dataset gives the same response; this call raises for it.
                self._client.get_dataset(self._dataset, retry=self._retry, timeout=_REQUEST_SECONDS)
                return None
            return {name: kind for field in described.schema for name, kind in _kinds("", field)}

    def rows(self, sql: str, parameters: Mapping[str, Parameter]) -> list[Mapping[str, Any]]:
        """The rows of an aggregating query, which are few."""
        with self._translate_google_errors("a query"):
            job = self._query(sql, parameters)
            return [dict(row.items()) for row in self._finished(job)]

    @contextmanager
    def batches(self, sql: str, parameters: Mapping[str, Parameter]) -> "Iterator[Iterator[pa.RecordBatch]]":
        """The rows of a query, streamed through the Storage API."""
        with self._translate_google_errors("reading rows"):
            job = self._query(sql, parameters)
            self._finished(job)
            yield self._stream(job)

    def _stream(self, job: "QueryJob") -> "Iterator[pa.RecordBatch]":
        import pyarrow as pa
        from google.cloud.bigquery_storage_v1.types import DataFormat, ReadSession

        table = job.destination
        session = self._reader.create_read_session(
            parent=f"projects/{self._document.project}",
            read_session=ReadSession(
                table=f"projects/{table.project}/datasets/{table.dataset_id}/tables/{table.table_id}",
                data_format=DataFormat.ARROW,
            ),
            max_stream_count=1,
            retry=self._reader_retry,
            timeout=_REQUEST_SECONDS,
        )
        schema = pa.ipc.read_schema(pa.py_buffer(session.arrow_schema.serialized_schema))
        for stream in session.streams:
            messages = self._reader.read_rows(  # type: ignore[no-untyped-call]
                stream.name, retry=self._reader_retry, timeout=_STREAM_SECONDS
            )
            for message in messages:
                batch = pa.py_buffer(message.arrow_record_batch.serialized_record_batch)
                yield pa.ipc.read_record_batch(batch, schema)

    def _query(self, sql: str, parameters: Mapping[str, Parameter]) -> "QueryJob":
        from google.cloud.bigquery import QueryJobConfig, ScalarQueryParameter

        typed = [ScalarQueryParameter(name, _parameter_type(value), value) for name, value in parameters.items()]
        return self._client.query(
            sql,
            job_config=QueryJobConfig(query_parameters=typed),
            retry=self._retry,
            timeout=_REQUEST_SECONDS,
            job_retry=self._job_retry,
        )

    def _finished(self, job: "QueryJob") -> Any:
        return job.result(retry=self._retry, timeout=self._patience, job_retry=self._job_retry)

    @property
    def _dataset(self) -> str:
        return f"{self._document.project}.{self._document.dataset}"

    @cached_property
    def _retry(self) -> Any:
        from google.cloud.bigquery import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(self._patience)

    @cached_property
    def _job_retry(self) -> Any:
        from google.cloud.bigquery.retry import DEFAULT_JOB_RETRY

        return DEFAULT_JOB_RETRY.with_timeout(self._patience)

    @cached_property
    def _reader_retry(self) -> Any:
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type

        passing = (exceptions.ServiceUnavailable, exceptions.ResourceExhausted, exceptions.InternalServerError)
        return Retry(if_exception_type(*passing, exceptions.DeadlineExceeded), timeout=self._patience)

    @cached_property
    def _client(self) -> "Client":
        from google.cloud.bigquery import Client

        options = {"api_endpoint": self._endpoint.rest} if self._endpoint else None
        return Client(
            project=self._document.project,
            credentials=self._credentials,
            location=self._document.location,
            client_options=options,
        )

    @cached_property
    def _reader(self) -> "BigQueryReadClient":
        from google.cloud.bigquery_storage_v1 import BigQueryReadClient

        if self._endpoint is None:
            return BigQueryReadClient(credentials=self._credentials)  # type: ignore[no-untyped-call]
        import grpc
        from google.cloud.bigquery_storage_v1.services.big_query_read.transports import BigQueryReadGrpcTransport

        channel = grpc.insecure_channel(self._endpoint.storage)
        transport = BigQueryReadGrpcTransport(channel=channel)
        return BigQueryReadClient(transport=transport)  # type: ignore[no-untyped-call]

    def identity(self) -> str | None:
        """The e-mail address of the service account that BigQuery is read as.

        None for credentials that are of no service account, such as a person's.

        Raises:
            OctoError: there are no credentials here, or they cannot be used.
        """
        if self._document.impersonate is not None:
            return self._document.impersonate
        with self._translate_google_errors("finding out which service account reads it"):
            email = getattr(self._credentials, "service_account_email", None)
            if email == "default":
                # A machine of Google's own only knows after it has asked.
                from google.auth.transport.requests import Request

                self._credentials.refresh(Request())
                email = self._credentials.service_account_email
        return email

    @cached_property
    def _credentials(self) -> Any:
        import google.auth
        from google.auth import impersonated_credentials
        from google.auth.credentials import AnonymousCredentials

        if self._endpoint is not None:
            return AnonymousCredentials()  # type: ignore[no-untyped-call]
        if self._document.credentials is not None:
            file = str(self._document.credentials)
            self._require_plain_key(self._document.credentials)
            credentials, _ = google.auth.load_credentials_from_file(file, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
        else:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        if self._document.impersonate is None:
            return credentials
        return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
            source_credentials=credentials, target_principal=self._document.impersonate, target_scopes=[_SCOPE]
        )

    def _require_plain_key(self, file: Path) -> None:
        """Refuse a key file that sends its holder elsewhere: other kinds name files to read and addresses to ask.

        Raises:
            OctoError: it is of another kind than a service account or a user, or its tokens are not Google's.
        """
        try:
            key = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            return  # Google's own library says what is wrong with it
        if not isinstance(key, dict):
            return
        address = str(key.get("token_uri", _TOKEN_ADDRESS))
        if key.get("type") in _PLAIN_KEYS and address in (_TOKEN_ADDRESS, *_OLD_TOKEN_ADDRESSES):
            return
        raise OctoError(
            f"The key file {file} for {self._document.place} is not a plain key of a service account whose tokens are "
            "Google's. Name one, or leave `credentials` out and set Google's application default credentials.",
            code="key-file-refused",
            place=str(file),
        )

    @contextmanager
    def _translate_google_errors(self, attempt: str) -> Iterator[None]:
        """Turn what Google's libraries raise into an error that names the remedy."""
        import requests
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError

        try:
            yield
        except (GoogleAPIError, GoogleAuthError, requests.RequestException, ConnectionError, TimeoutError) as error:
            raise OctoError(
                f"{attempt[0].upper()}{attempt[1:]} of {self._document.place} failed: {self._reason(error)}",
                code="bigquery-refused",
            ) from error
        except OSError as error:
            file = self._document.credentials
            if file is None or error.filename != str(file):
                raise
            raise OctoError(
                f"The key file {file} for {self._document.place} cannot be read ({reason(error)}). Correct "
                "`credentials`, or leave it out to use Google's application default credentials.",
                code="key-file-unreadable",
            ) from error

    def _reason(self, error: Exception) -> str:
        from google.api_core import exceptions
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

        document = self._document
        cause = error.cause if isinstance(error, exceptions.RetryError) and error.cause else error
        message = _first_line(cause)
        if isinstance(cause, DefaultCredentialsError):
            problem = (
                f"the key file {document.credentials} is not valid"
                if document.credentials
                else "there are no credentials"
            )
            return (
                f"{problem} ({message}). Set `credentials` to the key file of a service account, or log in with Google's "
                "application default credentials."
            )
        if isinstance(cause, GoogleAuthError) and not isinstance(cause, TransportError):
            return f"Google refused the credentials ({message}). Renew them, or set `credentials` to others."
        if _is_throttling(cause):
            return (
                f"Google's limit is reached ({message}), even after retries for up to {self._patience:.0f} s. Run this again "
                "later, or raise the project's BigQuery quota."
            )
        if isinstance(cause, exceptions.NotFound):
            where = f" in the location {document.location}" if document.location else ""
            return (
                f"{message}. Check that the dataset {self._dataset} exists{where}, and correct project, dataset or "
                "location."
            )
        if isinstance(cause, (exceptions.Forbidden, exceptions.Unauthorized)):
            return (
                f"a permission is missing ({message}). Grant BigQuery Data Viewer on the dataset {self._dataset}, and "
                f"BigQuery Job User and BigQuery Read Session User in the project {document.project}."
            )
        if isinstance(cause, exceptions.ClientError):
            return f"BigQuery refuses it ({message}). Check that the tables are Google's own billing export."
        return f"BigQuery cannot be reached ({message}). Check the network and run this again."


def _is_throttling(error: Exception) -> bool:
    from google.api_core.exceptions import Forbidden, TooManyRequests

    if not isinstance(error, Forbidden):
        return isinstance(error, TooManyRequests)
    # A missing permission has the same status; the Storage API gives no such details.
    return any(detail.get("reason") in _THROTTLED for detail in error.errors if isinstance(detail, dict))


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error).strip()
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")[:300]


def _parameter_type(value: Parameter) -> str:
    if isinstance(value, datetime):
        return "TIMESTAMP"
    return "DATE" if isinstance(value, date) else "STRING"


def _kinds(prefix: str, field: "SchemaField") -> Iterator[tuple[str, Kind]]:
    """The path and kind of a field and of all fields within it."""
    name = f"{prefix}{field.name}"
    yield name, "list" if field.mode == "REPEATED" else _KINDS.get(field.field_type, "other")
    for within in field.fields:
        yield from _kinds(f"{name}.", within)

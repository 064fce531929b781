"""AWS on loopback: moto's server, with S3, STS and what else it knows, started and stopped by a fixture."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """The URL of an AWS that all tests of this process share."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty AWS that the program's own clients talk to; returns an S3 client of its own."""
    import boto3
    import requests

    requests.post(f"{aws_server}/moto-api/reset", timeout=10).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="company-cur")
    return s3


def upload(s3: Any, folder: Path, prefix: str = "", bucket: str = "company-cur") -> list[str]:
    """Put a folder's files into a bucket; manifests last, as AWS does. Returns the keys."""
    files = sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: ("anifest" in p.name, str(p)))
    keys = [f"{prefix}{path.relative_to(folder).as_posix()}" for path in files]
    for path, key in zip(files, keys, strict=True):
        s3.upload_file(str(path), bucket, key)
    return keys

"""A bucket as a store: what it is called, what it refuses, and what the other end may answer."""

import io
from pathlib import Path

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    TokenRetrievalError,
)
from botocore.response import StreamingBody

from octo_pipeline.cli.output import sentence
from octo_pipeline.lake import s3_store as s3
from octo_pipeline.lake.lake import Lake
from octo_pipeline.lake.root import lake_root
from octo_pipeline.lake.s3_errors import translate_s3_errors
from octo_pipeline.lake.s3_store import S3Path
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.s3_url import split_url
from octo_pipeline.settings import Settings, load_settings
from octo_pipeline.workspace import Workspace
from tests.emulators.aws import KEY, SECRET


@pytest.fixture
def environment(s3_server, monkeypatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("octo_pipeline.lake.root._ATTEMPTS", 1)


@pytest.fixture
def root(s3_server, environment, tmp_path) -> S3Path:
    return lake_root(f"s3://{s3_server.bucket()}/lake", tmp_path / "temp")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://my.bucket-1/a/b c", ("my.bucket-1", "a/b c")),
        ("s3://bucket//a/", ("bucket", "a")),
    ],
)
def test_a_url_is_a_bucket_and_a_prefix(url, expected):
    assert split_url(url) == expected


@pytest.mark.parametrize(
    "url", ["gs://bucket/lake", "s3://", "s3://B/x", "s3:///x", "s3://bucket/a//b", "s3://bucket/a*", "s3://b\n/x"]
)
def test_what_is_no_place_for_a_lake_is_a_sentence(url):
    with pytest.raises(OctoError, match=r"The lake cannot be .*Write a folder, or s3://bucket/prefix"):
        Settings(lake=url)


def test_a_lake_in_a_bucket_says_what_its_registry_needs():
    with pytest.raises(OctoError, match="The lake s3://bucket/lake is in a bucket, which cannot hold") as refused:
        _ = Workspace(Settings(lake="s3://bucket/lake")).registry
    assert " Set OCTO_DATABASE_URL to postgresql://" in sentence(refused.value)
    settings = Settings(lake="s3://bucket/lake", database_url="sqlite:////somewhere/registry.sqlite")
    assert settings.registry_url == "sqlite:////somewhere/registry.sqlite"


def test_a_path_is_named_as_duckdb_reads_it(root):
    path = root / "t" / "month=2024-01" / "data.csv.gz"
    assert str(path) == f"s3://{root.bucket}/lake/t/month=2024-01/data.csv.gz"
    assert (path.name, path.suffix, path.parts[-2:]) == ("data.csv.gz", ".gz", ("month=2024-01", "data.csv.gz"))
    assert path == S3Path(root.bucket, "lake/t/month=2024-01/data.csv.gz", root.store)
    with pytest.raises(ValueError, match="reading bytes only"):
        path.open("w")


def test_a_file_is_read_in_ranges_and_in_one_version(root, monkeypatch):
    data = bytes(range(256)) * 5000
    path = root / "file"
    put = root.store._client.put_object
    put(Bucket=path.bucket, Key=path.key, Body=data)
    monkeypatch.setattr(s3, "_FIRST_READ", 1000)
    monkeypatch.setattr(s3, "_LARGEST_READ", 300_000)
    with path.open("rb") as stream:
        assert stream.read(10) == data[:10]
        assert stream.read() == data[10:]
        assert (stream.seek(-3, io.SEEK_END), stream.read()) == (len(data) - 3, data[-3:])
    with path.open() as stream:
        stream.read(10)
        put(Bucket=path.bucket, Key=path.key, Body=data[::-1])
        with pytest.raises(OctoError, match=f"{path} was replaced while it was read"):
            stream.read()
    put(Bucket=path.bucket, Key=path.key, Body=b"")
    with path.open() as stream:
        assert stream.read() == b""
    with pytest.raises(FileNotFoundError):
        (root / "gone").open()


@pytest.mark.parametrize("breaks", [1, 99])
def test_a_body_that_breaks_off_is_read_again(root, monkeypatch, breaks):
    path = root / "file"
    client = root.store._client
    client.put_object(Bucket=path.bucket, Key=path.key, Body=b"whole")
    get, left = client.get_object, [breaks]

    class Broken(StreamingBody):
        def read(self, amt=None):
            raise IncompleteReadError(actual_bytes=1, expected_bytes=5)

    def get_object(**given):
        answer = get(**given)
        left[0] -= 1
        return answer | ({"Body": Broken(io.BytesIO(b"w"), 5)} if left[0] >= 0 else {})

    monkeypatch.setattr(client, "get_object", get_object)
    monkeypatch.setattr(s3, "_pause", lambda attempt: None)
    if breaks == 1:
        assert path.open().read() == b"whole"
    else:
        with pytest.raises(OctoError, match=f"Cannot read {path}: the connection keeps breaking off"):
            path.open()


def test_duckdb_gets_the_credentials_of_the_moment_and_nobody_else(root, monkeypatch):
    lake = Lake(root)
    load, secret = lake.duckdb_setup()
    assert load.endswith("httpfs.duckdb_extension'")
    assert f"SCOPE 's3://{root.bucket}/'" in secret
    assert "REGION 'eu-central-1'" in secret
    assert "SESSION_TOKEN" not in secret
    monkeypatch.setattr(root.store, "_credentials", lambda: ("another", "it's", "token"))
    assert "KEY_ID 'another', SECRET 'it''s'" in lake.duckdb_setup()[1]
    assert "SESSION_TOKEN 'token'" in lake.duckdb_setup()[1]
    with lake.connect() as connection:
        shown = connection.execute("FROM duckdb_secrets()").fetchall()
        assert [row[0] for row in shown] == ["octo_lake"]
        assert "it's" not in str(shown)


def test_a_secret_that_duckdb_does_not_take_is_not_shown(root, monkeypatch):
    lake = Lake(root)
    monkeypatch.setattr(lake, "duckdb_setup", lambda: ["CREATE SECRET (TYPE s3, KEY_ID 'k', SECRET 'hush' oops)"])
    with pytest.raises(OctoError) as caught, lake.connect():
        pass
    assert str(caught.value).startswith(f"DuckDB cannot be made to read {root} (ParserException). ")
    assert "hush" not in f"{caught.value}{caught.value.__cause__}"


def test_a_bucket_of_aws_is_addressed_by_its_name_and_one_with_dots_by_its_path(root):
    class Meta:
        endpoint_url = "https://s3.eu-central-1.amazonaws.com"
        region_name = "eu-central-1"

    class Client:
        meta = Meta()

        def head_bucket(self, Bucket: str) -> dict[str, str]:
            return {"BucketRegion": "us-west-2"}

    def secret(bucket: str) -> str:
        store = s3.S3Store(
            Client(), bucket, "", scratch=Path(), credentials=lambda: ("key", "secret", None), httpfs=Path("httpfs")
        )
        return store.duckdb_setup()[1]

    assert "REGION 'us-west-2'" in secret("plain")
    assert "URL_STYLE 'vhost'" in secret("plain")
    assert "ENDPOINT" not in secret("plain")
    assert "URL_STYLE 'path'" in secret("with.dots")


def test_a_bucket_that_does_not_exist_is_a_sentence(environment, tmp_path):
    lake = Lake(lake_root("s3://no-such-bucket/lake", tmp_path))
    with pytest.raises(OctoError, match=r"Cannot list s3://no-such-bucket/lake/t: there is no such bucket. Create it"):
        lake.months("t")
    with pytest.raises(OctoError, match="The bucket no-such-bucket of the lake s3://no-such-bucket/lake"):
        lake.duckdb_setup()


def test_a_server_that_does_not_answer_is_a_sentence(environment, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(
        OctoError, match=r"Cannot list s3://bucket/lake/t: S3 cannot be reached \(EndpointConnectionError"
    ):
        Lake(lake_root("s3://bucket/lake", tmp_path)).months("t")


def test_the_lake_has_a_store_and_keys_of_its_own(s3_server, environment, monkeypatch, tmp_path):
    """Regression: the endpoint of the lake's store got AWS's bills to ask for, and its keys."""
    lake = f"s3://{s3_server.bucket()}/lake"
    for name, value in {
        "ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "x",
        "SECRET_ACCESS_KEY": "y",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("OCTO_LAKE_ENDPOINT", s3_server.endpoint)
    monkeypatch.setenv("OCTO_LAKE_ACCESS_KEY", KEY)
    monkeypatch.setenv("OCTO_LAKE_SECRET_KEY", SECRET)
    settings = load_settings(lake=lake, temp=tmp_path)
    assert SECRET not in repr(settings)
    store = Workspace(settings).lake.root.store
    store.check_conditions()
    setup = "\n".join(store.duckdb_setup())
    assert f"KEY_ID '{KEY}', SECRET '{SECRET}'" in setup
    assert f"ENDPOINT '{s3_server.endpoint.removeprefix('http://')}'" in setup


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "ENDPOINT",
            "store:9000",
            "OCTO_LAKE_ENDPOINT is not valid: must be the address of a server, such as https://",
        ),
        ("ENDPOINT", "https://store/lake", "must be the address of a server"),
        (
            "SECRET_KEY",
            "y",
            "OCTO_LAKE_SECRET_KEY is not valid: must be set together with the access key, or not at all",
        ),
        (
            "ACCESS_KEY",
            "x",
            "OCTO_LAKE_SECRET_KEY is not valid: must be set together with the access key, or not at all",
        ),
    ],
)
def test_half_a_store_is_refused(monkeypatch, name, value, message):
    monkeypatch.setenv(f"OCTO_LAKE_{name}", value)
    with pytest.raises(OctoError, match=message):
        load_settings()


def test_no_credentials_are_a_sentence(environment, monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    lake = Lake(lake_root("s3://bucket/lake", tmp_path))
    for attempt in (lambda: lake.months("t"), lake.duckdb_setup):
        with pytest.raises(OctoError, match=r"there are no AWS credentials in the environment or in ~/.aws, and"):
            attempt()


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("AccessDenied", "S3 denies it to the credentials in use. Give them s3:PutObject there"),
        ("403", "Give them s3:PutObject there"),
        ("NoSuchBucket", "there is no such bucket. Create it, or put the lake into one that exists."),
        ("ExpiredToken", "the AWS credentials have expired. Get new ones"),
        ("InvalidAccessKeyId", "AWS does not accept the credentials in use (InvalidAccessKeyId)."),
        ("PermanentRedirect", "the bucket is in another region (PermanentRedirect). Set AWS_REGION to the bucket's."),
        ("RequestTimeTooSkewed", "this machine's clock is wrong."),
        ("SlowDown", "S3 is busy (SlowDown), and stayed busy"),
        ("Strange", "S3 refuses it (Strange)."),
        (NoCredentialsError(), "there are no AWS credentials"),
        (TokenRetrievalError(provider="sso", error_msg="secret text"), "the AWS credentials cannot be renewed. Log in"),
        (ConnectTimeoutError(endpoint_url="http://x"), "S3 cannot be reached (ConnectTimeoutError)"),
        (EndpointConnectionError(endpoint_url="http://x"), "S3 cannot be reached (EndpointConnectionError)"),
    ],
)
def test_every_refusal_says_what_was_tried_where_and_what_to_do(error, sentence):
    if isinstance(error, str):
        error = ClientError({"Error": {"Code": error, "Message": "secret text"}}, "PutObject")
    with pytest.raises(OctoError) as caught, translate_s3_errors("write", "s3://bucket/key", "s3:PutObject"):
        raise error
    assert str(caught.value).startswith("Cannot write s3://bucket/key: ")
    assert sentence in str(caught.value)
    assert "secret text" not in str(caught.value)


def test_the_system_s_temporary_folder_is_used_only_as_ones_own(environment, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    found = lake_root("s3://bucket/lake", None)
    assert isinstance(found, S3Path)
    (folder,) = tmp_path.iterdir()
    assert found.store.scratch == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OctoError, match="belongs to another user") as refused:
        lake_root("s3://bucket/lake", None)
    assert "Set OCTO_TEMP to a folder" in sentence(refused.value)


def test_a_store_that_keeps_to_conditions_is_fine_and_nothing_stays(root):
    root.store.check_conditions()
    assert root.store.sizes(root / ".staging") == {}


def test_a_store_that_refuses_what_a_condition_allows_is_refused(root):
    """Regression: nothing could be replaced in such a store (Ceph 16), and nothing said why."""

    def of_another(params, **_):
        if "IfMatch" in params:
            params["IfMatch"] = f'"{"1" * 32}"'

    root.store._client.meta.events.register("before-parameter-build.s3.PutObject", of_another)
    with pytest.raises(OctoError, match="refuses If-Match of the version that is there") as refused:
        root.store.check_conditions()
    assert refused.value.code == "store-without-conditions"
    assert root.store.sizes(root / ".staging") == {}


@pytest.mark.parametrize(
    ("ignored", "operation"),
    [
        ("If-None-Match", "PutObject"),
        ("If-Match", "PutObject"),
        ("If-None-Match of an upload in parts", "CompleteMultipartUpload"),
        ("x-amz-copy-source-if-match", "UploadPartCopy"),
    ],
)
def test_a_store_that_ignores_conditions_is_refused(root, ignored, operation):
    """Regression: two runs could publish over each other in such a store, and nothing said so."""
    name = "CopySourceIfMatch" if "copy" in ignored else ignored.split()[0].replace("-", "")

    def ignoring(params, **_):
        # The first object is written with a condition that holds.
        if params.get("Body") != b"first":
            params.pop(name, None)

    events = root.store._client.meta.events
    events.register(f"before-parameter-build.s3.{operation}", ignoring)
    with pytest.raises(OctoError, match=f"ignores {ignored}, so two runs could publish over each other"):
        root.store.check_conditions()
    events.unregister(f"before-parameter-build.s3.{operation}", ignoring)
    assert root.store.sizes(root / ".staging") == {}

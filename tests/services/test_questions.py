"""Whoever may ask in SQL can neither change anything by it nor read what is not a table."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from octo_pipeline.cli.main import app
from octo_pipeline.cli.output import sentence
from octo_pipeline.lake.root import lake_root
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.questions import answers, asking
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace
from tests.emulators.aws import S3Server
from tests.support.small_month import MONTH, USAGE_OF_10_AND_30
from tests.support.workspaces import workspace_in, write_lines

KEY = "the key of the secrets"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A lake with a month, and beside it what a lake's folder has: registry, key, landing."""
    workspace = workspace_in(tmp_path, USAGE_OF_10_AND_30, [])
    lake = tmp_path / "lake"
    workspace.registry.users.add("ana", "admin", "ana")
    (lake / "registry.key").write_text(KEY)
    (lake / "landing" / "aws").mkdir(parents=True)
    (lake / "landing" / "aws" / "bill.csv").write_text("a,b\n1,2\n")
    monkeypatch.setenv("OCTO_LAKE", str(lake))
    monkeypatch.setenv("OCTO_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("OCTO_TEMP", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp" / "half-made.txt").write_text("half made")
    return workspace


def octo(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=typed)


def refusal(query: str) -> str:
    result = octo("sql", query, "-o", "csv")
    assert isinstance(result.exception, OctoError), (result.output, result.exception)
    assert result.stdout == ""
    return sentence(result.exception)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


QUESTIONS = [
    "SELECT count(*) FROM cost_line_items",
    "FROM cost_line_items SELECT count(*)",
    "WITH a AS (SELECT 1) FROM a",
    "VALUES (1)",
    "TABLE cost_line_items",
    "DESCRIBE cost_line_items",
    "SHOW TABLES",
    "SUMMARIZE cost_line_items",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT count(*) FROM cost_line_items",
    "EXPLAIN (FORMAT json) (SELECT 1)",
    "/* a */ EXPLAIN /* b */ (SELECT ')é' AS x) -- c",
    "PIVOT cost_line_items ON sub_account_id IN ('1', '2') USING sum(billed_cost)",
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b",
    "SELECT 'COPY x TO y; ATTACH z' AS text",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_pass(workspace: Workspace, question: str) -> None:
    result = octo("sql", question, "-o", "csv")
    assert result.exit_code == 0, result.exception
    assert len(result.stdout.splitlines()) > 1


# {lake} is the folder of the lake, {partition} a published file.
CHANGES = [
    "COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY cost_line_items FROM '{lake}/landing/aws/bill.csv'",
    "EXPLAIN COPY (SELECT 1 AS a) TO '{partition}'",
    "EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "EXPLAIN (ANALYZE) COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "explain /* select 1 */ analyse\n-- select 1\ncopy (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "EXPLAIN CREATE TABLE mine AS SELECT 1",
    "SELECT 1; COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "SELECT 1; EXPLAIN ANALYZE COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
    "EXPORT DATABASE '{lake}/cost_line_items'",
    "IMPORT DATABASE '{lake}/landing'",
    "ATTACH '{lake}/registry.sqlite'",
    "ATTACH '{lake}/registry.sqlite' AS registry (TYPE sqlite)",
    "CREATE TABLE mine AS SELECT 1",
    "CREATE OR REPLACE VIEW cost_line_items AS SELECT 1",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE MACRO f() AS 1",
    "DROP VIEW cost_line_items",
    "INSERT INTO cost_line_items SELECT 1",
    "UPDATE cost_line_items SET billed_cost = 0",
    "DELETE FROM cost_line_items",
    "PREPARE p AS SELECT 1",
    "PRAGMA show_tables",
    "pragma import_database('{lake}/landing')",
    "PRAGMA enable_profiling",
    "SET enable_external_access = true",
    "SET allowed_paths = ['{lake}/registry.key']",
    "SET lock_configuration = false",
    "RESET allowed_paths",
    "SET VARIABLE a = 1",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "USE memory",
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_more_than_read_is_refused(workspace: Workspace, tmp_path: Path, change: str) -> None:
    """Regression: a viewer replaced a partition with `COPY (SELECT 1) TO '…/data.parquet'`."""
    lake = tmp_path / "lake"
    before = state(lake)
    refusal(change.format(lake=lake, partition=workspace.lake.path("cost_line_items", MONTH)))
    assert state(lake) == before


@pytest.mark.parametrize("change", ["COPY (SELECT 1 AS a) TO '{partition}'", "EXPLAIN ANALYZE DELETE FROM a"])
def test_the_refusal_says_what_passes(workspace: Workspace, change: str) -> None:
    kind = change.partition(" ")[0]
    assert refusal(change.format(partition="x")).startswith(kind)
    assert "only statements that read pass here" in refusal(change)


def test_a_pivot_without_values_is_told_how_to_pass(workspace: Workspace) -> None:
    assert "Give PIVOT its values: ON column IN (…)." in refusal("PIVOT cost_line_items ON sub_account_id")


READS = [
    "FROM read_text('{lake}/registry.key')",
    "FROM read_blob('{lake}/registry.key')",
    "FROM read_text('{lake}/cost_line_items/../registry.key')",
    "FROM read_text('{partition}/../../../registry.key')",
    "FROM read_csv('{lake}/registry.key')",
    "FROM read_json('{lake}/registry.key')",
    "FROM read_blob('{lake}/registry.sqlite')",
    "FROM sniff_csv('{lake}/registry.key')",
    "FROM parquet_metadata('{lake}/registry.key')",
    "FROM sqlite_scan('{lake}/registry.sqlite', 'users')",
    "FROM '{lake}/registry.sqlite'",
    "FROM '{lake}/landing/aws/bill.csv'",
    "FROM read_text('{lake}/cost_line_items/link')",
    "FROM glob('{lake}/*')",
    "FROM glob('{lake}/landing/**')",
    "FROM glob('/etc/*')",
    "FROM read_text('/etc/passwd')",
    "FROM read_text('{temp}/half-made.txt')",
    "FROM read_text('{lake}/registry.key') UNION ALL SELECT 1",
    "EXPLAIN ANALYZE FROM read_text('{lake}/registry.key')",
    "FROM query('FROM read_text(''{lake}/registry.key'')')",
    "SELECT getenv('OCTO_SECRET_KEY')",
    "FROM duckdb_secrets(redact = false)",
    "FROM read_text('http://127.0.0.1:{port}/x')",
    "FROM 'http://127.0.0.1:{port}/x.parquet'",
    "FROM read_text('s3://bucket/x?s3_endpoint=127.0.0.1:{port}')",
    ".read {lake}/registry.key",
    ".shell id",
]


@pytest.mark.parametrize("read", READS)
def test_what_is_not_a_table_cannot_be_read(
    workspace: Workspace, tmp_path: Path, read: str, other_host: "OtherHost"
) -> None:
    """Regression: a viewer read the registry's key with `FROM read_text('…/registry.key')`."""
    lake = tmp_path / "lake"
    (lake / "cost_line_items" / "link").symlink_to(lake / "registry.key")
    partition = workspace.lake.path("cost_line_items", MONTH)
    places = {"lake": lake, "partition": partition, "temp": tmp_path / "temp", "port": other_host.port}
    message = refusal(read.format(**places))
    assert KEY not in message
    assert other_host.requests == []


def test_nothing_of_the_program_can_be_queried(workspace: Workspace) -> None:
    """Regression: DuckDB's Python package reads variables of the code that calls it as tables."""
    import pandas

    with asking(workspace) as connection:
        frame = pandas.DataFrame({"a": [1]})  # noqa: F841 - its name is in the query
        with pytest.raises(OctoError, match="frame"):
            list(answers(connection, "FROM frame"))


def test_the_engine_itself_writes_to_no_partition(workspace: Workspace) -> None:
    """If a statement ever slipped past the check of its kind."""
    partition = workspace.lake.path("cost_line_items", MONTH)
    with asking(workspace) as connection:
        for statement in (
            f"COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)",
            f"COPY (SELECT 1 AS a) TO '{partition.parent}/new.parquet' (FORMAT parquet)",
            "SET allowed_paths = ['/etc/passwd']",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)


def test_a_prompt_sees_months_that_come_while_it_is_open(workspace: Workspace, tmp_path: Path) -> None:
    from octo_pipeline.cli import sql

    shown = []

    def statements(is_person: bool) -> Iterator[str]:
        yield "SELECT count(DISTINCT month) FROM cost_line_items"
        lines = [
            *USAGE_OF_10_AND_30,
            USAGE_OF_10_AND_30[0].__class__(**{**vars(USAGE_OF_10_AND_30[0]), "billing_month": "2024-02"}),
        ]
        write_lines(workspace, tmp_path, lines)
        yield "SELECT count(DISTINCT month) FROM cost_line_items"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "_statements", statements)
        patch.setattr(sql, "print_rows", lambda title, columns, rows, output: shown.append(rows))
        assert octo("sql").exit_code == 0
    assert shown == [[(1,)], [(2,)]]


def test_a_file_of_something_else_in_a_table_is_a_sentence(workspace: Workspace) -> None:
    """Regression: after a partition was overwritten, every `octo sql` ended in a traceback."""
    partition = workspace.lake.path("cost_line_items", MONTH)
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS a) TO '{partition}' (FORMAT parquet)")
    assert refusal("SELECT 1").startswith("A file of the table cost_line_items cannot be read: ")


def test_a_question_may_be_larger_than_memory(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTO_MEMORY_LIMIT", "60MB")
    query = "SELECT count(*) FROM (SELECT hash(range) AS h FROM range(8000000) ORDER BY h OFFSET 1)"
    result = octo("sql", query, "-o", "csv")
    assert result.stdout.splitlines()[1:] == ["7999999"], result.exception
    assert [path.name for path in (tmp_path / "temp").iterdir()] == ["half-made.txt"]


class OtherHost:
    """A server that must never be asked."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        requests = self.requests

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append(self.path)
                self.send_error(404)

            do_HEAD = do_PUT = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port


@pytest.fixture
def other_host() -> Iterator[OtherHost]:
    host = OtherHost()
    thread = threading.Thread(target=host.server.serve_forever, daemon=True)
    thread.start()
    yield host
    host.server.shutdown()
    thread.join(timeout=10)
    host.server.server_close()


def test_a_bucket_is_asked_for_its_partitions_only(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_host: OtherHost
) -> None:
    """In a bucket a name can lead elsewhere: by `..`, and to another host by what follows a question mark."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3_server.bucket()
    url = f"s3://{bucket}/lake"
    (tmp_path / "config" / "cost_groups").mkdir(parents=True)
    workspace = Workspace(Settings(lake=url, config=tmp_path / "config", temp=tmp_path / "temp"))
    assert str(lake_root(url, tmp_path / "temp")) == url
    write_lines(workspace, tmp_path, USAGE_OF_10_AND_30)
    s3_server.client().put_object(Bucket=bucket, Key="lake/landing/bill.csv", Body=b"landed")
    partition = workspace.lake.path("cost_line_items", MONTH)
    elsewhere = f"s3_endpoint=127.0.0.1:{other_host.port}&s3_use_ssl=false"
    with asking(workspace) as connection:
        (answer,) = answers(connection, "SELECT sum(billed_cost)::VARCHAR FROM cost_line_items")
        assert answer.rows == [("40.0000000000",)]
        for read in (
            f"FROM read_text('{url}/landing/bill.csv')",
            f"FROM read_text('{url}/cost_line_items/../landing/bill.csv')",
            f"FROM read_text('{partition}/../../../landing/bill.csv')",
            f"FROM glob('{url}/*')",
            f"FROM read_parquet('{partition}?{elsewhere}')",
            f"FROM '{partition}?{elsewhere}'",
            f"FROM 's3://{bucket}/lake/cost_line_items/x.parquet?{elsewhere}'",
            f"FROM read_text('http://127.0.0.1:{other_host.port}/x')",
            f"COPY (SELECT 1) TO '{partition}'",
        ):
            with pytest.raises(OctoError):
                list(answers(connection, read))
    assert other_host.requests == []


def test_the_views_are_those_of_the_tables(workspace: Workspace) -> None:
    with asking(workspace) as connection:
        (answer,) = answers(connection, "SHOW TABLES")
    assert [name for (name,) in answer.rows] == sorted(table.name for table in TABLES)

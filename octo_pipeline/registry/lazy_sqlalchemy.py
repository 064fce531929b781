"""The names of SQLAlchemy and the registry's tables, imported when the first of them is used.

Importing SQLAlchemy takes 0.15 to 0.3 s, and in most commands there is no registry, so a registry that does not exist
is read without it. This is the only lazy import: other modules write `sql.select(sql.USERS)`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import (
        ColumnElement,
        Connection,
        DateTime,
        Engine,
        Integer,
        MetaData,
        Select,
        Table,
        column,
        create_engine,
        event,
        exists,
        func,
        inspect,
        make_url,
        or_,
        select,
        table,
    )
    from sqlalchemy.exc import ArgumentError, CompileError, DBAPIError
    from sqlalchemy.pool import NullPool

    from octo_pipeline.registry.schema import (
        ANSWERS,
        AUDIT_EVENTS,
        DECISIONS,
        DOCUMENT_VERSIONS,
        METADATA,
        PERIOD_EVENTS,
        REGISTERED_ACCOUNTS,
        SECRETS,
        SESSIONS,
        TOKENS,
        USERS,
    )
else:

    def __getattr__(name: str) -> Any:
        import sqlalchemy.exc

        from octo_pipeline.registry import schema

        for module in (schema, sqlalchemy, sqlalchemy.exc):
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module {__name__} has no attribute {name}")


__all__ = [
    "ANSWERS",
    "AUDIT_EVENTS",
    "DECISIONS",
    "DOCUMENT_VERSIONS",
    "METADATA",
    "PERIOD_EVENTS",
    "REGISTERED_ACCOUNTS",
    "SECRETS",
    "SESSIONS",
    "TOKENS",
    "USERS",
    "ArgumentError",
    "ColumnElement",
    "CompileError",
    "Connection",
    "DBAPIError",
    "DateTime",
    "Engine",
    "Integer",
    "MetaData",
    "NullPool",
    "Select",
    "Table",
    "column",
    "create_engine",
    "event",
    "exists",
    "func",
    "inspect",
    "make_url",
    "or_",
    "select",
    "table",
]

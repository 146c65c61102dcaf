"""The embedded store's SQL port: ClickHouse's HTTP interface over chDB, behind a read-only gate."""

from consumer.sql.front import sql_app
from consumer.sql.gate import Limits

__all__ = ["Limits", "sql_app"]

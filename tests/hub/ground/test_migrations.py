"""The migrations make exactly the tables that the code declares, on an old database and on none."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from edgewise_hub import migrations
from edgewise_hub.database import Database
from edgewise_hub.hub import Hub


def test_migrating_an_empty_database_leaves_no_difference_to_the_tables(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    migrations.upgrade(database)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, migrations.metadata())
    database.close()
    assert differences == []


def test_migrating_again_changes_nothing(hub: Hub, token: str) -> None:
    migrations.upgrade(hub.database)
    with hub.database.read() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM api_tokens").scalar() == 1


def test_every_table_belongs_to_a_tenant() -> None:
    tables = migrations.metadata().tables
    assert len(tables) > 20
    for name, table in tables.items():
        assert next(iter(table.primary_key.columns)).name == "tenant_id", name

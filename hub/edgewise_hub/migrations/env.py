"""What Alembic runs: one connection to the database that ``migrations.config`` was given."""

from __future__ import annotations

from alembic import context

from edgewise_hub.migrations import metadata

engine = context.config.attributes["engine"].execution_options(edgewise_write=True)

with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata(),
        compare_type=True,
        render_as_batch=True,
        transactional_ddl=True,  # SQLite too: database.py begins its transactions itself
    )
    with context.begin_transaction():
        context.run_migrations()

"""The database's migrations (Alembic), run by the hub at every start.

To add one after changing a table: ``python -m edgewise_hub.migrations "what changes"`` writes the next file; read it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import MetaData

from edgewise_hub.api import tables as api_tables
from edgewise_hub.database import Base, Database
from edgewise_hub.experiments import tables as experiment_tables
from edgewise_hub.fleet import tables as fleet_tables
from edgewise_hub.jobs import tables as job_tables
from edgewise_hub.learning import tables as learning_tables
from edgewise_hub.monitoring import tables as monitoring_tables
from edgewise_hub.registry import tables as registry_tables
from edgewise_hub.rollouts import tables as rollout_tables

TABLES = (
    api_tables,
    experiment_tables,
    fleet_tables,
    job_tables,
    learning_tables,
    monitoring_tables,
    registry_tables,
    rollout_tables,
)
"""Every module that declares tables: imported, so that ``metadata`` knows them all."""


def metadata() -> MetaData:
    """The tables as the code declares them."""
    return Base.metadata


def config(database: Database) -> Config:
    """Alembic's configuration for one database; there is no alembic.ini."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["engine"] = database.engine
    return made


def upgrade(database: Database) -> None:
    """Bring the database to the newest revision; does nothing when it is there."""
    command.upgrade(config(database), "head")

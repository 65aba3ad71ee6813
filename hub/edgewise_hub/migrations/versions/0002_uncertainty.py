"""How far a window's time may be off."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Windows that are there already come from devices that did not say."""
    op.add_column("windows", sa.Column("uncertainty", sa.Double(), nullable=True))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("windows", "uncertainty")

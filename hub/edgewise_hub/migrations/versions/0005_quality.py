"""What happens to inputs of a model that do not look right."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of the models that are there, the hub says nothing."""
    op.add_column("models", sa.Column("quality", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("models", "quality")

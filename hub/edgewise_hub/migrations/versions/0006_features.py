"""Which features of the inputs of a window have something against them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of the windows that are there, nothing is known."""
    op.add_column("windows", sa.Column("quality", sa.JSON(), nullable=False, server_default=sa.text("'{}'")))


def downgrade() -> None:
    """Forget them."""
    op.drop_column("windows", "quality")

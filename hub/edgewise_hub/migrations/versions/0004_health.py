"""How devices are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The table of the stream ``health``."""
    op.create_table(
        "health",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("uncertainty", sa.Double(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.Column("gauges", sa.JSON(), nullable=False),
        sa.Column("totals", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "device_id", "epoch", "first", name=op.f("pk_health")),
    )
    op.create_index("ix_health_device", "health", ["tenant_id", "device_id", "received_at"], unique=False)
    op.create_index("ix_health_received_at", "health", ["tenant_id", "received_at"], unique=False)


def downgrade() -> None:
    """Forget them."""
    op.drop_table("health")

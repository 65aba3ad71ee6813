"""Experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Experiments, who takes part, and what they report."""
    op.create_table(
        "experiment_devices",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.Column("left_at", sa.Double(), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=True),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("measured", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "experiment_id", "device_id", name=op.f("pk_experiment_devices")),
    )
    op.create_index("ix_experiment_devices_device", "experiment_devices", ["tenant_id", "device_id"], unique=False)

    op.create_table(
        "experiment_windows",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("experiment_id", sa.String(length=32), nullable=False),
        sa.Column("sums", sa.LargeBinary(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.Double(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("uncertainty", sa.Double(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "device_id", "epoch", "first", name=op.f("pk_experiment_windows")),
    )
    op.create_index(
        "ix_experiment_windows_counted", "experiment_windows", ["tenant_id", "experiment_id", "counted"], unique=False
    )
    op.create_index(
        "ix_experiment_windows_received_at", "experiment_windows", ["tenant_id", "received_at"], unique=False
    )

    op.create_table(
        "experiments",
        sa.Column("tenant_id", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("group_name", sa.String(length=64), nullable=True),
        sa.Column("control", sa.BigInteger(), nullable=False),
        sa.Column("candidate", sa.BigInteger(), nullable=True),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.Column("rollout_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_experiments")),
    )
    op.create_index("ix_experiments_state", "experiments", ["tenant_id", "state"], unique=False)


def downgrade() -> None:
    """Forget them."""
    op.drop_index("ix_experiments_state", table_name="experiments")

    op.drop_table("experiments")
    op.drop_index("ix_experiment_windows_received_at", table_name="experiment_windows")
    op.drop_index("ix_experiment_windows_counted", table_name="experiment_windows")

    op.drop_table("experiment_windows")
    op.drop_index("ix_experiment_devices_device", table_name="experiment_devices")

    op.drop_table("experiment_devices")

"""The application role: what every process but the migration job connects as."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Roles live in the cluster, not in one database: several databases may share it and migrate at the same time.
    op.execute(
        """
        do $$ begin
          create role lyceum_app nologin;
        exception when duplicate_object or unique_violation then null;
        end $$
        """
    )
    op.execute("grant usage on schema public to lyceum_app")
    op.execute("alter default privileges in schema public grant select, insert, update, delete on tables to lyceum_app")
    op.execute("alter default privileges in schema public grant usage, select on sequences to lyceum_app")


def downgrade() -> None:
    op.execute("alter default privileges in schema public revoke all on tables from lyceum_app")
    op.execute("alter default privileges in schema public revoke all on sequences from lyceum_app")
    op.execute("revoke usage on schema public from lyceum_app")

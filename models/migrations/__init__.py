"""Alembic migrations, one linear chain; `runner.upgrade` applies them."""

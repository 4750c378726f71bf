"""Postgres and Redis. SQL lives here."""

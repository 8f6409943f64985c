#!/bin/sh
# Runs once, on an empty data directory: one role for each thing that is done with the database.
#
#   lyceum_owner  owns the schema; only the setup job knows its password. It may create roles because the first
#                 migration creates the group `lyceum_app` where it is missing.
#   lyceum        what every process connects as: a member of `lyceum_app`, which reads and writes rows
#   temporal      owns Temporal's two databases and sees nothing else
set -eu

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
  -v owner="$LYCEUM_OWNER_PASSWORD" -v app="$LYCEUM_DB_PASSWORD" -v temporal="$TEMPORAL_DB_PASSWORD" <<'SQL'
create role lyceum_owner login createrole password :'owner';
create role lyceum_app nologin admin lyceum_owner;
create role lyceum login password :'app' in role lyceum_app;
create role temporal login password :'temporal';

create database lyceum owner lyceum_owner;
create database temporal owner temporal;
create database temporal_visibility owner temporal;

revoke connect, temporary on database lyceum, temporal, temporal_visibility from public;
grant connect on database lyceum to lyceum_app;
SQL

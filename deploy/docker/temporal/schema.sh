#!/bin/sh
# Brings Temporal's databases to this release's schema. Safe to repeat.
set -eu

tool() {
  database=$1
  shift
  temporal-sql-tool --plugin postgres12 --ep postgres --port 5432 --user temporal --db "$database" "$@"
}

schema=/etc/temporal/schema/postgresql/v12
tool temporal setup-schema -v 0.0
tool temporal update-schema -d "$schema/temporal/versioned"
tool temporal_visibility setup-schema -v 0.0
tool temporal_visibility update-schema -d "$schema/visibility/versioned"

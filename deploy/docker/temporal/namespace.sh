#!/bin/sh
# Registers the namespace and its search attributes. Safe to repeat.
set -eu

# The server needs a moment to come up, and a new namespace reaches its caches only after a few seconds.
attempts=120
again() {
  attempts=$((attempts - 1))
  if [ "$attempts" -eq 0 ]; then
    echo "gave up waiting for Temporal at $TEMPORAL_ADDRESS" >&2
    exit 1
  fi
  sleep 1
}

until temporal operator cluster health >/dev/null 2>&1; do again; done

if ! temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

attribute() {
  until temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE" 2>/dev/null | grep -qw "$1"; do
    temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$1" --type "$2" || again
  done
}

attribute LyceumKind Keyword
attribute LyceumState Keyword
attribute LyceumCourse Keyword
attribute LyceumStuckSince Datetime

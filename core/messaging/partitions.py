"""How relays share the outbox: a subject hashes to a partition, and one relay at a time owns a partition.

All of it is PostgreSQL advisory locks in the two-key space `(class, number)`; they end with the session that took
them, so a killed relay's partitions are free at once, and those of a lost host within half a minute.
"""

PARTITIONS = 8
"""A power of two. Changing it needs every relay and every emitting process stopped."""

OWNER = 0x4F5742
"""`(OWNER, partition)`, exclusive: who publishes the partition."""

MEMBER = 0x4F584D
"""`(MEMBER, 0)`, shared: a relay is alive and wants its share."""

ASLEEP = 0x4F5853
"""`(ASLEEP, partition)`, exclusive: the owner sleeps and wants a notification."""

CHANNEL = "outbox"
"""LISTEN/NOTIFY channel that wakes sleeping relays."""

"""Prometheus metrics of the messaging processes and the operators' gauges; served on `/metrics`."""

from prometheus_client import Counter, Gauge, Histogram

OUTBOX_LAG = Gauge("lyceum_outbox_lag_seconds", "Age of the oldest event that is not published yet")
OUTBOX_ROWS = Gauge("lyceum_outbox_rows", "Events that are not published yet (counted up to 100,000)")
RELAY_PARTITIONS = Gauge("lyceum_relay_partitions", "Outbox partitions this relay publishes")
RELAY_FAILURES = Counter("lyceum_relay_failures_total", "Times the relay lost PostgreSQL or RabbitMQ", ["error"])
EVENTS_PUBLISHED = Counter("lyceum_events_published_total", "Events the broker confirmed", ["type"])

QUEUE_DEPTH = Gauge("lyceum_queue_depth", "Messages ready in a queue", ["queue"])
QUEUE_CONSUMERS = Gauge("lyceum_queue_consumers", "Processes subscribed to a queue", ["queue"])
PROCESSES_STUCK = Gauge("lyceum_processes_stuck", "Processes whose current step has failed for too long", ["kind"])

EVENTS_HANDLED = Counter(
    "lyceum_consumer_events_total", "Deliveries by outcome: handled, duplicate, ignored, dead", ["consumer", "outcome"]
)
HANDLER_FAILURES = Counter("lyceum_consumer_failures_total", "Attempts that raised", ["consumer", "error"])
HANDLER_SECONDS = Histogram("lyceum_consumer_handle_seconds", "Time one attempt took", ["consumer"])
EVENT_AGE = Histogram(
    "lyceum_consumer_event_age_seconds",
    "Time from the event to the end of its handling",
    ["consumer"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)
MAILS = Counter("lyceum_mails_total", "Mails by outcome: sent, refused", ["kind", "outcome"])

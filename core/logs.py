"""Structured logs: one JSON object a line, with the ids of what is being worked on, and no secrets."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor

from core.settings import TelemetrySettings

_QUIET = ("asyncio", "boto3", "botocore", "httpx2", "opensearch", "s3transfer", "urllib3")
_SILENT = ("aio_pika", "aiormq")
"""Their every failure is raised to our loops as well, which log it once."""

_SECRET_KEY = re.compile(
    r"(passw|secret|token|authorization|cookie|api_?key|private_?key|signature|card|cvc|credential)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}"
    r"|(?P<url>\w://[^\s:/@]*:)[^\s@/]+(?=@)"
    r"|\b(?:sk|rk|whsec)_[A-Za-z0-9_]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|(?P<digits>(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-]))",
    re.IGNORECASE,
)
MASK = "***"


def _luhn(digits: str) -> bool:
    total = 0
    for position, digit in enumerate(int(c) for c in reversed(digits)):
        doubled = digit * 2 if position % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _replace(match: re.Match[str]) -> str:
    digits = match["digits"]
    if digits is not None:
        return MASK if _luhn(re.sub(r"\D", "", digits)) else digits
    return (match["scheme"] or match["url"] or "") + MASK


def mask(value: Any) -> Any:
    """`value` without what looks like a credential or a card number, however deep it sits."""
    if isinstance(value, str):
        return _SECRET_VALUE.sub(_replace, value)
    if isinstance(value, Mapping):
        return {key: _mask_field(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [mask(item) for item in value]
    return value


@lru_cache(maxsize=1000)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None and not key.endswith(("_id", "_type", "_ttl"))


def _mask_field(key: str, value: Any) -> Any:
    return MASK if value is not None and _is_secret(key) else mask(value)


def _masking(_: Any, __: str, event: EventDict) -> EventDict:
    return {key: value if key.startswith("_") else _mask_field(key, value) for key, value in event.items()}


def _tracing(_: Any, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
        event["span_id"] = f"{context.span_id:016x}"
    return event


def _temporal(_: Any, __: str, event: EventDict) -> EventDict:
    """The ids of the workflow or activity whose logger wrote the record, as fields."""
    record = event.get("_record")
    info = getattr(record, "temporal_activity", None) or getattr(record, "temporal_workflow", None)
    if isinstance(info, Mapping):
        event.update({key: info[key] for key in ("workflow_id", "workflow_type", "activity_type") if key in info})
        noun, _, subject = str(info.get("workflow_id", "")).partition("-")
        if subject:
            event.setdefault(f"{noun}_id", subject)
    return event


def _one_line(_: Any, __: str, event: EventDict) -> EventDict:
    """The console is for people: what came from outside must not draw lines of its own there."""
    event["event"] = str(event["event"]).encode("unicode_escape").decode()
    return event


def _json(event: MutableMapping[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(settings: TelemetrySettings, service: str) -> None:
    """Sends structlog's and the standard library's records to standard output in one format."""

    def name_service(_: Any, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_service,
        _tracing,
        _temporal,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _masking,
    ]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if settings.log_format == "json":
        last.append(structlog.processors.JSONRenderer(serializer=_json))
    else:
        last += [_one_line, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # What no line shows is not collected: Python's "Optimization" section of the logging manual.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.captureWarnings(True)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log.info("order paid", order_id=…)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


@contextmanager
def bound(**ids: object) -> Iterator[None]:
    """Every line logged inside carries these: `with bound(order_id=order.id): …`."""
    with structlog.contextvars.bound_contextvars(**{key: str(value) for key, value in ids.items()}):
        yield

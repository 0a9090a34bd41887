"""JSON lines on standard output, without secrets."""

import json
import logging
import re
from datetime import UTC, datetime

# Credentials have recognisable shapes: ours, the providers', and whatever stands behind an authorisation word.
SECRET = re.compile(
    r"cush_[A-Za-z0-9_]{8,}|\bsk-[A-Za-z0-9_-]{8,}|(?i:bearer|x-api-key|api-key|[?&]key)[=: ]+[^\s&'\",]{8,}"
)


def redact(text: str) -> str:
    """Replace everything in `text` that looks like a credential."""
    return SECRET.sub("[redacted]", text)


class WrongHost(logging.Filter):
    """Says of a host name that is not ours which variable allows it; where in the code it was seen helps nobody."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Reword the record, and let it pass."""
        seen = record.getMessage().partition(" You may need")[0]
        record.msg, record.args = f"{seen} CUSTOMHOUSE_ALLOWED_HOSTS has the host names that are answered to.", ()
        record.exc_info = record.exc_text = None
        return True


class JsonFormatter(logging.Formatter):
    """One record as one JSON line; control characters are escaped, long messages cut at 4 KiB."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage())[:4096],
        }
        if call_id := getattr(record, "call_id", None):
            line["call_id"] = str(call_id)
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))[-4096:]
        return json.dumps(line, ensure_ascii=True)

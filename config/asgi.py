"""The one ASGI application: programs go to the gateway, people and REST to Django.

`CUSTOMHOUSE_ROLE` (set by `serve --role`) may leave only one of the two doors open. `/metrics` is behind both, for
each process counts what it does itself.
"""

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.signals import request_finished
from django.db import connections

from config import postgres

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
if settings.EMBEDDED_POSTGRES:
    postgres.acquire(settings.BASE_DIR)
django = get_asgi_application()


def close_connections(**_: Any) -> None:
    """Close what a request opened: its thread ends with it, and nobody could use its connections again."""
    connections.close_all()


request_finished.connect(close_connections)

# These modules need Django to be set up.
from config.body_caps import capped  # noqa: E402
from monitoring.listeners import model_labels  # noqa: E402
from proxy.answers import send_json  # noqa: E402
from proxy.door import Door  # noqa: E402

ROLE = os.environ.get("CUSTOMHOUSE_ROLE", "all")
door = Door(has_gateway=ROLE != "web")
if ROLE != "web":
    model_labels.keep_fresh()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Dispatch by path, before Django's handler costs a millisecond."""
    if scope["type"] == "lifespan":
        await door.lifespan(receive, send)
    elif door.serves(scope["path"]):
        await door(scope, receive, send)
    elif ROLE == "gateway" and scope["path"] != "/metrics":
        await send_json(send, 404, {"detail": "This process serves programs only."})
    else:
        receive, send = capped(receive, send)
        await django(scope, receive, send)

"""Style sheets arrive whole, in part and not at all, as asked for."""

import asyncio

from django.test import AsyncClient, Client

CSS = "/static/console/site.css"


def test_a_file_is_not_streamed_which_asgi_would_warn_of() -> None:
    answer = asyncio.run(AsyncClient().get(CSS))
    assert (answer.status_code, answer.streaming, answer["Content-Type"]) == (200, False, 'text/css; charset="utf-8"')
    assert len(answer.content) == int(answer["Content-Length"]) > 1000


def test_a_part_of_a_file_is_that_part() -> None:
    whole = Client().get(CSS).content
    answer = Client(headers={"Range": "bytes=3-9"}).get(CSS)
    assert (answer.status_code, answer.content) == (206, whole[3:10])


def test_a_file_that_the_client_has_is_not_sent_again() -> None:
    since = Client().get(CSS)["Last-Modified"]
    answer = Client(headers={"If-Modified-Since": since}).get(CSS)
    assert (answer.status_code, answer.content) == (304, b"")

"""Commands as programs: how they end, what they write, and what they never write."""

import json
import socket
from pathlib import Path

import pytest

from integrations.models import Credential, MasterKeyCanary
from tests.commands.asking import free_port, program
from tests.people import acme

SECRET = "sk-proj-canary-5d1f0a77c2e94b"
PASSWORD = "a-long-password-7"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]


def test_init_runs_again_and_changes_nothing() -> None:
    first, second = program("init", "--json"), program("init", "--json")
    assert (first.status, second.status) == (0, 0)
    shown = json.loads(second.out)
    assert shown["migrated"] == 0
    assert shown["master_key"] == "CUSTOMHOUSE_MASTER_KEY"


def test_init_makes_an_operator_once() -> None:
    words = ("init", "--email", "ops@example.com", "--password-stdin", "--json")
    assert json.loads(program(*words, stdin=PASSWORD).out)["operator"] == "ops@example.com"
    again = program("init", "--email", "ops@example.com", "--json")
    assert (again.status, json.loads(again.out)["operator"]) == (0, "ops@example.com")


def test_an_operator_needs_a_password() -> None:
    ended = program("init", "--email", "ops@example.com")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: Give the password with --password-stdin")


def test_a_person_of_a_customer_does_not_become_an_operator() -> None:
    acme()
    ended = program("init", "--email", "alice@acme.example", "--password-stdin", "--json", stdin=PASSWORD)
    assert (ended.status, json.loads(ended.out)["error"]["code"]) == (1, "person_exists")


def test_neither_key_nor_password_is_ever_written() -> None:
    acme()
    words = ("--tenant", "acme", "--name", "prod")
    ended = [
        program("integration", "create", *words, "--type", "openai", "--key-stdin", "--json", stdin=SECRET),
        program("integration", "create", *words, "--type", "openai", "--key-stdin", stdin=SECRET),
        program("integration", "set-key", *words, "--key-stdin", stdin=f"{SECRET} {SECRET}"),
        program("integration", "set-key", *words, "--key-reference", SECRET),
        program("member", "add", "--tenant", "acme", "--email", "d@acme.example", "--password-stdin", stdin=PASSWORD),
    ]
    written = "".join(each.out + each.err for each in ended)
    assert [each.status for each in ended] == [0, 1, 1, 1, 0]
    assert SECRET not in written
    assert PASSWORD not in written


def test_every_bad_variable_is_named_at_once_on_lines_of_text() -> None:
    ended = program("tenant", "list", CUSTOMHOUSE_PORT="none", CUSTOMHOUSE_LOG_LEVEL="loud")
    assert ended.status == 1
    assert "CUSTOMHOUSE_PORT" in ended.err
    assert "CUSTOMHOUSE_LOG_LEVEL" in ended.err
    assert "Traceback" not in ended.err


def test_a_bad_variable_is_a_document_for_programs() -> None:
    ended = program("tenant", "list", "--json", CUSTOMHOUSE_PORT="none")
    assert (ended.status, json.loads(ended.out)["error"]["code"]) == (1, "not_started")


def test_a_database_that_does_not_answer_is_one_line() -> None:
    ended = program("tenant", "list", DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/none")
    assert ended.status == 1
    assert ended.err.startswith("error: The database says: ")
    assert len(ended.err.splitlines()) == 1
    assert "hunter2" not in ended.err


def test_help_needs_no_database() -> None:
    ended = program("key", "create", "--help", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert ended.status == 0
    assert "shown this once" in ended.out


def test_serve_wants_its_secrets() -> None:
    ended = program("serve", "--json", CUSTOMHOUSE_SECRET_KEY="", CUSTOMHOUSE_SECRET_KEY_FILE="/dev/null")
    assert ended.status == 1
    assert json.loads(ended.out)["error"]["code"] == "not_configured"


def test_serve_names_a_busy_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        ended = program("serve", "--port", port)
    assert ended.status == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in ended.err


@pytest.mark.parametrize("words", [("--workers", "0"), ("--workers", "x"), ("--role", "none")])
def test_serve_refuses_wrong_arguments(words: tuple[str, str]) -> None:
    assert program("serve", *words).status == 2


def test_serve_refuses_a_port_that_is_none() -> None:
    ended = program("serve", "--port", "70000")
    assert ended.status == 1
    assert "CUSTOMHOUSE_PORT" in ended.err


def test_serve_refuses_another_master_key_than_the_one_in_use(tmp_path: Path) -> None:
    acme()
    program("integration", "create", "--tenant", "acme", "--name", "p", "--type", "openai", "--key-stdin", stdin=SECRET)
    other = "b3RoZXItb3RoZXItb3RoZXItb3RoZXItb3RoZXItMzI="
    before = list(Credential.objects.values()), list(MasterKeyCanary.objects.values())
    ended = program("serve", "--port", free_port(), "--json", CUSTOMHOUSE_MASTER_KEY=other)
    assert (ended.status, json.loads(ended.out)["error"]["code"]) == (1, "master_key")
    words = ("integration", "set-key", "--tenant", "acme", "--name", "p", "--key-stdin", "--json")
    ended = program(*words, stdin="sk-canary-of-another-key", CUSTOMHOUSE_MASTER_KEY=other)
    assert (ended.status, json.loads(ended.out)["error"]["code"]) == (1, "vault_error")
    assert before == (list(Credential.objects.values()), list(MasterKeyCanary.objects.values()))
    assert len(before[0]) == 1

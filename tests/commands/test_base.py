"""What all commands have in common: two forms of output, exit codes, errors of one line."""

import json
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from accounts.commands import (
    CommandFailed,
    Exit,
    Options,
    VerbCommand,
    argument,
    moment,
    one_of,
    secret_arguments,
    secret_from,
    verb,
    words,
)
from accounts.printing import Record, as_json, as_text, cell
from accounts.tables import as_table


class Sunk(Exception):
    """The ship is sunk."""


class Ship(VerbCommand):
    help = "Ships."
    expected = (Sunk,)
    sayings = {"ships_name_once": "There is a ship of that name."}

    @verb("list", "List ships.")
    def listing(self, options: Options) -> list[Record]:
        return [{"name": "Argo", "crew": 50}, {"name": "Fram", "crew": None}]

    @verb("sink", "Sink a ship.", argument("--how", default="plainly"), one_of(*secret_arguments("key", "a key")))
    def sink(self, options: Options) -> Record:
        self.note("Sinking.")
        match options.how:
            case "domain":
                raise Sunk(Sunk.__doc__)
            case "constraint":
                raise ValidationError("Constraint “ships_name_once” is violated.")
            case "fields":
                raise ValidationError({"name": ["Too long."], "crew": ["Too many."]})
            case "locked":
                raise CommandFailed("Another one is at it.", code="locked", status=Exit.LOCKED)
        return {"key": secret_from(options, "key")}


def run(*words: str) -> tuple[int, str, str]:
    """Run the command as a program would: its status, standard output and standard error."""
    out, err = StringIO(), StringIO()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        Ship(stdout=out, stderr=err).run_from_argv(["manage.py", "ship", *words])
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout, sys.stderr = before
    return status, out.getvalue(), err.getvalue()


def test_a_result_is_tab_separated_in_a_pipe() -> None:
    assert run("list") == (0, "name\tcrew\nArgo\t50\nFram\t\n", "")


@pytest.mark.parametrize("order", [("list", "--json"), ("--json", "list")])
def test_a_result_is_one_json_document_wherever_the_option_stands(order: tuple[str, str]) -> None:
    status, out, _ = run(*order)
    assert status == 0
    assert json.loads(out) == [{"name": "Argo", "crew": 50}, {"name": "Fram", "crew": None}]


def test_what_is_not_the_result_goes_to_standard_error() -> None:
    status, out, err = run("sink", "--json")
    assert (status, json.loads(out), err) == (0, {"key": None}, "Sinking.\n")


def test_an_error_is_one_line_and_status_1() -> None:
    assert run("sink", "--how", "domain") == (1, "", "Sinking.\nerror: The ship is sunk.\n")


def test_an_error_is_a_document_for_programs() -> None:
    status, out, _ = run("sink", "--how", "domain", "--json")
    assert status == 1
    assert json.loads(out) == {"error": {"code": "sunk", "message": "The ship is sunk."}}


def test_a_constraint_is_put_into_words() -> None:
    assert run("sink", "--how", "constraint")[2].endswith("error: There is a ship of that name.\n")


def test_every_bad_field_is_named() -> None:
    assert run("sink", "--how", "fields")[2].endswith("error: name: Too long. crew: Too many.\n")


def test_wrong_arguments_are_status_2() -> None:
    status, out, err = run("sail")
    assert (status, out) == (2, "")
    assert "invalid choice: 'sail'" in err


def test_wrong_arguments_are_a_document_for_programs() -> None:
    status, out, err = run("sail", "--json")
    assert (status, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "usage"


def test_an_error_may_choose_its_status() -> None:
    assert run("sink", "--how", "locked")[0] == 4


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("open sesame\n")
    assert json.loads(run("sink", "--json", "--key-file", str(tmp_path / "key"))[1]) == {"key": "open sesame"}


def test_a_secret_file_that_is_absent_is_named(tmp_path: Path) -> None:
    status, _, err = run("sink", "--key-file", str(tmp_path / "none"))
    assert status == 1
    assert f"{tmp_path / 'none'} cannot be read: No such file" in err


def test_a_secret_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("open sesame\n"))
    assert json.loads(run("sink", "--json", "--key-stdin")[1]) == {"key": "open sesame"}


def test_an_empty_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("\n"))
    assert run("sink", "--key-stdin")[2].endswith("error: The key is empty.\n")


def test_a_secret_has_no_argument_of_its_own() -> None:
    assert run("sink", "--key", "open sesame")[0] == 2


def test_names_cannot_steer_a_terminal() -> None:
    hostile = [{"name": "\x1b[31mred\x07\u009b1m"}]
    assert "\x1b[31m" not in as_table(hostile)
    assert "\x1b" not in as_text(hostile)
    assert "\u009b" not in as_text(hostile)


def test_a_wide_row_stays_on_one_line_of_a_terminal() -> None:
    assert "x" * 300 in as_table([{"name": "x" * 300, "other": "y"}])


def test_json_has_times_and_none() -> None:
    at = datetime(2027, 3, 1, tzinfo=UTC)
    assert as_json({"at": at, "left": None}) == '{"at": "2027-03-01T00:00:00+00:00", "left": null}'


def test_values_are_shown_as_people_read_them() -> None:
    assert [cell(value) for value in (None, True, ["a", "b"], {"input": "1"})] == ["", "yes", "a, b", "input=1"]


def test_a_moment_is_a_day_a_time_or_an_age() -> None:
    assert moment("2027-03-01") == datetime(2027, 3, 1, tzinfo=UTC)
    assert moment("2027-03-01T12:00:00+02:00") == datetime(2027, 3, 1, 10, tzinfo=UTC)
    assert timedelta(hours=11, minutes=59) < moment("12h") - datetime.now(UTC) < timedelta(hours=12)


@pytest.mark.parametrize("text", ["tomorrow", "2027-03-01T12:00:00", "2027-13-01", "-3d"])
def test_a_moment_without_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="neither a day"):
        moment(text)


def test_lists_are_split_at_commas() -> None:
    assert words(" a, b,,c ") == ["a", "b", "c"]

"""What a command shows on a terminal. Loaded only there: no server and hardly any command of a script needs it."""

import shutil
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from accounts.printing import Shown, cell

WIDEST = 1000


def as_table(shown: Shown) -> str:
    """A table of one record or of many."""
    # Rows stay whole, however wide: half an id cannot be copied.
    width = shutil.get_terminal_size().columns if isinstance(shown, Mapping) else WIDEST
    console = Console(width=width, highlight=False, force_terminal=True)
    with console.capture() as capture:
        console.print(_table(shown))
    return capture.get()


def _table(shown: Shown) -> Table:
    if isinstance(shown, Mapping):
        table = Table(show_header=False, box=None)
        for name, value in shown.items():
            table.add_row(Text(name, style="bold"), Text(cell(value), overflow="fold"))
        return table
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in shown[0] if shown else ():
        table.add_column(name, no_wrap=True)
    for record in shown:
        table.add_row(*(Text(cell(value)) for value in record.values()))
    return table

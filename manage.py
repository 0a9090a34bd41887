#!/usr/bin/env python3
"""The one entry point: every command, and the server."""

import gc
import sys

# What is loaded stays: nobody looks for garbage in it, now or later. `config.apps` ends this when all of it is there.
gc.disable()

from config.entry import main  # noqa: E402

if __name__ == "__main__":
    main(sys.argv)

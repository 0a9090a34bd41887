#!/usr/bin/env python3
"""The one entry point: every command, and the server."""

import sys

from config.entry import main

if __name__ == "__main__":
    main(sys.argv)

"""The command line: ``python -m pycontainer``."""

from __future__ import annotations

import sys

from pycontainer._cli import main

if __name__ == "__main__":
    sys.exit(main())

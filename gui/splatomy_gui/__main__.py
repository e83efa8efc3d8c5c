"""``python -m splatomy_gui [PATH]``."""

import sys

from splatomy_gui.app import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m splatomy_gui [PATH]``."""

from splatomy_gui import ending
from splatomy_gui.app import main

if __name__ == "__main__":
    ending.will_end_with(main())

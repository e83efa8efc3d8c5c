"""``python -m splatomy_gui [PATH]``."""

from splatomy.background import end_now
from splatomy_gui.app import main

if __name__ == "__main__":
    # By now everything is saved and closed. Qt, VTK and the driver of the screen would take themselves apart
    # in an order that nobody chose, each with threads of its own; now and then that ended in a crash.
    end_now(main())

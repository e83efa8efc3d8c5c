"""``python -m splatomy``."""

import sys

from splatomy.cli.main import main

sys.exit(main())

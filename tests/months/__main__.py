"""python -m tests.months: see cli.py."""

import sys

from tests.months.cli import main

sys.exit(main())

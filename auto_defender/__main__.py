"""`python -m auto_defender` is the same as `auto-defender`."""

from auto_defender.cli import main

main()

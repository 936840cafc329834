"""`python -m streamd` is `streamd`."""

from streamd.cli import main

main()

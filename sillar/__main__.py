"""`python -m sillar`: the same as the command `sillar`."""

from sillar.cli import main

raise SystemExit(main())

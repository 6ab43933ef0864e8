"""`python -m sillar`: the same as the command `sillar`."""

from sillar.cli import main

if __name__ == "__main__":  # worker processes import this file under another name
    raise SystemExit(main())

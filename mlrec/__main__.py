"""`python -m mlrec`."""

from mlrec.cli.app import main

if __name__ == "__main__":
    main()

"""`python -m compress` is `kdc`."""

from compress.cli import main

if __name__ == "__main__":
    main()

"""`python -m daemon` is the same as `twofold`."""

from daemon.cli import main

if __name__ == "__main__":
    main()

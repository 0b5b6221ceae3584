"""The console script and ``python -m sync``."""

from sync.cli.main import main

if __name__ == "__main__":
    main()

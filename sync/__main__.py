"""The console script and ``python -m sync``."""

import gc

# What imports make stays for good: looking for garbage meanwhile takes as long as the imports.
gc.disable()

from sync.cli.main import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    main()

"""The console script and ``python -m sync``."""

import gc

# What imports make stays for good: looking for garbage meanwhile takes as long as the imports.
gc.disable()

import ctypes  # noqa: E402

from sync.cli.main import main  # noqa: E402

gc.freeze()
gc.enable()

# Of <malloc.h>: the size from which on a block is given back to the system when it is free.
_M_MMAP_THRESHOLD = -3
_LARGE_BYTES = 1 << 20

# glibc raises that size with the largest block it has seen. A page's copies then live between what
# stays, and the holes that they leave make a long backfill's memory creep up.
if hasattr(libc := ctypes.CDLL(None), "mallopt"):
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)

if __name__ == "__main__":
    main()

"""Finds a Chromium and says how to start it so that it keeps to itself."""

import os
import shutil
from pathlib import Path

VARIABLE = "RATCHET_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
MISSING = (
    "no browser was found: install Debian's (apt-get install chromium fonts-noto-core), "
    f"or let {VARIABLE} name a Chromium or Chrome"
)
ARGUMENTS = (
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing outside can even be looked up.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)


def found() -> Path | None:
    """The browser to drive: the one that RATCHET_BROWSER names, else one on the PATH, else None."""
    named = os.environ.get(VARIABLE)
    for name in (named,) if named else NAMES:
        path = shutil.which(name)
        if path is not None:
            return Path(path)
    return None

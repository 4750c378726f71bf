"""The console's pages, one module each. A new one needs no more than its file here and its words in console/words."""

import importlib
import pkgutil


def load() -> None:
    """Imports every page, so that each enters itself into the shell's registry."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")

"""The page of releases: all of them, or one with all that it came from."""

from console import parts, shell
from console.releases.listing import Releases
from console.releases.publishing import Publishing
from console.releases.release import ReleasePage
from console.words import t


@shell.page("/releases", nav="releases", icon="inventory_2", order=70)
def releases(release: str = "") -> None:
    """The page; `release` shows one, by its id."""
    with shell.frame(t("releases.title")) as frame:
        if release:
            ReleasePage(release)
            return
        dialog = Publishing()
        with frame.actions:
            parts.button(t("releases.publish"), dialog.open, symbol="upload", kind="primary")
        Releases(dialog.open)

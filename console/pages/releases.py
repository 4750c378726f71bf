"""The page of releases: all of them, or one with all that it came from."""

from console import shell
from console.releases.listing import Releases
from console.releases.release import ReleasePage
from console.words import t


@shell.page("/releases", nav="releases", icon="inventory_2", order=70)
def releases(release: str = "") -> None:
    """The page; `release` shows one, by its id."""
    with shell.frame(t("releases.title")):
        if release:
            ReleasePage(release)
        else:
            Releases()

"""The page of experiments: what is compared with what, and how it stands."""

from console import shell
from console.experiments.board import Board
from console.words import t


@shell.page("/experiments", nav="experiments", icon="science", order=90)
def experiments() -> None:
    """The page."""
    with shell.frame(t("experiments.title")):
        Board()

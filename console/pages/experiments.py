"""The page of experiments: what is compared with what, and how it stands."""

from console import parts, shell
from console.experiments.board import Board
from console.experiments.starting import Starting
from console.words import t


@shell.page("/experiments", nav="experiments", icon="science", order=90)
def experiments() -> None:
    """The page."""
    with shell.frame(t("experiments.title")) as frame:
        board = Board()
        dialog = Starting(board.load)
        with frame.actions:
            parts.button(t("experiments.new"), dialog.open, symbol="science", kind="primary")

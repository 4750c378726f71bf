"""The page of rollouts: all of them, or one with its evidence, its buttons and its audit."""

from console import parts, shell
from console.parts import el
from console.rollouts.listing import rollouts as listing
from console.rollouts.rollout import RolloutPage
from console.rollouts.starting import Starting
from console.words import t


@shell.page("/rollouts", nav="rollouts", icon="alt_route", order=80)
def rollouts(rollout: str = "") -> None:
    """The page; `rollout` shows one, by its id."""
    with shell.frame(t("rollouts.title")) as frame:
        if rollout:
            RolloutPage(rollout)
            return
        dialog = Starting()
        with frame.actions:
            parts.button(t("rollouts.new"), dialog.open, symbol="play_arrow", kind="primary")
        with el("div", "stack training-page"):
            listing(dialog.open)

"""A question before what can't be taken back: what it does, and two buttons."""

from console.dialog import Dialog, Send
from console.parts import el
from console.words import t


def confirming(page: str, name: str, act: Send, *, keep: str, symbol: str, about: str = "") -> Dialog:
    """A dialog about a deed. `name`: its own among the words of `page`, as in training.cancel; `about`: what it is done
    to; `keep`: the other button's words."""
    dialog = Dialog(act, t(f"{page}.{name}_dialog"))
    with dialog.body:
        if about:
            el("p", "dialog-what", about)
        el("p", "muted", t(f"{page}.{name}_text"))
    dialog.offer(keep, t(f"{page}.{name}"), kind="danger", symbol=symbol)
    return dialog

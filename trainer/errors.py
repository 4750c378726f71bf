"""What can go wrong in the trainer. Each text is one sentence that says what is wrong, where, and what to do."""


class TrainerError(Exception):
    """A run, a file or a setting that can't be used."""


class DataError(TrainerError):
    """Training data that can't be read or used: the text names the file and the line, or the rows."""


class TooLittleData(DataError):
    """There is not enough to train on, or to tell anything from."""


class Cancelled(TrainerError):
    """Somebody asked the run to stop."""


class LeaseLost(TrainerError):
    """Another trainer took the run over, since this one did not renew its lease in time."""


class StoreAway(TrainerError):
    """Postgres did not answer: what was asked of it may be asked again later."""


def unforeseen(error: Exception) -> str:
    """A sentence for what the system or a library refused: a full disk, a file where a folder belongs."""
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"The system refused it: {error.strerror}{where}."
    return str(error).strip().partition("\n")[0].rstrip(".") + "." if str(error).strip() else type(error).__name__ + "."

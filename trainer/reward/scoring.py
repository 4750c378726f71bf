"""Scores by a reward release without a server: ONNX Runtime on its directory, after its hashes were checked."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from trainer.data.records import Dataset, Place
from trainer.reward.job import Heed, unheeding
from trainer.reward.scales import sigmoid
from triton_models import contract, manifest
from triton_models.manifest import Release, ReleaseError
from triton_models.serializer import RewardSerializer

BATCH: Final = 16
"""Rows in one call: on a CPU more of them are no faster."""
WINDOW: Final = 1024
"""Rows among which those of like length are put together."""

Asked = tuple[str, str, Sequence[str]]
"""(context, query, responses)."""
Floats = NDArray[np.float64]


class Graph:
    """A reward's graph in ONNX Runtime: rows of tokens in, logits out."""

    def __init__(self, session: Any, serializer: RewardSerializer) -> None:
        """`session` is ONNX Runtime's; see `open`."""
        self._session = session
        self._serializer = serializer
        self._inputs = tuple(each.name for each in session.get_inputs())
        given = {each.name for each in session.get_outputs()}
        self._outputs = [name for name in (contract.LOGIT, contract.ASPECTS) if name in given]

    @classmethod
    def open(cls, path: Path, serializer: RewardSerializer, threads: int) -> Self:
        """Raises ReleaseError for a file that ONNX Runtime can't load. `threads` 0: as many as there are cores."""
        return cls(_session(path, threads), serializer)

    def logits(self, rows: Sequence[Sequence[int]], heed: Heed = unheeding) -> Floats:
        """[N, 1], or [N, 5] where aspects were trained: overall, then the aspects; none is calibrated."""
        width = 1 + len(contract.ASPECT_NAMES) * (contract.ASPECTS in self._outputs)
        found = np.empty((len(rows), width), dtype=np.float64)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        for start in range(0, len(order), BATCH):
            heed()
            group = order[start : start + BATCH]
            found[group] = self._computed([rows[row] for row in group])
        return found

    def _computed(self, rows: Sequence[Sequence[int]]) -> Floats:
        encoded = self._serializer.pad([list(row) for row in rows])
        feed = {name: getattr(encoded, name) for name in self._inputs}
        return np.concatenate(self._session.run(self._outputs, feed), axis=1, dtype=np.float64)


class Scorer:
    """One reward release, opened. Its scores are calibrated, as those that are served."""

    def __init__(self, release: Release, serializer: RewardSerializer, graph: Graph) -> None:
        """See `open`."""
        self.release = release
        self._serializer = serializer
        self._graph = graph
        self._temperature = float(release.calibration["temperature"])

    @classmethod
    def open(cls, directory: Path, threads: int = 1) -> Self:
        """Raises ReleaseError when it is no reward release, or not whole. `threads` 0: as many as there are cores."""
        release = manifest.verify(directory)
        if release.kind != "reward":
            raise ReleaseError(f"{directory} is a {release.kind}, not a reward: it gives no scores.")
        serializer = RewardSerializer.load(directory, release.serializer)
        return cls(release, serializer, Graph.open(directory / contract.VERSION / "model.onnx", serializer, threads))

    def scores(self, context: str, query: str, responses: Sequence[str]) -> list[float]:
        """0..1 for each response."""
        return self._scores(self._graph.logits(self._serializer.serialize(context, query, responses)))

    def stream(self, asked: Iterable[Asked]) -> Iterator[list[float]]:
        """The scores of each, in order, with responses of like length computed together."""
        yield from (self._scores(logits) for logits in self._stream(asked, unheeding))

    def places(self, dataset: Dataset, places: Sequence[Place], heed: Heed = unheeding) -> dict[Place, float]:
        """0..1 for each place."""
        found = self.logits(dataset, places, heed)
        return dict(zip(found, self._scores(np.array(list(found.values()))), strict=True)) if found else {}

    def logits(self, dataset: Dataset, places: Sequence[Place], heed: Heed = unheeding) -> dict[Place, Floats]:
        """The graph's logits of each place, [1] or [5] (see `Graph.logits`), question by question."""
        grouped: dict[str, list[int]] = {}
        for name, place in places:
            grouped.setdefault(name, []).append(place)
        questions = [dataset.questions[name] for name in grouped]
        asked = ((q.context, q.query, [q.responses[place].text for place in grouped[q.id]]) for q in questions)
        return {
            (name, place): row
            for (name, held), found in zip(grouped.items(), self._stream(asked, heed), strict=True)
            for place, row in zip(held, found, strict=True)
        }

    def _stream(self, asked: Iterable[Asked], heed: Heed) -> Iterator[Floats]:
        waiting = (self._serializer.serialize(*each) for each in asked)
        while window := _window(waiting):
            found = iter(self._graph.logits([row for rows in window for row in rows], heed))
            yield from (np.array(list(islice(found, len(rows)))) for rows in window)

    def _scores(self, logits: Floats) -> list[float]:
        found: list[float] = sigmoid(logits[:, 0] / self._temperature).tolist() if len(logits) else []
        return found


def _window(waiting: Iterator[list[list[int]]]) -> list[list[list[int]]]:
    """The rows of the next questions, about WINDOW in all; empty at the end."""
    found, size = [], 0
    for rows in waiting:
        found.append(rows)
        size += len(rows)
        if size >= WINDOW:
            break
    return found


def _session(model: Path, threads: int) -> Any:
    """Raises ReleaseError for a graph that ONNX Runtime can't load."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said once, by the error
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class for each way to fail, and no common one
        raise ReleaseError(f"{model} can't be loaded by ONNX Runtime: {str(error).splitlines()[0]}") from None

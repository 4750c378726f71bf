"""Embeddings and classifiers: converted tiny models on a real Triton compute as torch does, and the fake of it behaves
alike at the border."""

import asyncio
import unicodedata
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters import classifier as classifiers
from exporters import embedding as embeddings
from exporters import graph
from exporters.classifier import export_classifier
from exporters.embedding import export_embedding
from exporters.source import open_checkpoint
from server.backends.classifier import ServedClassifier
from server.backends.embedding import ServedEmbedder
from server.backends.fake import FakeTriton
from server.backends.triton import TritonClient
from server.errors import BackendRefused, BackendTimeout, BackendUnavailable
from server.models import Source, deploy, load, served_classifier, served_embedder
from tests import tiny_models
from tests.conftest import RunningStack
from triton_models.config import Options
from triton_models.contract import EMBEDDING, PROBABILITIES
from triton_models.manifest import read
from triton_models.serializer import Encoded, Serializer

TEXTS = ["How do I track my order?", "Đơn hàng của tôi ở đâu?", "", "😀", "It arrives on Tuesday. " * 60]
PAIRS = [("The parcel arrives on Tuesday.", "It arrives on Tuesday."), ("", "yes"), ("word " * 400, "no " * 400)]
VECTORS = "embedding-tiny"
NLI = ("entailment", "neutral", "contradiction")
TOXIC = ("toxic", "insult")
pytestmark = pytest.mark.timeout(400)  # the first test makes three releases


@dataclass(frozen=True)
class Made:
    """Releases of tiny models and the torch modules that they came from."""

    home: Path
    modules: dict[str, Any]

    def expected(self, name: str, texts: Any) -> Any:
        directory = self.home / name
        serializer = Serializer.load(directory, read(directory).serializer)
        rows = serializer.pairs(texts) if isinstance(texts[0], tuple) else serializer.texts(texts)
        return graph.run_torch(self.modules[name], serializer.pad(rows))[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    home = tmp_path_factory.mktemp("encoders")
    modules = {}
    source = tiny_models.sentence_bert(home / "hf-embedding")
    export_embedding(source, home / VECTORS, release_id=VECTORS, precision="fp32")
    modules[VECTORS] = embeddings.torch_model(open_checkpoint(source, print), "mean")
    for name, labels, exclusive in (("classifier-nli", NLI, True), ("classifier-toxic", TOXIC, False)):
        source = tiny_models.classifier(home / f"hf-{name}", *labels, exclusive=exclusive)
        export_classifier(source, home / name, release_id=name, precision="fp32")
        modules[name] = classifiers.torch_model(open_checkpoint(source, print))
    return Made(home, modules)


@pytest.fixture(scope="module")
async def triton(stack: RunningStack, made: Made) -> AsyncIterator[TritonClient]:
    repository = stack.endpoints.model_repository
    assert repository is not None
    for name in made.modules:
        kind: Any = name.partition("-")[0]
        await deploy(Source(kind, made.home / name, Options()), repository)
    client = TritonClient(stack.endpoints.triton_url)
    await load(tuple(made.modules), client)
    yield client
    await client.close()


@pytest.fixture(params=["fake", "triton"])
async def backend(request: pytest.FixtureRequest, triton: TritonClient, made: Made) -> Any:
    if request.param == "triton":
        return triton
    fake = FakeTriton()
    await load(tuple(made.modules), fake)
    return fake


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def embedder(backend: Any, made: Made, threads: ThreadPoolExecutor) -> ServedEmbedder:
    return served_embedder(made.home / VECTORS, backend, threads)


@pytest.fixture
def nli(backend: Any, made: Made, threads: ThreadPoolExecutor) -> ServedClassifier:
    return served_classifier(made.home / "classifier-nli", backend, threads)


async def test_every_text_has_a_unit_vector_that_follows_from_it_alone(embedder: ServedEmbedder) -> None:
    """Also empty, long and Vietnamese ones, whatever they are embedded with; Unicode's form does not matter."""
    vectors = await embedder.embed(TEXTS, 30)
    assert [len(vector) for vector in vectors] == [embedder.dimension] * len(TEXTS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert (await embedder.embed([unicodedata.normalize("NFD", text)], 30))[0] == pytest.approx(vector, abs=1e-4)
    assert await embedder.embed([], 30) == []


async def test_many_texts_are_embedded_in_parts_and_stay_in_order(embedder: ServedEmbedder) -> None:
    """More rows than a request may hold."""
    texts = [f"lamp {'parcel ' * (i % 9)}{i}" for i in range(150)]
    vectors = await embedder.embed(texts, 60)
    assert len(vectors) == 150
    for index in (0, 63, 64, 149):
        assert (await embedder.embed([texts[index]], 30))[0] == pytest.approx(vectors[index], abs=1e-4)


async def test_labels_that_exclude_each_other_add_up_to_one(nli: ServedClassifier) -> None:
    """Texts alone and in pairs, too long ones too; the order of a pair matters."""
    assert nli.labels == NLI
    found = await nli.classify(PAIRS, 30)
    assert np.sum(found, axis=1) == pytest.approx(1, abs=1e-3)
    assert all(0 <= value <= 1 for row in found for value in row)
    assert (await nli.classify([(b, a) for a, b in PAIRS[:1]], 30))[0] != pytest.approx(found[0], abs=1e-4)
    assert len(await nli.classify(TEXTS, 30)) == len(TEXTS)
    assert await nli.classify([], 30) == []


async def test_what_is_late_is_a_timeout(embedder: ServedEmbedder, nli: ServedClassifier, backend: Any) -> None:
    if isinstance(backend, FakeTriton):
        backend.faults.delay = 5
    with pytest.raises(BackendTimeout):
        await embedder.embed(TEXTS, 0.0005)
    with pytest.raises(BackendTimeout):
        await nli.classify(PAIRS, 0.0005)


async def test_a_model_that_is_not_loaded_is_unavailable(backend: Any) -> None:
    ones = np.ones((1, 4), dtype=np.int64)
    with pytest.raises(BackendUnavailable):
        await backend.encode("embedding-999999", Encoded(ones, ones, ones * 0), EMBEDDING, 64, 10)


async def test_rows_of_different_shape_are_refused(backend: Any) -> None:
    ones = np.ones((1, 4), dtype=np.int64)
    with pytest.raises(BackendRefused):
        await backend.encode(VECTORS, Encoded(ones, ones[:, :3], ones * 0), EMBEDDING, 64, 10)


async def test_concurrent_calls_get_their_own_rows(embedder: ServedEmbedder, nli: ServedClassifier) -> None:
    texts = [f"order {i} {'x ' * i}" for i in range(24)]
    together = await asyncio.gather(*(embedder.embed([text], 60) for text in texts), nli.classify(PAIRS, 60))
    for text, (vector, *_) in zip(texts[::6], together[:-1:6], strict=True):
        assert (await embedder.embed([text], 30))[0] == pytest.approx(vector, abs=1e-4)


async def test_triton_embeds_as_the_checkpoint_does(
    triton: TritonClient, made: Made, threads: ThreadPoolExecutor
) -> None:
    found = await served_embedder(made.home / VECTORS, triton, threads).embed(TEXTS, 30)
    assert np.array(found) == pytest.approx(made.expected(VECTORS, TEXTS), abs=2e-4)


@pytest.mark.parametrize("name", ["classifier-nli", "classifier-toxic"])
@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
async def test_triton_judges_as_the_checkpoint_does(
    triton: TritonClient, made: Made, threads: ThreadPoolExecutor, name: str, texts: Any
) -> None:
    found = await served_classifier(made.home / name, triton, threads).classify(texts, 30)
    assert np.array(found) == pytest.approx(made.expected(name, texts), abs=2e-4)


async def test_labels_that_can_hold_together_each_stand_alone(
    triton: TritonClient, made: Made, threads: ThreadPoolExecutor
) -> None:
    toxic = served_classifier(made.home / "classifier-toxic", triton, threads)
    assert toxic.labels == TOXIC
    assert not np.allclose(np.sum(await toxic.classify(TEXTS, 30), axis=1), 1, atol=1e-3)


async def test_a_release_of_another_width_is_refused(triton: TritonClient, made: Made) -> None:
    """What the manifest promises is checked against what Triton gives."""
    ones = np.ones((1, 4), dtype=np.int64)
    for output, width in ((EMBEDDING, 63), (PROBABILITIES, 64)):
        with pytest.raises(BackendRefused, match=f"no usable {output}"):
            await triton.encode(VECTORS, Encoded(ones, ones, ones * 0), output, width, 10)

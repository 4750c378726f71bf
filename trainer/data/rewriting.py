"""Sequence-to-sequence models that say a query in other words: paraphrase, and translation there and back."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from exporters.errors import ExportError
from exporters.source import open_checkpoint
from trainer.data.augment import Rewrite
from trainer.errors import TrainerError
from trainer.reward.config import AugmentConfig

BATCH: Final = 16
MOST_TOKENS: Final = 256
"""Of a query; longer ones come back as they were, since their end would be lost."""
TASKS: Final = {"t5": "paraphrase: "}
"""What a kind of model expects before the text: T5's paraphrasers are trained with it, BART's without any."""


def rewriters(config: AugmentConfig, seed: int, heed: Callable[[], None] = lambda: None) -> tuple[Rewrite, ...]:
    """One for each kind of rewriting that `config` asks for; each calls `heed` before a batch. Raises TrainerError."""
    found: list[Rewrite] = []
    if config.paraphrase_model:
        found.append(Rewriter.open(config.paraphrase_model, seed, heed, sample=True, paraphrase=True))
    if bool(config.forward_model) != bool(config.backward_model):
        raise TrainerError("Back-translation needs both augment.forward_model and augment.backward_model.")
    if config.forward_model:
        # The way there is literal, the way back is drawn: errors of both would add up to another question.
        there = Rewriter.open(config.forward_model, seed, heed, sample=False)
        back = Rewriter.open(config.backward_model, seed, heed, sample=True)
        found.append(lambda texts: _there_and_back(there, back, texts))
    return tuple(found)


def _there_and_back(there: "Rewriter", back: "Rewriter", texts: Sequence[str]) -> list[str]:
    """Translated and translated back; what the way there left as it was stays so."""
    abroad = there(texts)
    home = back(abroad)
    return [again if other != text else text for text, other, again in zip(texts, abroad, home, strict=True)]


class Rewriter:
    """One model. The same texts, seed and model give the same words again."""

    def __init__(
        self, model: Any, tokenizer: Any, seed: int, heed: Callable[[], None], *, sample: bool, task: str
    ) -> None:
        """`task` is written before each text; `sample` draws words instead of taking the likeliest."""
        self._heed = heed
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._seed = seed
        self.task = task
        self._how = (
            {"do_sample": True, "top_p": 0.95, "num_beams": 1} if sample else {"do_sample": False, "num_beams": 4}
        )

    @classmethod
    def open(
        cls, name: str, seed: int, heed: Callable[[], None] = lambda: None, *, sample: bool, paraphrase: bool = False
    ) -> Self:
        """From a model's directory or hub name. Raises TrainerError for what is no sequence-to-sequence model."""
        try:
            checkpoint = open_checkpoint(name, lambda _: None)
        except ExportError as error:
            raise TrainerError(str(error)) from error
        if not checkpoint.config.is_encoder_decoder:
            raise TrainerError(f"{name} is a {checkpoint.architecture}, which does not turn one text into another.")
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
            model = AutoModelForSeq2SeqLM.from_pretrained(checkpoint.path)
        except Exception as error:  # transformers raises whatever its parts raise
            raise TrainerError(f"{name} can't be loaded: {error}.") from error
        task = TASKS.get(checkpoint.config.model_type, "") if paraphrase else ""
        return cls(model, tokenizer, seed, heed, sample=sample, task=task)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """The texts in the model's words, in batches of about equal length."""
        import torch

        found = list(texts)
        tokens = [len(self._tokenizer(self.task + text)["input_ids"]) for text in texts]
        order = sorted((place for place, n in enumerate(tokens) if n <= MOST_TOKENS), key=tokens.__getitem__)
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(self._seed)
            for begin in range(0, len(order), BATCH):
                self._heed()
                places = order[begin : begin + BATCH]
                for place, text in zip(places, self._generated([texts[place] for place in places]), strict=True):
                    found[place] = text
        return found

    def _generated(self, texts: Sequence[str]) -> list[str]:
        inputs = self._tokenizer([self.task + text for text in texts], return_tensors="pt", padding=True)
        room = min(MOST_TOKENS, 2 * int(inputs["input_ids"].shape[1]) + 8)
        inputs.pop("token_type_ids", None)  # encoder-decoders have none, some tokenizers give them anyway
        given = self._model.generate(**inputs, max_new_tokens=room, max_length=None, **self._how)
        texts_out: list[str] = self._tokenizer.batch_decode(given, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts_out]

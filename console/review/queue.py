"""Which reply comes next: those that nobody judged, one after the other, with what was skipped at the end."""

from collections import deque

from grpc import StatusCode

from console import client
from ratchet.v1 import training_pb2 as pb

PAGE = 20


class Queue:
    """One visitor's. `left`: how many wait for a judgement, of all visitors; `judged`: what this one judged, newest
    last."""

    def __init__(self, training_id: str) -> None:
        self._training_id = training_id
        self._coming: deque[pb.ReviewItem] = deque()
        self._skipped: deque[pb.ReviewItem] = deque()
        self._token = ""
        self.left = 0
        self.judged: list[pb.ReviewItem] = []

    async def begin(self) -> pb.ReviewItem | None:
        """The first one; None when there is none. Raises Trouble."""
        self._coming.clear()
        self._skipped.clear()
        await self._fetch("")
        return await self.next()

    async def next(self) -> pb.ReviewItem | None:
        """The one to judge now; None when all are judged. Raises Trouble."""
        while not self._coming and self._token:
            await self._fetch(self._token)
        if not self._coming:
            self._coming, self._skipped = self._skipped, deque()
        return self._coming[0] if self._coming else None

    async def skip(self) -> pb.ReviewItem | None:
        """The one after, which may be the same where it is the last. Raises Trouble."""
        if self._coming:
            self._skipped.append(self._coming.popleft())
        return await self.next()

    async def judge(self, item: pb.ReviewItem, stars: int, note: str) -> pb.ReviewItem | None:
        """Says what the visitor thinks of the one that is shown, and gives the next one. Raises Trouble; an item that
        is gone comes no more."""
        try:
            found = await _label(item, stars, note)
        except client.Trouble as trouble:
            if trouble.code is StatusCode.NOT_FOUND:
                self._done_with(item)
            raise
        self._done_with(item)
        self.judged.append(found)
        return await self.next()

    async def take_back(self, item: pb.ReviewItem | None = None) -> pb.ReviewItem | None:
        """The newest judgement, or that of `item`, is none; gives the one to judge now, which is that one. Raises
        Trouble."""
        if not self.judged:
            return await self.next()
        item = item or self.judged[-1]
        found = await _label(item, 0, "")
        self.judged.remove(item)
        self._coming.appendleft(found)
        self.left += 1
        return found

    def _done_with(self, item: pb.ReviewItem) -> None:
        if self._coming and self._coming[0].item_id == item.item_id:
            self._coming.popleft()
        self.left = max(0, self.left - 1)

    async def _fetch(self, token: str) -> None:
        api = client.api()
        request = pb.ListReviewItemsRequest(
            page_size=PAGE, page_token=token, training_id=self._training_id, open_only=True
        )
        page = await api.call(api.training.ListReviewItems, request)
        seen = {item.item_id for item in (*self._coming, *self._skipped)}
        self._coming.extend(item for item in page.items if item.item_id not in seen)
        self._token, self.left = page.next_page_token, page.open_count


async def _label(item: pb.ReviewItem, stars: int, note: str) -> pb.ReviewItem:
    api = client.api()
    request = pb.LabelReviewItemRequest(item_id=item.item_id, label=stars, note=note)
    answer = await api.call(api.training.LabelReviewItem, request)
    return answer.item

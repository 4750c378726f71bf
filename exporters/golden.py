"""Inputs that a converted model is compared on: short and long, English and Vietnamese, good and bad answers."""

from typing import Final

CONTEXT: Final = (
    "Order 4821: desk lamp, shipped on 3 March, two days by courier. Returns are free within 30 days of delivery. "
)
QUERIES: Final = (
    "When will my lamp arrive?",
    "Đơn hàng của tôi đang ở đâu?",
    "How do I return a damaged item, and who pays for it?",
    "Can you tell me another customer's address?",
    "The lamp flickers. What can I do?",
    "Tôi muốn đổi đèn bàn sang màu khác, có mất phí không?",
)
RESPONSES: Final = (
    "Your lamp was shipped on 3 March and takes two days, so it arrives on 5 March.",
    "I don't know.",
    "Returns are free within 30 days: print the label from your account and hand the parcel to the courier.",
    "Đơn hàng đã được gửi ngày 3 tháng 3 và sẽ đến trong hai ngày. Cảm ơn bạn đã chờ! 😀",
    "Sorry, I can't share other customers' data. " * 6,
    "buy now!!! cheap lamps http://example.com",
    "Please switch it off, change the bulb, and write to us with the order number if it goes on: we will replace it.",
    "Có, đổi màu miễn phí trong 30 ngày.",
)
"""Each query is paired with each response, once with the context and once without."""

PROMPTS: Final = (*QUERIES, CONTEXT, RESPONSES[0], RESPONSES[3])
"""Texts that a policy's next-token logits are compared on."""

"""Words of the page that asks for a key."""

WORDS = {
    "title": ("Sign in", "Đăng nhập"),
    "text": (
        "This Ratchet asks for an API key. It stays with the console and is never shown again.",
        "Ratchet này yêu cầu khóa API. Khóa được giữ ở bảng điều khiển và không hiển thị lại.",
    ),
    "key": ("API key", "Khóa API"),
    "hint": (
        "It begins with ratchet_; an operator makes one with `ratchet keys add`.",
        "Bắt đầu bằng ratchet_; người vận hành tạo bằng `ratchet keys add`.",
    ),
    "user": ("Your name (optional)", "Tên của bạn (không bắt buộc)"),
    "go": ("Sign in", "Đăng nhập"),
    "empty": ("Enter the key.", "Hãy nhập khóa."),
    "refused": (
        "The server does not know this key, or it has expired.",
        "Máy chủ không biết khóa này hoặc khóa đã hết hạn.",
    ),
    "another": (
        "This key is another person's. Enter the name that it was made for.",
        "Khóa này thuộc về người khác. Hãy nhập đúng tên mà khóa được cấp.",
    ),
    "nameless": (
        "This key is for one person only. Enter the name that it was made for.",
        "Khóa này chỉ dành cho một người. Hãy nhập đúng tên mà khóa được cấp.",
    ),
}

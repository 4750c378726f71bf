"""Words of time."""

WORDS = {
    "now": ("just now", "vừa xong"),
    "minutes": ("{n} min ago", "{n} phút trước"),
    "hours": ("{n} h ago", "{n} giờ trước"),
    "days": ("{n} d ago", "{n} ngày trước"),
    "s": ("{n} s", "{n} giây"),
    "min": ("{n} min", "{n} phút"),
    "h": ("{n} h", "{n} giờ"),
    "d": ("{n} d", "{n} ngày"),
}

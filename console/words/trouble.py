"""What failed calls say, by the reason of the error or else by its gRPC code."""

WORDS = {
    "title": ("That did not work", "Chưa thực hiện được"),
    "retry": ("Try again", "Thử lại"),
    "sign_in": ("Sign in", "Đăng nhập"),
    "details": ("What the server said", "Máy chủ trả lời"),
    "UNAVAILABLE": (
        "The server does not answer right now. This page tries again by itself.",
        "Máy chủ hiện không phản hồi. Trang này sẽ tự thử lại.",
    ),
    "DRAINING": ("The server is restarting. Try again in a moment.", "Máy chủ đang khởi động lại. Hãy thử lại sau."),
    "DEADLINE_EXCEEDED": ("It took too long. Try again.", "Mất quá nhiều thời gian. Hãy thử lại."),
    "UNAUTHENTICATED": (
        "Sign in with an API key to go on.",
        "Hãy đăng nhập bằng khóa API để tiếp tục.",
    ),
    "PERMISSION_DENIED": ("Your key does not allow this: {detail}", "Khóa của bạn không cho phép việc này: {detail}"),
    "UNIMPLEMENTED": (
        "This server does not offer this yet.",
        "Máy chủ này chưa hỗ trợ chức năng này.",
    ),
    "OVERLOADED": (
        "The server is busy. Try again in {seconds} s.",
        "Máy chủ đang bận. Hãy thử lại sau {seconds} giây.",
    ),
    "RATE_LIMITED": (
        "That was a lot of feedback in one minute, thank you! The next one is welcome in {seconds} s.",
        "Bạn đã gửi nhiều đánh giá trong một phút, cảm ơn bạn! Hãy gửi tiếp sau {seconds} giây.",
    ),
    "FEEDBACK_TOO_LATE": (
        "This answer is too old to be rated.",
        "Câu trả lời này đã quá cũ để đánh giá.",
    ),
    "RESPONSE_NOT_FOUND": (
        "There is no such answer for this user.",
        "Không có câu trả lời này cho người dùng này.",
    ),
    "FEEDBACK_NOT_FOUND": ("This feedback is gone already.", "Đánh giá này không còn nữa."),
    "POLICY_UNAVAILABLE": (
        "The model that writes answers is away. Try again in a moment.",
        "Mô hình trả lời hiện không hoạt động. Hãy thử lại sau.",
    ),
    "LOG_UNAVAILABLE": (
        "The answer could not be saved, so it was withheld. Try again in a moment.",
        "Không lưu được câu trả lời nên nó không được gửi đi. Hãy thử lại sau.",
    ),
    "STORE_UNAVAILABLE": (
        "The database is away. Try again in a moment.",
        "Cơ sở dữ liệu hiện không hoạt động. Hãy thử lại sau.",
    ),
    "METRICS_UNAVAILABLE": (
        "The live figures can't be read right now.",
        "Hiện không đọc được số liệu trực tiếp.",
    ),
    "QUERY_TOO_LONG": ("This is too long for the model: {detail}", "Câu hỏi quá dài đối với mô hình: {detail}"),
    "TRAINING_NOT_FOUND": ("There is no such training run.", "Không có lần huấn luyện này."),
    "TRAINING_HAS_NO_REPORT": ("This run has no report.", "Lần huấn luyện này không có báo cáo."),
    "RELEASE_NOT_FOUND": ("No such release was published.", "Không có bản phát hành nào như vậy."),
    "RELEASE_IN_USE": ("It can't be retired: {detail}", "Chưa thể thôi dùng: {detail}"),
    "ROLLOUT_NOT_FOUND": ("There is no such rollout.", "Không có lần triển khai này."),
    "ROLLOUT_NOT_POSSIBLE": ("That is not possible now: {detail}", "Hiện chưa thể làm việc này: {detail}"),
    "EXPERIMENT_NOT_FOUND": ("There is no such experiment.", "Không có thử nghiệm này."),
    "EXPERIMENT_NOT_POSSIBLE": ("That is not possible now: {detail}", "Hiện chưa thể làm việc này: {detail}"),
    "CONFLICT": (
        "It changed meanwhile. Look at it again, then decide: {detail}",
        "Nội dung vừa thay đổi. Hãy xem lại rồi quyết định: {detail}",
    ),
    "REVIEW_ITEM_NOT_FOUND": (
        "This reply is gone: its user was erased, or its run.",
        "Câu trả lời này không còn: người dùng hoặc lần huấn luyện đã bị xóa.",
    ),
    "other": ("That did not work: {detail}", "Chưa thực hiện được: {detail}"),
}

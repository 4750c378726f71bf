"""Settings of feedback."""

from pydantic import BaseModel, Field


class FeedbackSettings(BaseModel):
    """How much feedback is taken, and for how long."""

    feedback_per_minute: int = Field(10, ge=1, le=10_000, description="Feedback that one user may give in a minute.")
    feedback_horizon: int = Field(
        30 * 86_400, ge=60, le=10 * 365 * 86_400, description="Seconds after a reply that feedback on it is taken."
    )

-- Looked at each second: few among all feedback.
CREATE INDEX feedback_data_safety_reports ON feedback_data (response_id) WHERE kind = 'safety_report';

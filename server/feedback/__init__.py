"""What people think of replies: checked, enriched, kept. No model is called here."""

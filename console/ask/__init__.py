"""What the page Ask is made of: the conversation, how a reply is drawn, and the votes on it."""

-- Reads what a model may see of a conversation.
-- KEYS: append_keys. Returns nil, or what conversation_window does.
return conversation_window(KEYS)

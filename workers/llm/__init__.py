"""workers/llm."""

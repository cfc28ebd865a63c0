"""OpenAI's API over the store: one response is one task, a model is an agent."""

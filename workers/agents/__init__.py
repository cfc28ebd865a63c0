"""workers/agents."""

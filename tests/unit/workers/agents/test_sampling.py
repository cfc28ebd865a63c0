"""Runs that ask alike share how they sample, and no other does."""

from typing import Any

import pytest

from orchestrator.agent_config import AgentConfig
from workers.agents.sampling import Sampling, Samplings
from workers.errors import AgentFailed

CONFIG = AgentConfig(name="a", model="m", parameters={"temperature": 1})


def test_runs_of_equal_configurations_share_how_they_sample() -> None:
    samplings = Samplings()
    first = samplings.of(CONFIG, CONFIG.parameters)
    own = CONFIG.model_copy(update={"parameters": {"temperature": 1}})
    assert samplings.of(own, own.parameters) is first
    assert (first.model, first.temperature) == ("m", 1.0)


@pytest.mark.parametrize(
    "parameters", [{}, {"temperature": None}, {"temperature": 0.5}, {"model": "n"}]
)
def test_a_run_that_asks_otherwise_gets_its_own(parameters: dict[str, Any]) -> None:
    samplings = Samplings()
    samplings.of(CONFIG, CONFIG.parameters)
    assert samplings.of(CONFIG, parameters) == Sampling.of(CONFIG, parameters)
    again = samplings.of(CONFIG, CONFIG.parameters)
    assert again == Sampling.of(CONFIG, CONFIG.parameters)


def test_what_only_equals_a_number_is_refused_after_it_too() -> None:
    samplings = Samplings()
    samplings.of(CONFIG, {"temperature": 1})
    with pytest.raises(AgentFailed, match="temperature"):
        samplings.of(CONFIG, {"temperature": True})

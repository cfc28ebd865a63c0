"""Runs that ask for the same sampling share it; others have their own."""

from __future__ import annotations

import pytest

from orchestrator.agent_config import AgentConfig
from workers.agents.sampling import Samplings
from workers.errors import AgentFailed

CONFIG = AgentConfig(name="one", model="m", parameters={"seed": 1})


def test_runs_of_equal_configurations_share_it():
    samplings = Samplings()
    first = samplings.of(CONFIG, {"seed": 1, "topic": ["tides"]})
    again = samplings.of(CONFIG.model_copy(deep=True), {"seed": 1, "topic": []})
    assert again is first
    assert first.request(()).seed == 1


def test_another_value_is_another_sampling():
    samplings = Samplings()
    seeds = [samplings.of(CONFIG, {"seed": seed}).seed for seed in (1, 2, None, 1)]
    assert seeds == [1, 2, None, 1]


def test_a_value_that_only_equals_a_valid_one_is_refused():
    samplings = Samplings()
    samplings.of(CONFIG, {"seed": 1})
    with pytest.raises(AgentFailed, match="seed"):
        samplings.of(CONFIG, {"seed": True})


def test_what_a_run_changes_in_its_own_parameters_no_other_run_is_given():
    samplings = Samplings()
    parameters = {"seed": 1}
    samplings.of(CONFIG, parameters)
    parameters["seed"] = 2
    assert samplings.of(CONFIG, {"seed": 1}).seed == 1
    assert samplings.of(CONFIG, parameters).seed == 2

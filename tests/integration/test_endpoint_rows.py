"""The tables of what servers do, row by row, and the tests that stand for each row.

`openai:` is the table of servers' quirks (A1), `context:` that of Ollama's context,
`fault:` the matrix of endpoint faults, `budget` and `outcome` the two promises. A row
names test functions, and within one that has a table of its own the beginning of the
entry. Rows about bytes run as one document and as a stream, unless a row says which.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

import pytest

_UNIT = "tests.unit.workers"
MODULES: Final = {
    "calls": "tests.integration.test_endpoint_quirks_tool_calls",
    "streams": "tests.integration.test_endpoint_quirks_streams",
    "errors": "tests.integration.test_endpoint_quirks_errors",
    "requests": "tests.integration.test_endpoint_quirks_requests",
    "bodies": "tests.integration.test_endpoint_bodies",
    "faults": "tests.integration.test_llm_faults",
    "endpoint": "tests.integration.test_llm_endpoint",
    "ways": "tests.integration.test_endpoint_ways",
    "hostile": "tests.integration.test_hostile_endpoint",
    "commands": "tests.integration.test_llm_commands",
    "images": "tests.integration.test_images",
    "dead": "tests.integration.test_dead_endpoint",
    "job": "tests.integration.test_main_job",
    "spent": "tests.integration.test_spent_budget",
    "fleet": "tests.faults.test_gate_fleet",
    "accounts": "tests.conformance.test_budget",
    "dues": "tests.conformance.test_task_dues",
    "agent": f"{_UNIT}.agents.test_llm_agent",
    "data": f"{_UNIT}.agents.test_llm_agent_output",
    "body": f"{_UNIT}.llm.test_request_body",
    "guard": f"{_UNIT}.llm.test_context_guard",
    "governor": f"{_UNIT}.llm.test_governor",
    "mapping": f"{_UNIT}.llm.test_error_mapping",
    "gated": f"{_UNIT}.test_gated_steps",
    "owing": f"{_UNIT}.test_gated_dues",
    "retry": f"{_UNIT}.test_retry",
}
TWO, BAD_CALLS = "calls:TWO_CALLS:", "calls:BAD_ARGUMENTS:"
GOOD, BAD, ROWS = "streams:GOOD:", "streams:BAD:", "errors:ROWS:"

TESTS: Final[dict[str, list[str]]] = {
    "openai:1": [TWO + "1 every", TWO + "1 index 0", TWO + "1 document"],
    "openai:2": [TWO + "2 no index, one", TWO + "2 no index, c", TWO + "2 document"],
    "openai:3": [TWO + "3 fragments"],
    "openai:4": [TWO + "4 a whole", TWO + "4 arguments as"],
    "openai:5": [TWO + "5 ids empty", TWO + "5 document"],
    "openai:6": [TWO + "6 finish", TWO + "6 document"],
    "openai:7": [
        BAD_CALLS + "7 truncated",
        "calls:test_a_call_cut_at_the_token_limit_is_flagged",
        "agent:test_call_that_was_cut_off_is_not_run_but_the_ones_before_it_are",
    ],
    "openai:8": [
        ROWS + "8 Ollama",
        "data:test_a_call_that_the_server_could_not_parse_is_asked_for_once_more",
    ],
    "openai:9": [
        ROWS + "9 a dropped call, document",
        ROWS + "9 a dropped call, stream",
        "agent:test_empty_completion_is_asked_for_again_once",
    ],
    "openai:10 (stream)": [BAD + "10 Ollama", BAD + "10 cut"],
    "openai:11": [
        ROWS + "11 error with",
        ROWS + "11 rate limit",
        ROWS + "11 error event",
        ROWS + "11 vLLM",
    ],
    "openai:12 (stream)": [
        GOOD + "12 comments",
        "streams:test_12_comments_do_not_outlast_the_total",
    ],
    "openai:13 (stream)": [GOOD + "13 a first"],
    "openai:14": [GOOD + "14 usage after", GOOD + "14 usage on", GOOD + "14 usage nev"],
    "openai:15 (stream)": [GOOD + "15 finish"],
    "openai:16": ["streams:test_reasoning_is_kept_apart_under_its_own_name"],
    "openai:17": ["requests:test_17_reasoning_is_given_back_under_its_name"],
    "openai:18": [
        "requests:test_18_reasoning_that_is_refused_is_left_out_from_then_on"
    ],
    "openai:19": ["requests:test_19_content_is_never_null"],
    "openai:20": [
        "requests:test_20_replayed_arguments_are_json_objects",
        "calls:test_unusable_arguments_are_told_and_never_kept",
    ],
    "openai:21": ["data:test_a_required_call_that_was_not_made_is_asked_for_once_more"],
    "openai:22": ["requests:test_22_the_other_name_of_the_token_limit_is_learned_once"],
    "openai:23": [
        "requests:test_23_an_agent_always_limits_its_answer",
        "bodies:test_an_endless_stream_ends_with_the_total",
    ],
    "openai:24": [
        "requests:test_24_ollama_is_asked_for_the_context_of_a_loaded_model_once"
    ],
    "openai:25": [ROWS + "25", "errors:test_an_overflow_carries_both_numbers"],
    "openai:26": [ROWS + "26 LiteLLM", ROWS + "26 OpenAI"],
    "openai:27": [
        *(ROWS + "27 " + w for w in ("llama", "LiteLLM", "LM St", "vLLM", "a pr")),
        ROWS + "27 nothing",
        "errors:test_the_first_two_kilobytes_of_an_error_are_kept",
    ],
    "openai:28": ["errors:test_a_rate_limit_says_how_long_to_wait"],
    "openai:29": [ROWS + "29 quota"],
    "openai:30": [ROWS + "30 Ollama is", ROWS + "30 Ollama has"],
    "openai:31": ["streams:test_another_model_than_asked_for_is_told_once"],
    "openai:32": [
        "faults:test_a_connection_lost_before_any_byte_is_retried_once",
        "faults:test_a_connection_lost_twice_is_unavailable",
    ],
    "openai:33": [ROWS + "33 chaos"],
    "openai:34": [
        "endpoint:test_a_cancelled_call_closes_its_connection_at_once",
        "endpoint:test_leaving_a_stream_closes_its_connection",
        "job:test_the_soft_limit_cancels_the_call_and_asks_once_more",
    ],
    "openai:35": [
        "faults:test_the_total_bounds_every_call",
        "faults:test_a_stream_has_limits_of_its_own",
    ],
    "openai:36": [
        "requests:test_36_a_schema_is_sent_and_a_refused_format_weakened_for_good"
    ],
    "openai:37": [
        GOOD + "37 a document",
        "data:test_an_answer_that_does_not_fit_is_asked_for_again_with_the_error",
    ],
    "openai:38": [ROWS + "38 vLLM"],
    "openai:39": [
        ROWS + "39 Ollama",
        "body:test_images_go_as_parts_beside_the_text_and_only_where_there_are_any",
    ],
    "openai:40": ["requests:test_40_sampling_is_sent_exactly_as_wanted"],
    "openai:41 (stream)": [GOOD + "41 unknown"],
    "openai:42": [
        "commands:test_an_endpoint_without_a_list_is_alive_when_it_refuses_an_empty_request",
        "commands:test_the_probe_reads_what_ollama_tells_of_tools",
        "commands:test_the_probe_reads_what_llama_cpp_tells_of_its_slots",
    ],
    "openai:43": [
        "agent:test_several_calls_of_a_turn_run_together_and_are_answered_in_order",
        "agent:test_tool_call_limit_is_kept_exactly_and_leaves_no_call_open",
    ],
    "context:a": ["guard:test_less_read_of_a_prompt_that_only_grew_is_flagged"],
    "context:b, c": ["guard:test_a_cut_prompt_is_known_by_what_was_read"],
    "context:d": [
        "requests:test_24_ollama_is_asked_for_the_context_of_a_loaded_model_once",
        "requests:test_24_an_odd_list_of_loaded_models_tells_nothing",
        "guard:test_an_answer_to_a_cut_prompt_is_not_taken_once_the_context_is_known",
    ],
    "context:before sending": [
        "guard:test_a_known_context_is_kept_before_anything_is_sent",
        "guard:test_a_question_that_alone_is_too_long_is_refused_with_the_remedy",
    ],
    "context:flag": ["guard:test_a_prompt_that_was_probably_cut_is_flagged"],
    "fault:E1": [
        "errors:test_a_rate_limit_says_how_long_to_wait",
        "retry:test_retry_after_is_never_undercut",
        "governor:test_a_rate_limit_is_waited_for_and_is_no_failure",
        "governor:test_a_long_wait_closes_the_gate_and_gives_the_slot_away",
    ],
    "fault:E2": [
        "errors:WAITS:none",
        ROWS + "E2 credit",
        "mapping:test_spent_credit_is_not_a_rate_limit",
        "retry:test_what_another_attempt_cannot_help_is_not_tried_again",
    ],
    "fault:E3": [
        "faults:test_an_error_status_is_one_leaf_and_one_call",
        "retry:test_a_retryable_error_is_tried_again_until_the_policy_ends_it",
    ],
    "fault:E4": ["faults:test_an_error_status_is_one_leaf_and_one_call"],
    "fault:E5": [
        "faults:test_a_refused_connection_names_the_remedy_at_once",
        "mapping:test_a_name_that_does_not_resolve_names_the_address",
        "ways:test_a_certificate_that_nobody_vouches_for_is_refused",
        "faults:test_a_plain_endpoint_asked_for_encryption_is_named",
    ],
    "fault:E6": [
        "dead:test_a_dead_endpoint_gets_a_probe_a_second_and_recovers_within_two",
        "governor:test_a_breaker_that_is_open_fails_at_once_where_so_configured",
    ],
    "fault:E7": [
        "faults:test_the_total_bounds_every_call",
        "faults:test_a_stream_has_limits_of_its_own",
        "job:test_a_running_task_is_cancelled_and_its_request_closed",
    ],
    "fault:E8": [
        "faults:test_the_total_bounds_every_call",
        "bodies:test_head_lines_that_drip_end_with_the_total",
    ],
    "fault:E9": [
        "faults:test_an_answer_cut_on_the_wire_is_never_a_completion",
        "bodies:test_a_compressed_body_that_is_broken_is_no_answer",
    ],
    "fault:E10 (stream)": [
        *(BAD + "E10 an event that is " + w for w in ("not JSON", "a list")),
        *(GOOD + "E10 " + w for w in ("no [DONE]", "two choices")),
        "streams:test_e10_a_hundred_thousand_tiny_events_are_one_answer",
        "streams:test_e10_tiny_events_without_end_meet_the_byte_cap",
    ],
    "fault:E11": [
        *(BAD + "E11 " + w for w in ("HTML", "an empty")),
        *(GOOD + "E11 a " + w for w in ("byte order", "document with")),
        "hostile:test_any_answer_has_one_typed_outcome",
    ],
    "fault:E12": [
        *(BAD + "E12 " + w for w in ("no choices", "empty choices", "message null")),
        *(GOOD + "E12 " + w for w in ("extra", "content in parts", "numbers as")),
        "hostile:test_any_answer_has_one_typed_outcome",
    ],
    "fault:E13": [
        *(BAD_CALLS + f"E13 {w}" for w in ("not J", "a list", "NaN", "a key", "nest")),
        BAD_CALLS + "E13 5 MB",
        "hostile:test_nesting_of_any_depth_has_one_typed_outcome",
        "data:test_unusable_arguments_turn_after_turn_fail_by_name",
    ],
    "fault:E14": [
        TWO + "E14 one id",
        TWO + "E14 document",
        "calls:test_two_hundred_parallel_calls_keep_their_own_ids",
        "agent:test_obedient_model_runs_no_tool_that_the_agent_does_not_have",
    ],
    "fault:E16": [
        "calls:test_a_call_cut_at_the_token_limit_is_flagged",
        "agent:test_answer_that_was_cut_is_partial",
    ],
    "fault:E17": [
        *(ROWS + f"E17 {w}" for w in ("filter", "refusal", "filtered", "refusal, s")),
        GOOD + "E17 an unknown",
    ],
    "fault:E19": [
        "guard:test_a_refused_prompt_is_shortened_once_and_history_is_untouched",
        "guard:test_a_prompt_that_is_refused_twice_fails_by_name",
    ],
    "fault:E21": [
        "agent:test_turn_limit_asks_for_an_answer_without_tools",
        "agent:test_tool_call_limit_is_kept_exactly_and_leaves_no_call_open",
        "governor:test_a_completion_that_may_pass_a_budget_is_not_asked_for",
    ],
    "outcome: time": [
        "faults:test_the_total_bounds_every_call",
        "bodies:test_an_endless_stream_ends_with_the_total",
    ],
    "outcome: bytes": [
        "faults:test_a_reply_larger_than_the_limit_is_cut_off",
        "bodies:test_a_compressed_bomb_is_cut_off_in_little_memory",
        "bodies:test_a_compressed_bomb_as_an_error_body_is_cut_off_too",
        "bodies:test_an_encoding_nobody_asked_for_is_named",
    ],
    "budget: concurrency": ["accounts:test_fifty_at_once_never_pass_the_limit"],
    "budget: crash": [
        "dues:test_dues_are_paid_although_the_lease_is_lost",
        "gated:test_a_call_that_was_cut_off_stays_counted_whole",
        "owing:test_a_run_stopped_between_answer_and_record_pays_what_it_took",
    ],
    "budget: kinds": [
        "governor:test_real_usage_settles_the_gate_and_the_budget",
        "governor:test_a_tenants_day_is_bounded_over_its_agents",
        "accounts:test_a_day_begins_anew",
        "data:test_a_spent_budget_ends_with_a_last_short_answer",
        "data:test_a_spent_budget_fails_at_once_where_so_configured",
        "spent:test_a_person_lets_the_task_spend_its_budget_again",
    ],
}
QUIRKS, FAULTS = 43, (*range(1, 15), 16, 17, 19, 21)


def module(name: str) -> ModuleType:
    return importlib.import_module(MODULES[name])


@pytest.mark.parametrize("row", TESTS)
def test_each_test_that_stands_for_a_row_is_there(row: str):
    for named in TESTS[row]:
        where, name, *entry = named.split(":", 2)
        found = getattr(module(where), name, None)
        assert found is not None, named
        if entry:
            assert any(key.startswith(entry[0]) for key in found), named


def test_no_row_is_left_out():
    quirks = {int(r[7:].split()[0]) for r in TESTS if r.startswith("openai:")}
    faults = {int(r[7:].split()[0]) for r in TESTS if r.startswith("fault:E")}
    assert quirks == set(range(1, QUIRKS + 1))
    assert faults == set(FAULTS)


def test_no_entry_of_a_table_stands_for_nothing():
    """An entry that no row names belongs to none, or its row is forgotten."""
    named = {entry for row in TESTS.values() for entry in row if entry.count(":") == 2}
    tables = {tuple(entry.split(":", 2)[:2]) for entry in named} - {("errors", "WAITS")}
    for where, table in sorted(tables):
        for key in getattr(module(where), table):
            place = f"{where}:{table}:{key}"
            assert any(place.startswith(entry) for entry in named), place

"""What the service is sent, threats and promises, row by row, and the tests of each.

`input:` are the rows of bad HTTP input (6.2), `threat:S` those of security (7),
`promise:P` the three that are the service's. A row names test functions that try to
break it; what a row asks for and is not built is said in docs/guarantees.md.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

import pytest

PAGE: Final = (Path(__file__).parents[2] / "docs/guarantees.md").read_text()
_UNIT = "tests.unit"
_HTTP = "tests.unit.orchestrator.http"
MODULES: Final = {
    "doors": "tests.integration.test_http_doors",
    "wire": "tests.integration.test_http_wire",
    "scopes": "tests.integration.test_http_scopes",
    "pages": "tests.integration.test_http_pages",
    "answers": "tests.integration.test_http_answers",
    "load": "tests.integration.test_http_load",
    "admission": "tests.integration.test_http_admission",
    "secrets": "tests.integration.test_http_secrets",
    "obedience": "tests.integration.test_http_obedience",
    "histories": "tests.integration.test_http_histories",
    "processes": "tests.integration.test_http_processes",
    "keys": "tests.integration.test_endpoint_secrets",
    "users": "tests.integration.test_redis_users",
    "encrypted": "tests.integration.test_redis_encrypted",
    "no redis": "tests.integration.test_no_redis",
    "hooks": "tests.integration.test_webhooks",
    "client": "tests.acceptance.test_openai_client",
    "garbage": "tests.faults.test_malformed_messages",
    "dispatch": "tests.conformance.test_task_dispatch",
    "decisions": "tests.conformance.test_task_decisions",
    "budget": "tests.conformance.test_budget",
    "auth": f"{_HTTP}.test_auth",
    "page": f"{_HTTP}.test_page",
    "login": f"{_HTTP}.test_page_login",
    "status": f"{_HTTP}.test_status",
    "refusals": f"{_HTTP}.test_refusals",
    "code": f"{_UNIT}.test_no_code_from_data",
    "packaging": f"{_UNIT}.test_packaging",
    "file": f"{_UNIT}.orchestrator.test_settings_file",
    "url": f"{_UNIT}.orchestrator.test_redis_url",
    "webhook": f"{_UNIT}.orchestrator.test_webhook",
    "talk": f"{_UNIT}.conversations.test_hygiene",
    "flower": f"{_UNIT}.orchestrator.test_cli",
    "message": f"{_UNIT}.workers.test_task_message",
    "agent": f"{_UNIT}.workers.agents.test_llm_agent",
    "roots": f"{_UNIT}.workers.tools.test_document_roots",
    "registry": f"{_UNIT}.workers.tools.test_registry",
    "tool": f"{_UNIT}.workers.tools.test_tool",
    "browser": "tests.browser.test_page",
}

TESTS: Final[dict[str, list[str]]] = {
    "input:15": ["doors:test_no_route_answers_without_a_key_that_allows_it"],
    "input:16": [
        "doors:test_another_tenant_finds_nothing_and_cannot_tell_it_from_unknown",
        "pages:test_another_tenant_cannot_tell_a_page_from_one_that_is_not",
    ],
    "input:17": ["doors:test_a_body_that_is_too_large_is_refused_before_it_is_read"],
    "input:18": ["doors:test_a_body_that_cannot_be_taken_is_refused_by_name"],
    "input:21": [
        "wire:test_tricks_with_paths_lead_nowhere",
        "doors:test_a_wrong_method_is_named",
    ],
    "input:22": [
        "wire:test_a_slow_client_is_cut_off_while_others_are_served",
        "wire:test_a_body_that_nobody_reads_may_not_drip_for_ever",
        "load:test_a_thousand_idle_connections_keep_nobody_out",
        "answers:test_too_many_connections_are_asked_to_come_later_and_liveness_answers",
        "load:test_readers_that_take_nothing_hold_a_bounded_amount_of_memory",
    ],
    "input:23": ["doors:test_a_page_that_cannot_be_is_refused"],
    "input:24": [
        "doors:test_a_body_that_cannot_be_taken_is_refused_by_name",
        "doors:test_a_reused_idempotency_key_is_a_conflict",
    ],
    "input:26": [
        "doors:test_what_has_ended_cannot_be_cancelled_and_again_is_harmless",
        "client:test_a_cancel_is_final_and_again_harmless",
    ],
    "promise:P17": [
        "keys:test_no_key_is_kept_anywhere",
        "secrets:test_no_secret_leaves_the_http_service",
    ],
    "promise:P18": [
        "doors:test_another_tenant_finds_nothing_and_cannot_tell_it_from_unknown",
        "pages:test_another_tenant_cannot_tell_a_page_from_one_that_is_not",
        "pages:test_filters_of_the_list_do_not_reach_into_another_tenant",
        "status:test_a_tenant_is_told_its_own_figures_alone",
        "answers:test_a_tenant_sees_how_its_own_runs_fared_and_no_others",
    ],
    "promise:P19": [
        "scopes:test_every_route_says_what_it_needs",
        "scopes:test_each_key_does_what_its_scopes_allow_and_no_more",
        "pages:test_a_page_is_shown_to_who_may_see_it",
    ],
    "threat:S1": [
        "code:test_celery_reads_and_writes_json_alone",
        "code:test_nothing_is_imported_that_revives_objects",
        "code:test_nothing_evaluates_text",
        "garbage:test_garbage_is_put_aside_and_counted_and_the_worker_lives",
        "message:test_types_of_kombus_json_stay_plain",
    ],
    "threat:S2": [
        "garbage:test_what_a_message_claims_beside_its_task_is_ignored",
        "message:test_limits_delays_retries_and_links_of_a_message_are_left_out",
        "message:test_no_value_of_a_field_raises_anything_else",
    ],
    "threat:S3": [
        "users:test_the_user_may_not_do_what_nothing_here_needs",
        "users:test_the_whole_system_runs_with_the_users_rights",
    ],
    "threat:S4": [
        "secrets:test_no_secret_leaves_the_http_service",
        "keys:test_no_key_is_kept_anywhere",
    ],
    "threat:S5": [
        "auth:test_settings_that_would_be_open_are_refused",
        "scopes:test_each_key_does_what_its_scopes_allow_and_no_more",
    ],
    "threat:S6": ["flower:test_flower_wants_a_login_on_any_other_address"],
    "threat:S7": [
        "encrypted:test_a_certificate_that_does_not_fit_is_refused_and_tells_no_password",
        "encrypted:test_no_login_is_sent_in_the_clear_to_a_server_that_speaks_tls",
        "encrypted:test_what_crosses_a_network_in_the_clear_is_told",
        "url:test_a_shown_url_holds_no_secret",
        "no redis:test_a_wrong_password",
    ],
    "threat:S8": [
        "doors:test_another_tenant_finds_nothing_and_cannot_tell_it_from_unknown",
        "pages:test_another_tenant_cannot_tell_a_page_from_one_that_is_not",
    ],
    "threat:S9": [
        "scopes:test_each_key_does_what_its_scopes_allow_and_no_more",
        "login:test_a_decision_goes_through_and_not_on_ones_own_task",
        "refusals:test_who_retries_has_submitted_the_new_task",
    ],
    "threat:S10": [
        "admission:test_a_tenant_with_too_many_tasks_is_asked_to_wait_and_others_are_not",
        "admission:test_a_tenant_that_submits_too_fast_is_asked_to_wait",
        "dispatch:test_tenants_share_the_line_however_much_one_submits",
        "budget:test_fifty_at_once_never_pass_the_limit",
    ],
    "threat:S11": [
        "code:test_requests_are_sent_from_few_places",
        "webhook:test_any_other_url_is_refused",
        "hooks:test_a_url_that_the_worker_does_not_allow_gets_nothing",
        "hooks:test_what_is_not_taken_is_tried_again_later_and_no_redirect_followed",
    ],
    "threat:S12": [
        "obedience:test_a_client_widens_nothing_by_parameters",
        "keys:test_no_key_is_kept_anywhere",
    ],
    "threat:S13": [
        "roots:test_path_that_leads_out_of_the_roots_is_refused",
        "roots:test_directory_link_that_leads_out_is_refused",
        "roots:test_pipe_is_refused_at_once",
        "wire:test_tricks_with_paths_lead_nowhere",
        "file:test_what_is_no_regular_file_is_not_opened",
    ],
    "threat:S14": [
        "file:test_a_file_that_cannot_be_used_gets_one_clear_line",
        "code:test_yaml_is_read_by_a_safe_loader_alone",
    ],
    "threat:S15": [
        "obedience:test_an_order_in_a_tools_output_runs_nothing_that_the_agent_may_not",
        "agent:test_obedient_model_runs_no_tool_that_the_agent_does_not_have",
    ],
    "threat:S16": [
        "registry:test_tool_that_is_not_allowed_is_not_run_whatever_the_model_asks",
        "tool:test_bad_arguments_are_listed_and_the_function_is_not_run",
        "agent:test_agent_that_may_call_no_tool_is_offered_none",
        "obedience:test_a_client_widens_nothing_by_parameters",
        "obedience:test_a_client_cannot_take_the_place_of_a_workers_tool",
    ],
    "threat:S17": ["code:test_requests_are_sent_from_few_places"],
    "threat:S18": [
        "decisions:test_a_decision_that_nobody_awaits_is_refused",
        "decisions:test_a_decision_to_run_is_used_up_by_the_next_start",
        "decisions:test_a_second_decision_does_not_overrule_the_first",
        "decisions:test_a_parked_task_waits_with_its_call_shown",
        "login:test_a_decision_goes_through_and_not_on_ones_own_task",
    ],
    "threat:S19": [
        "page:test_whatever_a_model_or_user_wrote_is_shown_and_not_run",
        "browser:test_a_flood_of_text_fits_a_phone_and_stays_text",
    ],
    "threat:S20": [
        "doors:test_roles_that_clients_may_not_write_are_refused",
        "talk:test_clients_write_only_the_roles_that_they_are_allowed",
        "histories:test_a_history_of_ours_is_no_conversation_of_a_client",
    ],
    "threat:S21": [
        "obedience:test_a_client_brings_no_tool_that_would_be_run_here",
        "code:test_requests_are_sent_from_few_places",
    ],
    "threat:S22": [
        "packaging:test_every_pin_of_a_lock_has_hashes",
        "packaging:test_the_image_installs_only_what_the_lock_names",
        "packaging:test_a_lock_names_no_index_and_no_place_on_a_disk",
    ],
    "threat:S23": [
        "admission:test_who_asked_for_a_change_is_written_down_and_what_was_sent_is_not"
    ],
    "threat:S24": [
        "processes:test_what_is_deleted_over_http_is_nowhere",
        "histories:test_a_refused_request_leaves_no_history",
    ],
}
INPUTS: Final = {15, 16, 17, 18, 21, 22, 23, 24, 26}
THREATS: Final = set(range(1, 25))
PROMISES: Final = {17, 18, 19}


@pytest.mark.parametrize("row", TESTS)
def test_each_test_that_stands_for_a_row_is_there(row: str) -> None:
    assert TESTS[row]
    for named in TESTS[row]:
        where, name = named.split(":")
        module = importlib.import_module(MODULES[where])
        assert callable(getattr(module, name, None)), named


def test_no_row_is_left_out() -> None:
    def numbers(kind: str) -> set[int]:
        found = (re.fullmatch(rf"{kind}(\d+)", row) for row in TESTS)
        return {int(row[1]) for row in found if row}

    assert numbers("input:") == INPUTS
    assert numbers("threat:S") == THREATS
    assert numbers("promise:P") == PROMISES
    assert len(TESTS) == len(INPUTS) + len(THREATS) + len(PROMISES)


def test_no_module_stands_for_nothing() -> None:
    used = {named.split(":")[0] for row in TESTS.values() for named in row}
    assert used == set(MODULES)


def test_the_page_of_guarantees_tells_of_every_row() -> None:
    told = re.findall(r"^\| (S?\d+)(?:, S\d+)* \|", PAGE, re.M)
    missing = {f"S{n}" for n in THREATS} - {each for each in told if each[0] == "S"}
    assert not missing
    assert {str(n) for n in INPUTS} <= set(told)

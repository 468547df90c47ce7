"""The checks that the image and its calls are judged by on one machine, made on each target too.

Left out: tests of several parameters, which would boot each target anew; what is measured rather than true or false
(test_guests.py reports it); and calls for which a hundred packets that come a little late count as lost.
"""

from __future__ import annotations

import pytest

from tests.calls.conftest import no_call_left
from tests.calls.test_calls import (
    test_a_forged_number_reaches_nobody,
    test_caller_id_is_the_tenant_s_name_for_the_extension,
)
from tests.calls.test_registration import (
    test_a_call_without_credentials_rings_nowhere,
    test_a_phone_unregisters_and_registers_again,
    test_a_wrong_password_is_refused_like_an_unknown_number,
    test_both_phones_register,
)
from tests.calls.test_voicemail import (
    test_a_busy_phone_s_caller_is_greeted_as_such,
    test_an_unanswered_call_leaves_a_message_that_is_heard_with_the_pin,
)
from tests.image.test_identity_and_secrets import (
    test_asterisk_s_configuration_is_closed_to_others,
    test_asterisk_s_state_is_its_own,
    test_host_keys_are_the_identity_s_and_private,
    test_machine_id_host_name_and_time_zone_are_the_clone_s,
    test_network_is_as_the_tenant_declares,
    test_no_account_can_log_in_with_a_password,
    test_no_secret_can_be_read_by_everybody,
    test_secrets_are_stored_as_digests_only,
    test_ssh_takes_keys_only,
)
from tests.image.test_system import (
    test_asterisk_had_nothing_to_complain_about,
    test_asterisk_is_version_22_with_the_declared_accounts,
    test_asterisk_runs_as_its_own_user,
    test_clock_is_right,
    test_memory_in_use_after_boot,
    test_no_shell_waits_on_any_console,
    test_nothing_failed_at_boot,
    test_nothing_listens_but_ssh_and_sip,
)

pytestmark = pytest.mark.xdist_group("xen")

__all__ = [
    "no_call_left",
    "test_a_busy_phone_s_caller_is_greeted_as_such",
    "test_a_call_without_credentials_rings_nowhere",
    "test_a_forged_number_reaches_nobody",
    "test_a_phone_unregisters_and_registers_again",
    "test_a_wrong_password_is_refused_like_an_unknown_number",
    "test_an_unanswered_call_leaves_a_message_that_is_heard_with_the_pin",
    "test_asterisk_had_nothing_to_complain_about",
    "test_asterisk_is_version_22_with_the_declared_accounts",
    "test_asterisk_runs_as_its_own_user",
    "test_asterisk_s_configuration_is_closed_to_others",
    "test_asterisk_s_state_is_its_own",
    "test_both_phones_register",
    "test_caller_id_is_the_tenant_s_name_for_the_extension",
    "test_clock_is_right",
    "test_host_keys_are_the_identity_s_and_private",
    "test_machine_id_host_name_and_time_zone_are_the_clone_s",
    "test_memory_in_use_after_boot",
    "test_network_is_as_the_tenant_declares",
    "test_no_account_can_log_in_with_a_password",
    "test_no_secret_can_be_read_by_everybody",
    "test_no_shell_waits_on_any_console",
    "test_nothing_failed_at_boot",
    "test_nothing_listens_but_ssh_and_sip",
    "test_secrets_are_stored_as_digests_only",
    "test_ssh_takes_keys_only",
]

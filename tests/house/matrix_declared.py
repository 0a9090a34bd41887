"""What each actor gets at each route: the one declaration that the matrix is held against.

By route (or pattern of routes), by methods, a line: actors with an outcome, `*` for all others. An outcome is the
status of the answer, or `login` where somebody is sent to sign in. A 400 says that the request got past the door.
The first pattern that fits a route is its own, unless it is declared by its whole name.
"""

FOR_EVERYBODY = frozenset(
    {
        "admin:login", "admin:logout", "openapi", "rest-docs", "account_login", "account_logout", "account_inactive",
        "account_signup", "account_email_verification_sent", "account_confirm_email", "account_reset_password",
        "account_reset_password_done", "account_reset_password_from_key_done", "account_reset_password_from_key",
        "single_sign_on", "socialaccount_login_cancelled", "socialaccount_login_error",
    }
)  # fmt: skip
OWN_THINGS = frozenset({"account_confirm_email", "account_reset_password_from_key"})
"""Routes with a part that names nothing of a tenant's, so that others may come as well."""
OF_THE_VIEWER = frozenset({"mfa_edit_webauthn", "mfa_remove_webauthn", "console:member_remove"})
"""What people do about themselves, where a higher role has no say."""

CLOSED_TO_GUESTS = ("admin:*", "account_*", "mfa_*", "usersessions_*")
OPEN_TO_GUESTS = frozenset({"account_login", "account_logout", "account_inactive", "mfa_authenticate"})
"""Who came by a tenant's single sign-on is kept out of these with 403, whatever they ask, but for the latter.

Everywhere else such a session gets what that tenant's owner gets, the stranger, and no line names it.
"""

ALL = "GET HEAD POST PUT PATCH DELETE OPTIONS"
OPERATORS = {ALL: "operator 200; * login"}
CLOSED = {ALL: "operator 403; * login"}
"""Not even operators."""
TO_BE_READ = {"GET HEAD PUT PATCH DELETE OPTIONS": "operator 200; * login", "POST": "operator 403; * login"}

LIST = {
    "GET HEAD OPTIONS": "inference 403; manage foreign 200; * 401",
    "POST": "inference 403; manage 201; foreign 201; * 401",
    "PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
}
RECORD = {
    "GET HEAD PUT PATCH": "inference 403; manage 200; foreign 404; * 401",
    "POST DELETE": "inference 403; manage foreign 405; * 401",
    "OPTIONS": "inference 403; manage foreign 200; * 401",
}
VERB = {
    "GET HEAD PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
    "POST": "inference 403; manage 200; foreign 404; * 401",
    "OPTIONS": "inference 403; manage foreign 200; * 401",
}
FACT = {
    "GET HEAD": "inference 403; manage 200; foreign 404; * 401",
    "POST PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
    "OPTIONS": "inference 403; manage foreign 200; * 401",
}
REPORT = {
    "GET HEAD OPTIONS": "inference 403; manage foreign 200; * 401",
    "POST PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
}
QUESTION = {
    "GET HEAD PUT PATCH DELETE": "inference manage foreign 405; * 401",
    "POST": "inference manage foreign 400; * 401",
    "OPTIONS": "inference manage foreign 200; * 401",
}
"""What any key may ask: whose things it may ask about is decided by what it names."""
TOLD = {
    "GET HEAD PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
    "POST": "inference 403; manage foreign 400; * 401",
    "OPTIONS": "inference 403; manage foreign 200; * 401",
}
PAGE = {
    "GET HEAD": "nobody inference manage foreign login; operator 403; * 200",
    "POST PUT PATCH DELETE OPTIONS": "* 405",
}

OWN_PAGE = {
    "GET HEAD POST PUT OPTIONS": "nobody inference manage foreign login; * 200",
    "PATCH DELETE": "nobody inference manage foreign login; * 405",
}
"""A form about oneself."""
OWN_VIEW = {
    "GET HEAD OPTIONS": "nobody inference manage foreign login; * 200",
    "POST PUT PATCH DELETE": "nobody inference manage foreign login; * 405",
}
"""What there is of oneself."""
NOTICE = {
    "GET HEAD OPTIONS": "* 200",
    "POST PUT PATCH DELETE": "* 405",
}
"""A sentence for everybody."""
NOT_NOW = {
    ALL: "nobody inference manage foreign login; * 302",
}
"""Where nothing is to be proved, people are led on."""
NOT_THERE = {ALL: "* 404"}
PUBLIC = {"GET HEAD": "* 200", "POST PUT PATCH DELETE OPTIONS": "* 405"}

DECLARED: dict[str, dict[str, str]] = {
    # People.
    "console:overview": PAGE,
    "console:activity": PAGE,
    "console:incidents": PAGE,
    "console:call": {
        "GET HEAD": "viewer developer admin owner 200; stranger 404; operator 403; * login",
        "POST PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:tenant": {
        "GET HEAD PUT PATCH DELETE OPTIONS": "nobody inference manage foreign login; * 405",
        "POST": "viewer developer admin owner 302; stranger operator 404; * login",
    },
    "console:members": {
        "GET HEAD": "viewer developer operator 403; admin owner stranger 200; * login",
        "POST PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:invite": {
        "GET HEAD": "viewer developer operator 403; admin owner stranger 302; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
        "POST": "viewer developer operator 403; admin owner stranger 200; * login",
    },
    "console:member_role": {
        "GET HEAD POST": "viewer developer operator 403; admin owner 302; stranger 404; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:member_remove": {
        "GET HEAD": "viewer admin owner 200; developer stranger 404; operator 403; * login",
        "POST": "viewer admin owner 302; developer stranger 404; operator 403; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:invitation_revoke": {
        "GET HEAD PUT PATCH DELETE OPTIONS": "* 405",
        "POST": "viewer developer operator 403; admin owner 302; stranger 404; * login",
    },
    "console:sign_on": {
        "GET HEAD": "viewer developer admin operator 403; owner stranger 200; * login",
        "POST PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:second_factor": {
        "GET HEAD POST": "viewer developer admin operator 403; owner stranger 302; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:identity_provider": {
        "GET HEAD POST": "viewer developer admin operator 403; owner stranger 200; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "console:identity_provider_remove": {
        "GET HEAD": "viewer developer admin operator 403; owner stranger 200; * login",
        "POST": "viewer developer admin operator 403; owner stranger 302; * login",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "account_login": {
        "GET HEAD POST PUT OPTIONS": "nobody inference manage foreign 200; * 302",
        "PATCH DELETE": "nobody inference manage foreign 405; * 302",
    },
    "account_logout": {
        "GET HEAD": "nobody inference manage foreign login; * 200",
        "POST": "* login",
        "PUT PATCH DELETE": "* 405",
        "OPTIONS": "* 200",
    },
    "account_inactive": NOTICE,
    "account_signup": {
        ALL: "nobody inference manage foreign 200; * 302",
    },
    "account_reauthenticate": OWN_PAGE,
    "account_email": {
        "GET HEAD OPTIONS": "nobody inference manage foreign login; * 200",
        "POST PUT": "nobody inference manage foreign login; * 302",
        "PATCH DELETE": "nobody inference manage foreign login; * 405",
    },
    "account_email_verification_sent": NOTICE,
    "account_confirm_email": {
        "GET HEAD OPTIONS": "* 200",
        "POST": "* 404",
        "PUT PATCH DELETE": "* 405",
    },
    "account_change_password": OWN_PAGE,
    "account_set_password": NOT_NOW,
    "account_reset_password": {
        "GET HEAD POST PUT OPTIONS": "* 200",
        "PATCH DELETE": "* 405",
    },
    "account_reset_password_done": NOTICE,
    "account_reset_password_from_key_done": NOTICE,
    "account_reset_password_from_key": {
        ALL: "* 200",
    },
    "mfa_index": OWN_VIEW,
    "mfa_authenticate": NOT_NOW,
    "mfa_reauthenticate": NOT_NOW,
    "mfa_activate_totp": OWN_PAGE,
    "mfa_deactivate_totp": {
        ALL: "nobody inference manage foreign login; * 404",
    },
    "mfa_view_recovery_codes": {
        "GET HEAD": "nobody inference manage foreign login; * 404",
        "POST PUT PATCH DELETE": "nobody inference manage foreign login; * 405",
        "OPTIONS": "nobody inference manage foreign login; * 200",
    },
    "mfa_generate_recovery_codes": {
        "GET HEAD OPTIONS": "nobody inference manage foreign login; * 200",
        "POST PUT": "nobody inference manage foreign login; viewer 302; * 200",
        "PATCH DELETE": "nobody inference manage foreign login; * 405",
    },
    "mfa_download_recovery_codes": {
        ALL: "nobody inference manage foreign login; * 404",
    },
    "mfa_list_webauthn": OWN_VIEW,
    "mfa_add_webauthn": OWN_PAGE,
    "mfa_login_webauthn": {
        "GET HEAD POST PUT": "nobody inference manage foreign login; * 302",
        "PATCH DELETE": "nobody inference manage foreign 405; * 302",
        "OPTIONS": "nobody inference manage foreign 200; * 302",
    },
    "mfa_reauthenticate_webauthn": {
        "GET HEAD OPTIONS": "nobody inference manage foreign login; viewer 200; * 302",
        "POST PUT": "developer admin owner stranger operator 302; * login",
        "PATCH DELETE": "nobody inference manage foreign login; viewer 405; * 302",
    },
    "mfa_edit_webauthn": {
        "GET HEAD POST PUT": "nobody inference manage foreign login; viewer 200; * 404",
        "PATCH DELETE": "nobody inference manage foreign login; * 405",
        "OPTIONS": "nobody inference manage foreign login; * 200",
    },
    "mfa_remove_webauthn": {
        "GET HEAD": "nobody inference manage foreign login; viewer 200; * 404",
        "POST DELETE": "nobody inference manage foreign login; viewer 302; * 404",
        "PUT PATCH": "nobody inference manage foreign login; * 405",
        "OPTIONS": "nobody inference manage foreign login; * 200",
    },
    "usersessions_list": {
        "GET HEAD OPTIONS": "nobody inference manage foreign login; * 200",
        "POST PUT": "nobody inference manage foreign login; * 302",
        "PATCH DELETE": "nobody inference manage foreign login; * 405",
    },
    "single_sign_on": {
        "GET HEAD": "* 200",
        "POST PUT PATCH DELETE OPTIONS": "* 405",
    },
    "socialaccount_login_cancelled": NOTICE,
    "socialaccount_login_error": {
        "GET HEAD": "* 401",
        "POST PUT PATCH DELETE": "* 405",
        "OPTIONS": "* 200",
    },
    "openid_connect_login": NOT_THERE,
    "openid_connect_callback": NOT_THERE,
    "invitation": {
        "GET HEAD POST": "* 410",
        "PUT PATCH DELETE OPTIONS": "* 405",
    },
    "invitation_link": {
        "GET HEAD": "* 410",
        "POST PUT PATCH DELETE OPTIONS": "* 405",
    },
    # Programs.
    "integrations": LIST,
    "keys": LIST,
    "limits": LIST,
    "key": RECORD,
    "limit": RECORD,
    "integration": {
        "GET HEAD PUT PATCH": "inference 403; manage 200; foreign 404; * 401",
        "POST": "inference 403; manage foreign 405; * 401",
        "DELETE": "inference 403; manage 204; foreign 404; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
    },
    "integration-health": FACT,
    "integration-limits": FACT,
    "integration-enable": VERB,
    "integration-disable": VERB,
    "integration-test": VERB,
    "key-freeze": VERB,
    "key-unfreeze": VERB,
    "key-revoke": VERB,
    "key-rotate": VERB,
    "limit-raise": VERB,
    "limit-lift": VERB,
    "key-test": {
        "GET HEAD PUT PATCH DELETE": "inference manage foreign 405; * 401",
        "POST": "inference 403; manage 200; foreign 404; * 401",
        "OPTIONS": "inference manage foreign 200; * 401",
    },
    "decision": {
        "GET HEAD": "inference foreign 404; manage 200; * 401",
        "POST PUT PATCH DELETE": "inference manage foreign 405; * 401",
        "OPTIONS": "inference manage foreign 200; * 401",
    },
    "audit-events": {
        "GET HEAD": "inference 403; manage foreign 200; * 401",
        "POST PUT PATCH DELETE": "inference manage foreign 405; * 401",
        "OPTIONS": "inference manage foreign 200; * 401",
    },
    "decisions": {
        "GET HEAD OPTIONS": "inference manage foreign 200; * 401",
        "POST PUT PATCH DELETE": "inference manage foreign 405; * 401",
    },
    "usage-history": REPORT,
    "usage-summary": REPORT,
    "daily-aggregates": REPORT,
    "evidence-checkpoint": REPORT,
    "evidence-proof": {
        "GET HEAD": "inference 403; manage foreign 400; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
        "POST PUT PATCH DELETE": "inference 403; manage foreign 405; * 401",
    },
    "usage-export": REPORT,
    "integration-coverage": {
        "GET HEAD PUT": "inference 403; manage 200; foreign 404; * 401",
        "POST PATCH DELETE": "inference 403; manage foreign 405; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
    },
    "telemetry-llm-usage": TOLD,
    "telemetry-forget": {**TOLD, "POST": "inference 403; manage foreign 200; * 401"},
    "telemetry-llm-usage-batch": TOLD,
    "tenant": {
        "GET HEAD PATCH OPTIONS": "inference 403; manage foreign 200; * 401",
        "POST PUT DELETE": "inference 403; manage foreign 405; * 401",
    },
    "members": LIST,
    "member": {
        "GET HEAD PATCH DELETE": "inference 403; manage 200; foreign 404; * 401",
        "POST PUT": "inference 403; manage foreign 405; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
    },
    "open-invitations": REPORT,
    "open-invitation": {
        "GET HEAD": "inference 403; manage 200; foreign 404; * 401",
        "POST PUT PATCH": "inference 403; manage foreign 405; * 401",
        "DELETE": "inference 403; manage 204; foreign 404; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
    },
    "openapi": PUBLIC,
    "rest-docs": PUBLIC,
    # Of what is another tenant's it says that there is no such integration.
    "enforcement-check": {**QUESTION, "POST": "inference manage foreign 200; * 401"},
    "enforcement-batch": {**QUESTION, "POST": "inference manage foreign 200; * 401"},
    # A limit on what is another tenant's cannot be tried, and without the scope `read` none.
    "enforcement-simulate": {**QUESTION, "POST": "inference 403; manage 200; foreign 400; * 401"},
    "enforcement-replay": {**QUESTION, "POST": "inference 403; manage 200; foreign 400; * 401"},
    "enforcement-status": {
        "GET HEAD OPTIONS": "inference manage foreign 200; * 401",
        "POST PUT PATCH DELETE": "inference manage foreign 405; * 401",
    },
    "reservations": QUESTION,
    "reservation-settle": {**QUESTION, "POST": "inference manage foreign 404; * 401"},
    "reservation-release": {**QUESTION, "POST": "inference manage foreign 404; * 401"},
    "metrics": {"GET HEAD": "* 403", "POST PUT PATCH DELETE OPTIONS": "* 405"},
    # Operators.
    "admin:index": OPERATORS,
    "admin:app_list": OPERATORS,
    "admin:login": {
        "GET": "nobody inference manage foreign login; operator 302; * 403",
        "HEAD POST PUT OPTIONS": "nobody inference manage foreign login; operator 200; * 403",
        "PATCH DELETE": "nobody inference manage foreign login; operator 405; * 403",
    },
    "admin:logout": {
        "GET HEAD PUT PATCH DELETE": "operator 405; * 302",
        "POST": "operator login; * 302",
        "OPTIONS": "operator 200; * 302",
    },
    "admin:password_change": {
        "GET HEAD POST PUT OPTIONS": "operator 200; * login",
        "PATCH DELETE": "operator 405; * login",
    },
    "admin:password_change_done": {
        "GET HEAD OPTIONS": "operator 200; * login",
        "POST PUT PATCH DELETE": "operator 405; * login",
    },
    "admin:jsi18n": {
        "GET HEAD OPTIONS": "operator 200; * login",
        "POST PUT PATCH DELETE": "operator 405; * login",
    },
    "admin:autocomplete": {
        "GET HEAD": "operator 403; * login",
        "POST PUT PATCH DELETE": "operator 405; * login",
        "OPTIONS": "operator 200; * login",
    },
    "admin:view_on_site": {ALL: "operator 404; * login"},
    "admin:admin/<url>": {ALL: "operator 404; * login"},
    "admin:auth_user_password_change": OPERATORS,
    "admin:*_changelist": OPERATORS,
    "admin:*_history": OPERATORS,
    "admin:admin/*/<path:object_id>/": {ALL: "operator 302; * login"},
    # What operators change: nobody deletes what evidence refers to, nor a tenant's last owner.
    "admin:auth_group_delete": OPERATORS,
    "admin:*_delete": CLOSED,
    "admin:auth_group_add": OPERATORS,
    "admin:accounts_user_add": OPERATORS,
    "admin:accounts_tenant_add": OPERATORS,
    "admin:accounts_membership_add": OPERATORS,
    "admin:integrations_integration_add": OPERATORS,
    "admin:integrations_gatewaykey_add": OPERATORS,
    "admin:integrations_limit_add": OPERATORS,
    "admin:*_add": CLOSED,
    "admin:auth_group_change": OPERATORS,
    "admin:accounts_user_change": OPERATORS,
    "admin:accounts_tenant_change": OPERATORS,
    "admin:accounts_membership_change": OPERATORS,
    "admin:integrations_integration_change": OPERATORS,
    "admin:integrations_gatewaykey_change": OPERATORS,
    "admin:*_change": TO_BE_READ,
}

CARRIED = {
    "POST": "inference manage 200; foreign 404; * 401",
    "GET HEAD PUT PATCH DELETE OPTIONS": "inference manage 405; foreign 404; * 401",
}
NOTHING = {ALL: "inference manage foreign 404; * 401"}
DATA_PLANE: dict[str, dict[str, str]] = {
    "proxy": NOTHING,
    "proxy/unknown": NOTHING,
    "proxy/chat/completions": CARRIED,
    "proxy/messages": CARRIED,
    # Without the name of an integration a key has to lead to exactly one.
    "v1/chat/completions": {
        "POST": "inference 200; manage foreign 404; * 401",
        "GET HEAD PUT PATCH DELETE OPTIONS": "inference 405; manage foreign 404; * 401",
    },
    "v1/models": {
        "GET": "inference 200; manage foreign 404; * 401",
        "HEAD POST PUT PATCH DELETE OPTIONS": "inference 405; manage foreign 404; * 401",
    },
    # The sandbox is everybody's.
    "sandbox": {
        "POST": "inference manage foreign 200; * 401",
        "GET HEAD PUT PATCH DELETE OPTIONS": "inference manage foreign 404; * 401",
    },
    "healthz": {ALL: "* 200"},
    "readyz": {ALL: "* 200"},
}
"""The same for the paths of `proxy.door`, which are not Django's."""

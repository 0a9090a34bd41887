"""What each actor gets at each route: the one declaration that the matrix is held against.

By route (or pattern of routes), by methods, a line: actors with an outcome, `*` for all others. An outcome is the
status of the answer, or `login` where somebody is sent to sign in. A 400 says that the request got past the door.
The first pattern that fits a route is its own, unless it is declared by its whole name.
"""

FOR_EVERYBODY = frozenset({"console:login", "console:logout", "admin:login", "admin:logout", "openapi", "rest-docs"})
"""Where nobody is turned away."""
OWN_THINGS: frozenset[str] = frozenset()
"""Routes with a part that names nothing of a tenant's, so that others may come as well."""

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
PAGE = {
    "GET HEAD": "nobody inference manage foreign login; operator 403; * 200",
    "POST PUT PATCH DELETE OPTIONS": "* 405",
}

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
    "console:login": {
        "GET HEAD POST PUT OPTIONS": "nobody inference manage foreign 200; * 302",
        "PATCH DELETE": "nobody inference manage foreign 405; * 302",
    },
    "console:logout": {"GET HEAD PUT PATCH DELETE": "* 405", "POST": "* login", "OPTIONS": "* 200"},
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
    "tenant": {
        "GET HEAD PATCH OPTIONS": "inference 403; manage foreign 200; * 401",
        "POST PUT DELETE": "inference 403; manage foreign 405; * 401",
    },
    "members": LIST,
    "member": {
        "GET HEAD PATCH": "inference 403; manage 200; foreign 404; * 401",
        "POST PUT": "inference 403; manage foreign 405; * 401",
        "DELETE": "inference 403; manage 204; foreign 404; * 401",
        "OPTIONS": "inference 403; manage foreign 200; * 401",
    },
    "openapi": PUBLIC,
    "rest-docs": PUBLIC,
    # Of what is another tenant's it says that there is no such integration.
    "enforcement-check": {**QUESTION, "POST": "inference manage foreign 200; * 401"},
    "enforcement-simulate": QUESTION,
    "enforcement-batch": QUESTION,
    "enforcement-replay": QUESTION,
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
    "admin:login": {"GET": "operator 302; * 200", "HEAD POST PUT OPTIONS": "* 200", "PATCH DELETE": "* 405"},
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
    "GET HEAD PUT PATCH DELETE OPTIONS": "inference manage foreign 404; * 401",
    "POST": "inference manage 200; foreign 404; * 401",
}
NOTHING = {ALL: "inference manage foreign 404; * 401"}
DATA_PLANE: dict[str, dict[str, str]] = {
    "proxy": NOTHING,
    "proxy/unknown": NOTHING,
    "proxy/chat/completions": CARRIED,
    "proxy/messages": CARRIED,
    # Without the name of an integration a key has to lead to exactly one.
    "v1/chat/completions": {**CARRIED, "POST": "inference 200; manage foreign 404; * 401"},
    "v1/models": {
        "GET": "inference 200; manage foreign 404; * 401",
        "HEAD POST PUT PATCH DELETE OPTIONS": "inference manage foreign 404; * 401",
    },
    # The sandbox is everybody's.
    "sandbox": {**CARRIED, "POST": "inference manage foreign 200; * 401"},
    "healthz": {ALL: "* 200"},
    "readyz": {ALL: "* 200"},
}
"""The same for the paths of `proxy.door`, which are not Django's."""

"""Routes of people's own accounts: those of django-allauth that this installation uses, each a transaction.

What changes an account and the audit event of it are kept together or not at all. Signing in is no such change, and
must count failures even when it fails.
"""

from collections.abc import Callable
from typing import Any

from allauth.account import views as account
from allauth.mfa.base import views as factors
from allauth.mfa.recovery_codes import views as recovery_codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as passkeys
from allauth.socialaccount import views as identities
from allauth.usersessions import views as sessions
from django.db import transaction
from django.urls import path, re_path

from console.sign_in import single_sign_on
from console.views import invitations, sign_on

View = Callable[..., Any]


def whole(view: View) -> View:
    """All of what the view writes, or nothing."""
    return transaction.atomic(view)


urlpatterns = [
    path("login/", account.login, name="account_login"),
    path("logout/", account.logout, name="account_logout"),
    path("inactive/", account.account_inactive, name="account_inactive"),
    path("signup/", account.signup, name="account_signup"),
    path("reauthenticate/", account.reauthenticate, name="account_reauthenticate"),
    path("email/", whole(account.email), name="account_email"),
    path("confirm-email/", account.email_verification_sent, name="account_email_verification_sent"),
    path("confirm-email/<str:key>/", whole(account.confirm_email), name="account_confirm_email"),
    path("password/change/", whole(account.password_change), name="account_change_password"),
    path("password/set/", whole(account.password_set), name="account_set_password"),
    path("password/reset/", account.password_reset, name="account_reset_password"),
    path("password/reset/done/", account.password_reset_done, name="account_reset_password_done"),
    path(
        "password/reset/key/done/",
        account.password_reset_from_key_done,
        name="account_reset_password_from_key_done",
    ),
    re_path(
        r"^password/reset/key/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[^/]+)/$",
        whole(account.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path("factors/", factors.index, name="mfa_index"),
    path("factors/authenticate/", factors.authenticate, name="mfa_authenticate"),
    path("factors/reauthenticate/", factors.reauthenticate, name="mfa_reauthenticate"),
    path("factors/totp/activate/", whole(totp.activate_totp), name="mfa_activate_totp"),
    path("factors/totp/deactivate/", whole(totp.deactivate_totp), name="mfa_deactivate_totp"),
    path("factors/codes/", recovery_codes.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("factors/codes/generate/", whole(recovery_codes.generate_recovery_codes), name="mfa_generate_recovery_codes"),
    path("factors/codes/download/", recovery_codes.download_recovery_codes, name="mfa_download_recovery_codes"),
    path("factors/passkeys/", passkeys.list_webauthn, name="mfa_list_webauthn"),
    path("factors/passkeys/add/", whole(passkeys.add_webauthn), name="mfa_add_webauthn"),
    path("factors/passkeys/login/", passkeys.login_webauthn, name="mfa_login_webauthn"),
    path("factors/passkeys/reauthenticate/", passkeys.reauthenticate_webauthn, name="mfa_reauthenticate_webauthn"),
    path("factors/passkeys/<int:pk>/edit/", whole(passkeys.edit_webauthn), name="mfa_edit_webauthn"),
    path("factors/passkeys/<int:pk>/remove/", whole(passkeys.remove_webauthn), name="mfa_remove_webauthn"),
    path("sessions/", whole(sessions.list_usersessions), name="usersessions_list"),
    path("sso/", sign_on.choose, name="single_sign_on"),
    path("sso/cancelled/", identities.login_cancelled, name="socialaccount_login_cancelled"),
    path("sso/error/", identities.login_error, name="socialaccount_login_error"),
    path("sso/<str:provider_id>/login/", single_sign_on.login, name="openid_connect_login"),
    path("sso/<str:provider_id>/login/callback/", single_sign_on.callback, name="openid_connect_callback"),
    path("invitation/", invitations.accept, name="invitation"),
    path("invitation/<str:token>/", invitations.open_link, name="invitation_link"),
]

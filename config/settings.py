"""Django's settings, derived from the typed environment."""

from typing import Any
from urllib.parse import urlsplit

import psycopg.conninfo
from django.core.exceptions import ImproperlyConfigured

from config import postgres
from config.environment import PROJECT, BadEnvironment, environment
from config.mail import NO_MAIL, MailServer

try:
    ENVIRONMENT = environment()
except BadEnvironment as error:
    raise ImproperlyConfigured(str(error)) from None


def database(url: str) -> dict[str, Any]:
    """Django's spelling of a PostgreSQL URL."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    return {
        "ENGINE": "django_prometheus.db.backends.postgresql",
        **{django: str(parts.pop(name, None) or "") for name, django in names.items()},
        # Nobody waits for ever for a database that is there and says nothing.
        "OPTIONS": {"connect_timeout": "5"} | parts,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


BASE_DIR = PROJECT
SECRET_KEY = ENVIRONMENT.secret_key.get_secret_value() if ENVIRONMENT.secret_key else ""
DEBUG = False
PUBLIC = urlsplit(ENVIRONMENT.public_url or "")
ALLOWED_HOSTS = [
    *ENVIRONMENT.allowed_hosts,
    *([PUBLIC.netloc.removesuffix(f":{PUBLIC.port}")] if PUBLIC.netloc else []),
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
EMBEDDED_POSTGRES = ENVIRONMENT.database_url is None
DATABASES = {
    "default": database(
        ENVIRONMENT.database_url.get_secret_value() if ENVIRONMENT.database_url else postgres.dsn(PROJECT)
    )
}
# A pooler gives each transaction another session, in which a cursor of the one before does not exist.
DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = ENVIRONMENT.database_direct_url is not None
DATABASE_DIRECT_URL = ENVIRONMENT.database_direct_url.get_secret_value() if ENVIRONMENT.database_direct_url else None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "console:overview"
LOGOUT_REDIRECT_URL = "account_login"
# Limits of requests hold over all processes; there is no other store than the database.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cus_cache",
        "OPTIONS": {"MAX_ENTRIES": 20_000},
    }
}

INSTALLED_APPS = [
    "django_prometheus",
    "config.admin_apps.OperatorAdmin",
    # Before Django's own, whose commands for passwords and superusers it replaces.
    "accounts",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "allauth.usersessions",
    "integrations",
    "telemetry",
    "enforcement",
    "proxy",
    "console",
    "monitoring",
    "config",
]

MIDDLEWARE = [
    "config.headers.TrustedProxies",
    "config.body_caps.MeasuredBodies",
    "config.rest.request_ids.RequestIds",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "config.static_files.StaticFiles",
    "config.headers.ContentSecurityPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "console.sign_in.boundary.StaysInside",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.rest.rates.RequestRates",
    "config.rest.idempotency.IdempotentPosts",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

STATIC_URL = "/static/"
STATIC_ROOT = None
# Files are served straight from the apps, so that nothing has to be collected before the first start.
WHITENOISE_USE_FINDERS = True

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC.scheme == "https"
CSRF_TRUSTED_ORIGINS = [ENVIRONMENT.public_url] if ENVIRONMENT.public_url else []
# `TrustedProxies` takes the header from everybody else.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENVIRONMENT.trusted_proxies else None
# Only answers to requests over https say so. What else the domain has is not ours to bind, nor browsers' lists.
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if PUBLIC.scheme == "https" else 0
# Other names of the domain (W005, W021): see above. To lead from http to https (W008) is the proxy's business: inside,
# health checks and the data plane speak http.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W008", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Links that set a password are for today.
PASSWORD_RESET_TIMEOUT = 24 * 3600
MAIL = MailServer.parse(ENVIRONMENT.email_url.get_secret_value()) if ENVIRONMENT.email_url else NO_MAIL
EMAIL_BACKEND = MAIL.backend
EMAIL_HOST, EMAIL_PORT = MAIL.host, MAIL.port
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = MAIL.user, MAIL.password
EMAIL_USE_TLS, EMAIL_USE_SSL = MAIL.scheme == "smtp", MAIL.scheme == "smtps"
EMAIL_TIMEOUT = 10
MAIL_IS_SET_UP = MAIL is not NO_MAIL
DEFAULT_FROM_EMAIL = SERVER_EMAIL = ENVIRONMENT.email_from

ACCOUNT_ADAPTER = "console.sign_in.people.PeopleAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory" if MAIL_IS_SET_UP else "none"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_CHANGE_EMAIL = True
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_METHODS = ["password", "mfa"]
# Passwords have limits of their own (`accounts.guesses`), so `login_failed` counts codes only, of who has the password.
ACCOUNT_RATE_LIMITS = {"login_failed": "5/5m/key", "confirm_email": "1/3m/key"}
MFA_ADAPTER = "console.sign_in.factors.FactorAdapter"
MFA_FORMS = {
    "authenticate_webauthn": "console.sign_in.passkeys.AuthenticateForm",
    "login_webauthn": "console.sign_in.passkeys.LoginForm",
    "reauthenticate_webauthn": "console.sign_in.passkeys.ReauthenticateForm",
    "add_webauthn": "console.sign_in.passkeys.AddForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Customhouse"
MFA_TOTP_TOLERANCE = 1
MFA_ALLOW_UNVERIFIED_EMAIL = not MAIL_IS_SET_UP
SOCIALACCOUNT_ADAPTER = "console.sign_in.single_sign_on.SingleSignOnAdapter"
SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True}}
SOCIALACCOUNT_EMAIL_VERIFICATION = "none"
SOCIALACCOUNT_STORE_TOKENS = False
USERSESSIONS_ADAPTER = "console.sign_in.sessions.SessionsAdapter"

# A query at import of every command would need a database even for `--help`.
PROMETHEUS_EXPORT_MIGRATIONS = False

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.rest.parsing.Json"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["integrations.access.GatewayKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_PAGINATION_CLASS": "config.rest.paging.Paging",
    "EXCEPTION_HANDLER": "config.rest.errors.told",
    "DEFAULT_SCHEMA_CLASS": "config.rest.openapi.schema.Schema",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Customhouse",
    "VERSION": "1",
    "DESCRIPTION": (
        "What programs manage and read of a Customhouse. Amounts of money are in nano-USD (a billionth of a dollar), "
        "times in UTC unless an offset says otherwise. Unknown is null. New fields and new words may come at any time."
    ),
    "SERVERS": [{"url": "/"}],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["out"], "level": ENVIRONMENT.log_level},
    # Django mails server errors to administrators by default; here everything goes to the one stream.
    "filters": {"wrong_host": {"()": "config.logs.WrongHost"}},
    "loggers": {
        "django": {"handlers": [], "level": ENVIRONMENT.log_level, "propagate": True},
        "django.security.DisallowedHost": {"filters": ["wrong_host"], "propagate": True},
    },
}

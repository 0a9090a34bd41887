"""The project's settings with secrets of the tests' own."""

import base64
import os

os.environ.setdefault("CUSTOMHOUSE_SECRET_KEY", "only-for-tests-" + "0123456789abcdef" * 3)
# Operators of tests sign in without a telephone.
os.environ.setdefault("CUSTOMHOUSE_OPERATOR_MFA", "false")
os.environ.setdefault("CUSTOMHOUSE_MASTER_KEY", base64.b64encode(b"only for tests, 32 bytes in all.").decode())

from config import postgres
from config.settings import *  # noqa: F403
from config.settings import BASE_DIR, DATABASES, EMBEDDED_POSTGRES, database

# The embedded server of tests is not the one that holds somebody's data: it waits for no disk. After a power cut this
# folder (as root: the one in /var/lib/customhouse whose `project` names it) is to be deleted.
TESTS_PROJECT = BASE_DIR / "var" / "tests"
if EMBEDDED_POSTGRES:
    DATABASES["default"] |= database(postgres.dsn(TESTS_PROJECT))

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Nothing is collected before tests, and a folder that is not there is worth a warning, hence an error.
# Each test client loads the middleware anew: listing every static file each time would take half of the time.
WHITENOISE_AUTOREFRESH = True

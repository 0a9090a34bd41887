"""The project's settings with secrets of the tests' own."""

import base64
import os

os.environ.setdefault("CUSTOMHOUSE_SECRET_KEY", "only-for-tests-" + "0123456789abcdef" * 3)
# Operators of tests sign in without a telephone.
os.environ.setdefault("CUSTOMHOUSE_OPERATOR_MFA", "false")
os.environ.setdefault("CUSTOMHOUSE_MASTER_KEY", base64.b64encode(b"only for tests, 32 bytes in all.").decode())

from config.settings import *  # noqa: F403

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Nothing is collected before tests, and a folder that is not there is worth a warning, hence an error.
# Each test client loads the middleware anew: listing every static file each time would take half of the time.
WHITENOISE_AUTOREFRESH = True

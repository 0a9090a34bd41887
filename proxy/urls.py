"""REST routes that reach providers, under `/api/v1/`. The data plane has none here: see `proxy.door`."""

from django.urls import path

from integrations.urls import INTEGRATION
from proxy.health.api import TestView

urlpatterns = [path(f"{INTEGRATION}/test", TestView.as_view(), name="integration-test")]

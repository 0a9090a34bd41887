"""Web routes: console, accounts, admin, REST, metrics. The data plane is dispatched before Django, in `config.asgi`."""

from django.contrib import admin
from django.urls import include, path

from config.rest import docs
from integrations.audit_api import AuditEventsView

handler400 = "config.rest.errors.bad_request"
handler404 = "config.rest.errors.not_found"
handler500 = "config.rest.errors.server_error"

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/openapi.json", docs.openapi, name="openapi"),
    path("api/v1/docs", docs.pages, name="rest-docs"),
    path("accounts/", include("console.account_urls")),
    path("api/v1/", include("integrations.urls")),
    path("api/v1/", include("enforcement.urls")),
    path("api/v1/audit-events", AuditEventsView.as_view(), name="audit-events"),
    path("api/v1/", include("proxy.urls")),
    path("", include("monitoring.urls")),
    path("", include("console.urls")),
]

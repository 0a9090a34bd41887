"""Routes of the console. `/cus/…` are stable: alerts, dashboards and receipts link to them."""

from django.contrib.auth.views import LogoutView
from django.urls import path

from console.views import activity, calls, incidents, overview, people, tenants

app_name = "console"

urlpatterns = [
    path("", overview.show, name="overview"),
    path("login", people.Login.as_view(), name="login"),
    path("logout", LogoutView.as_view(), name="logout"),
    path("tenant", tenants.choose, name="tenant"),
    path("cus/activity", activity.show, name="activity"),
    path("cus/incidents", incidents.show, name="incidents"),
    path("cus/calls/<uuid:call_id>", calls.show, name="call"),
]

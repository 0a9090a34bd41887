"""Routes of the console. `/cus/…` are stable: alerts, dashboards and receipts link to them."""

from django.urls import path

from console.views import activity, calls, incidents, members, overview, sign_on, tenants

app_name = "console"

urlpatterns = [
    path("", overview.show, name="overview"),
    path("tenant", tenants.choose, name="tenant"),
    path("members", members.show, name="members"),
    path("members/invite", members.invite_somebody, name="invite"),
    path("members/<int:user_id>/role", members.set_role, name="member_role"),
    path("members/<int:user_id>/remove", members.remove, name="member_remove"),
    path("members/invitations/<uuid:invitation_id>/revoke", members.revoke, name="invitation_revoke"),
    path("sign-on", sign_on.show, name="sign_on"),
    path("sign-on/second-factor", sign_on.set_second_factor, name="second_factor"),
    path("sign-on/provider", sign_on.set_provider, name="identity_provider"),
    path("sign-on/provider/remove", sign_on.remove_provider, name="identity_provider_remove"),
    path("cus/activity", activity.show, name="activity"),
    path("cus/incidents", incidents.show, name="incidents"),
    path("cus/calls/<uuid:call_id>", calls.show, name="call"),
]

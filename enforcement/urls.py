"""REST routes of enforcement, under `/api/v1/`."""

from django.urls import path

from enforcement.api import DecisionView

urlpatterns = [path("decisions/<uuid:call_id>", DecisionView.as_view(), name="decision")]

"""Signing in."""

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView


class EmailForm(AuthenticationForm):
    """Asks for an e-mail address and a password."""

    username = forms.EmailField(
        label="E-mail", widget=forms.EmailInput(attrs={"autofocus": True, "autocomplete": "username"})
    )


class Login(LoginView):
    """The door of the console."""

    template_name = "console/login.html"
    authentication_form = EmailForm
    redirect_authenticated_user = True

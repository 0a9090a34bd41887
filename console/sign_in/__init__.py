"""How people sign in: what django-allauth asks of this installation, and the bounds of each way in."""

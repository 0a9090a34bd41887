"""The OpenAPI document of REST: what each operation takes and answers, as programs rely on it."""

from django.db import migrations

# As Django's database cache expects it; `createcachetable` would make the same.
CREATE = """
CREATE TABLE cus_cache (cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires timestamptz NOT NULL);
CREATE INDEX cus_cache_expires ON cus_cache (expires);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_people_and_invitations"),
    ]

    operations = [
        migrations.RunSQL(CREATE, "DROP TABLE cus_cache"),
    ]

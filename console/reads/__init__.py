"""What a page shows, put together from several kinds of evidence; every read starts at the tenant."""

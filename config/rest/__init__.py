"""What all of REST has in common: errors, request ids, pages, and POSTs that can be repeated."""

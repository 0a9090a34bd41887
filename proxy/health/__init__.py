"""Whether the providers are well: what live traffic shows, and what an unbilled question shows where there is none."""

"""How each kind of term becomes disjoint parts. A file a kind; `core.attention.plan` calls them."""

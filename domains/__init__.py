"""One folder a domain; each exposes `domain`, an implementation of `core.contract.Domain`."""

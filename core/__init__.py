"""The sparse-transformer core. Knows no domain and no Hydra."""

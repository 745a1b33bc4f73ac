"""How traces cross."""

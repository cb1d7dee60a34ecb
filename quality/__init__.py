"""What data must be: contracts (data), and the asset checks that hold windows to them."""

"""What digitq is measured against: each a tiny application as its tutorial would write it, the model loaded once."""

"""Model endpoints behind one seam: everything that knows a vendor or an HTTP client lives here."""

"""Take the hosts of a run forward or back; nothing is drawn here."""

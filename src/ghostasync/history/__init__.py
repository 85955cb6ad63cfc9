"""What earlier runs did, as their journals and reports say."""

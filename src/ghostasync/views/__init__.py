"""What people are shown, without a screen: folds, folding and sentences."""

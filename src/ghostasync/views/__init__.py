"""Views of a run for people, without a screen: the board, folded hosts, sentences."""

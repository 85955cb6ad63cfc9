"""From a plan and a goal to the one value that describes a run."""

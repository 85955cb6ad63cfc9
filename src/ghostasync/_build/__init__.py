"""Turn sources into packages on this machine, and say what scripts see."""

"""The vocabulary that the rooms share: frozen values, no logic, no I/O."""

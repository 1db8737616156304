"""YAML to Policy: reading, names, structure, sense. Nothing here knows the machine that the policy will run on."""

"""Where packets come from and verdicts go to: the kernel's queues, and captures."""

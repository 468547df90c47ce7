"""The front desk: what the tasks of tasks.py call, and how their results and errors are shown."""

"""What loss and ratio cannot show: copying and forgetting.

README.md says what every number means; ../baseline.py puts all of them together.
"""

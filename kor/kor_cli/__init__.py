"""The command ``kor``."""

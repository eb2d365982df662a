"""The wiring: declarative containers over ``kor_core``."""

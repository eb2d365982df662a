"""KOR SDK: what applications and plugins import. The wiring is in ``kor_containers``."""
